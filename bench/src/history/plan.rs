//! What a history is about: the limits, the policy that sets them, and who takes part.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::dice::Dice;

pub const NODES: usize = 3;
/// a phase lasts so many of the longest windows
pub const WINDOWS_PER_PHASE: u64 = 6;
pub const SAY: &str = "chat:say";
pub const TYPING: &str = "chat:typing";
pub const PING: &str = "geo:ping";
const MODERATOR_FACTOR: f64 = 1.5;

/// kept beside the records: what the checker has to know
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub seed: u64,
    pub people: u32,
    pub nodes: usize,
    /// milliseconds since 1970 at moment 0
    pub started_ms: u64,
    pub limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// `chat:*`, per user, else per address
    pub messages: Rate,
    /// `chat:typing`, per user, else per address
    pub typing: Rate,
    /// `geo:ping`, per address
    pub pings: Rate,
    /// per address
    pub connections: Rate,
    pub anonymous: u32,
    pub anonymous_per_address: u32,
    pub per_user: u32,
    /// on messages and events
    pub moderator_factor: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    pub limit: u32,
    pub window_ms: u64,
}

impl Rate {
    pub fn window(self) -> Duration {
        Duration::from_millis(self.window_ms)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// no fault
    Calm,
    /// Redis stands still, and goes on
    Paused,
    /// Redis is killed, and comes back empty
    Killed,
    /// a node is killed, and another one takes its place
    Node,
}

/// how somebody behaves
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// at random, below the limit
    Steady,
    /// nothing for a while, then more than fits
    Bursty,
    /// a full quota just before the end of a window of the clock, and another one just after it
    Aligned,
    /// as many sockets as there are, over all nodes, each at the whole limit's pace
    Spread,
    /// a message now and then
    Trickle,
    /// comes and goes more often than it may
    Churn,
    /// holds as many sockets as it gets
    Hoard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Member,
    Moderator,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Moderator => "moderator",
        }
    }
}

impl Limits {
    /// for windows of at most this length
    pub fn new(longest: Duration, people: u32) -> Self {
        let rate = |limit, part: f64| Rate {
            limit,
            window_ms: u64::try_from(longest.mul_f64(part).as_millis()).unwrap_or(u64::MAX),
        };
        Limits {
            messages: rate(20, 1.0),
            typing: rate(5, 0.5),
            pings: rate(8, 0.7),
            connections: rate(8, 0.8),
            anonymous: (people * 2 / 5).max(10),
            anonymous_per_address: 4,
            per_user: 5,
            moderator_factor: MODERATOR_FACTOR,
        }
    }

    pub fn longest(&self) -> Duration {
        [self.messages, self.typing, self.pings, self.connections]
            .map(Rate::window)
            .into_iter()
            .max()
            .unwrap_or_default()
    }

    /// as a merge patch for the policy; what else would be in the way is out of it
    pub fn policy(&self) -> Value {
        const NEVER: u32 = 1_000_000;
        let event = |rate: Rate, per: &str| json!({ "maxEvents": rate.limit, "windowMs": rate.window_ms, "per": per });
        json!({
            "rateLimiting": {
                "handshakeLimit": { "maxHandshakes": NEVER },
                "connectionLimit": { "maxConnections": self.connections.limit, "windowMs": self.connections.window_ms },
                "messageLimit": {
                    "maxMessages": self.messages.limit,
                    "windowMs": self.messages.window_ms,
                    "events": ["chat:*"],
                },
                "eventLimit": { "maxEvents": NEVER },
                "burstLimit": { "maxEvents": NEVER },
                "events": { TYPING: event(self.typing, "user"), PING: event(self.pings, "address") },
                "roles": { "moderator": self.moderator_factor },
                "concurrentConnections": { "perUser": self.per_user, "perAddress": NEVER },
            },
            "security": {
                "maxAnonymousConnections": self.anonymous,
                "maxAnonymousPerAddress": self.anonymous_per_address,
                "blockSuspiciousIps": false,
                "violationsBeforeClose": NEVER,
            },
        })
    }
}

/// one who takes part
#[derive(Clone, Debug)]
pub struct Person {
    pub number: u32,
    pub user: Option<String>,
    pub role: Role,
    pub load: Load,
    pub sockets: usize,
    /// what its addresses begin with; an IPv6 client takes another one of its /64 each time
    home: IpAddr,
}

impl Person {
    /// of ten, seven have a login, one of them behind an address that it shares; one of the others has a /64 in a shared /56
    pub fn new(number: u32, seed: u64) -> Self {
        let mut dice = Dice::new(seed, u64::from(number));
        let kind = number % 10;
        let user = (kind < 7).then(|| format!("user-{number}"));
        let load = match dice.below(20) {
            0..7 => Load::Steady,
            7..10 => Load::Bursty,
            10..12 => Load::Aligned,
            12..14 => Load::Spread,
            14..17 => Load::Trickle,
            17..19 => Load::Churn,
            _ => Load::Hoard,
        };
        let sockets = match load {
            Load::Spread | Load::Hoard => 2 * NODES,
            Load::Steady | Load::Bursty | Load::Aligned => 1 + usize::from(dice.below(2) == 0),
            Load::Trickle | Load::Churn => 1,
        };
        let role = if user.is_some() && dice.below(5) == 0 { Role::Moderator } else { Role::Member };
        Person { number, user, role, load, sockets, home: home(number, kind) }
    }

    pub fn address(&self, dice: &mut Dice) -> IpAddr {
        match self.home {
            IpAddr::V6(home) => {
                let mut segments = home.segments();
                segments[7] = u16::try_from(dice.between(1, 0xffff)).unwrap_or(1);
                IpAddr::V6(Ipv6Addr::from(segments))
            }
            v4 => v4,
        }
    }

    pub fn event(&self, dice: &mut Dice) -> &'static str {
        match dice.below(8) {
            0 => TYPING,
            1 => PING,
            _ => SAY,
        }
    }
}

fn home(number: u32, kind: u32) -> IpAddr {
    // three of a kind share an address
    const SHARED_BY: u32 = 30;
    let [_, _, high, low] = number.to_be_bytes();
    match kind {
        6 => {
            let [_, _, high, low] = (number / SHARED_BY).to_be_bytes();
            Ipv4Addr::new(198, 18, high, low).into()
        }
        9 => {
            let place = number / 10;
            let segment = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
            Ipv6Addr::from([0x2001, 0xdb8, segment(place / 8), segment(place % 8), 0, 0, 0, 0]).into()
        }
        _ => Ipv4Addr::new(100, 64, high, low).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn everybody_is_somebody_and_every_behaviour_occurs() {
        let people: Vec<_> = (0..2000).map(|number| Person::new(number, 1)).collect();
        let users: BTreeSet<_> = people.iter().filter_map(|person| person.user.as_ref()).collect();
        let homes: BTreeSet<_> = people.iter().map(|person| person.home).collect();
        let loads: BTreeSet<_> = people.iter().map(|person| person.load).collect();
        assert_eq!((users.len(), loads.len()), (1400, 7));
        assert!((1700..2000).contains(&homes.len()), "{}", homes.len());
    }
}
