//! Who sits behind an address: the users that were seen there in the last hour, and how each of them stands.
//!
//! An address that several clean users share (NAT, campus, carrier) is not refused whole for what one of them does.

use ipnet::IpNet;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use picket_shared::address::AddressKey;
use picket_shared::clock::Timestamp;
use picket_shared::policy::Security;

use crate::reputation::{History, Offence, Seldom};

/// so many clean users make an address a shared one
pub(crate) const CLEAN_USERS_MIN: usize = 3;
/// how long a user counts as sitting there after the last sign; later only who is connected
const SEEN_FOR: Duration = Duration::from_secs(3600);
/// users that are remembered of one address; beyond it the clean ones go first
const USERS_PER_ADDRESS_MAX: usize = 256;
/// clean users of an address of whom it is asked whether they are connected, the last seen first
const ASKED_MAX: usize = 64;
/// users that are remembered in all; beyond it the longest unseen half goes
const USERS_MAX: usize = 200_000;

/// users by address
#[derive(Debug)]
pub(crate) struct Neighbours {
    addresses: HashMap<AddressKey, HashMap<String, Neighbour>>,
    total: usize,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Neighbour {
    seen: Timestamp,
    history: History,
}

/// users that nothing counts against
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Clean {
    pub(crate) seen_of_late: usize,
    /// not seen for longer, and perhaps still connected; the last seen first
    pub(crate) seen_before: Vec<String>,
}

impl Default for Neighbours {
    fn default() -> Self {
        Neighbours { addresses: HashMap::new(), total: 0, capacity: USERS_MAX }
    }
}

impl Neighbours {
    /// a sign of a user at an address, by every prefix that it is counted by, and what the user did there if it was an offence
    pub(crate) fn saw(
        &mut self,
        address: AddressKey,
        user: &str,
        at: Timestamp,
        offence: Option<Offence>,
        security: &Security,
        now: Timestamp,
    ) {
        for (prefix, _) in AddressKey::tiers(address.network().addr()) {
            let neighbour = self.neighbour(prefix, user, security, now);
            neighbour.seen = neighbour.seen.max(at.min(now));
            if let Some(offence) = offence {
                let offence = Offence { at: offence.at.min(now), ..offence };
                neighbour.history.offended(offence, Seldom::Counts, security, now);
            }
        }
    }

    /// the clean users behind the prefix
    pub(crate) fn clean(&self, prefix: AddressKey, security: &Security, now: Timestamp) -> Clean {
        let users = self.addresses.get(&prefix).into_iter().flatten();
        let clean = users.filter(|(_, user)| user.history.standing_now(security, now).rounded() == 0);
        let (of_late, mut before): (Vec<_>, Vec<_>) = clean.partition(|(_, user)| now.since(user.seen) < SEEN_FOR);
        before.sort_by_key(|(_, user)| std::cmp::Reverse(user.seen));
        let seen_before = before.into_iter().take(ASKED_MAX).map(|(name, _)| name.clone()).collect();
        Clean { seen_of_late: of_late.len(), seen_before }
    }

    /// the users behind the prefix whose own score calls for a block, in order
    pub(crate) fn offenders(&self, prefix: AddressKey, security: &Security, now: Timestamp) -> Vec<String> {
        let users = self.addresses.get(&prefix).into_iter().flatten();
        let mut offenders: Vec<_> = users
            .filter(|(_, user)| user.history.standing_now(security, now).calls_for_a_block(security))
            .map(|(name, _)| name.clone())
            .collect();
        offenders.sort();
        offenders
    }

    /// the users of a network whose score is not zero
    pub(crate) fn offenders_within(&self, network: IpNet, security: &Security, now: Timestamp) -> HashSet<String> {
        let client = AddressKey::of(network.addr());
        let is_meant = |address: &AddressKey| {
            network.contains(&address.network()) || (*address == client && client.network().contains(&network))
        };
        let users = self.addresses.iter().filter(|(address, _)| is_meant(address)).flat_map(|(_, users)| users);
        let offenders = users.filter(|(_, user)| user.history.standing_now(security, now).rounded() > 0);
        offenders.map(|(name, _)| name.clone()).collect()
    }

    /// everybody in the network starts anew; they still sit there
    pub(crate) fn reset(&mut self, network: IpNet) {
        let within = self.addresses.iter_mut().filter(|(address, _)| network.contains(&address.network()));
        let users = within.flat_map(|(_, users)| users.values_mut());
        users.for_each(|user| user.history = History::default());
    }

    fn neighbour(&mut self, prefix: AddressKey, user: &str, security: &Security, now: Timestamp) -> &mut Neighbour {
        let is_new = self.addresses.get(&prefix).is_none_or(|users| !users.contains_key(user));
        if is_new && self.total >= self.capacity {
            self.forget_the_unseen();
        }
        let users = self.addresses.entry(prefix).or_default();
        if is_new && users.len() >= USERS_PER_ADDRESS_MAX {
            let order =
                |neighbour: &Neighbour| (neighbour.history.standing_now(security, now).rounded(), neighbour.seen);
            let least = users.iter().min_by_key(|(_, neighbour)| order(neighbour)).map(|(name, _)| name.clone());
            self.total -= usize::from(least.is_some_and(|name| users.remove(&name).is_some()));
        }
        self.total += usize::from(is_new);
        users.entry(user.to_owned()).or_default()
    }

    fn forget_the_unseen(&mut self) {
        let mut times: Vec<_> = self.addresses.values().flat_map(HashMap::values).map(|user| user.seen).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        for users in self.addresses.values_mut() {
            users.retain(|_, user| user.seen > median);
        }
        self.addresses.retain(|_, users| !users.is_empty());
        self.total = self.addresses.values().map(HashMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::reason::Reason;

    const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    fn address(text: &str) -> AddressKey {
        AddressKey::of(text.parse().unwrap())
    }

    fn sees(neighbours: &mut Neighbours, from: &str, user: &str, at: Timestamp, offences: usize) {
        let security = Security::default();
        neighbours.saw(address(from), user, at, None, &security, at);
        let offence = Offence { address: address(from), reason: Reason::HostileContent, at, points: None };
        for _ in 0..offences {
            neighbours.saw(address(from), user, at, Some(offence), &security, at);
        }
    }

    #[test]
    fn h24_three_clean_users_of_the_last_hour_make_an_address_a_shared_one() {
        let mut neighbours = Neighbours::default();
        let security = Security::default();
        for user in ["alice", "bob"] {
            sees(&mut neighbours, "192.0.2.7", user, NOW, 0);
        }
        sees(&mut neighbours, "192.0.2.7", "mallory", NOW, 5);
        let subject = address("192.0.2.7");
        let clean = |neighbours: &Neighbours, now| neighbours.clean(subject, &security, now).seen_of_late;
        assert_eq!(clean(&neighbours, NOW), 2, "an offender is not clean");
        sees(&mut neighbours, "192.0.2.7", "carol", NOW.plus(Duration::from_secs(1)), 0);
        assert_eq!(clean(&neighbours, NOW), 3);
        assert_eq!(neighbours.offenders(subject, &security, NOW), ["mallory"]);
        let later = neighbours.clean(subject, &security, NOW.plus(SEEN_FOR));
        assert_eq!((later.seen_of_late, later.seen_before.len()), (1, 2), "two may have gone");
        let elsewhere = neighbours.clean(address("192.0.2.8"), &security, NOW);
        assert_eq!(elsewhere, Clean { seen_of_late: 0, seen_before: Vec::new() });

        neighbours.reset("192.0.2.0/24".parse().unwrap());
        assert_eq!(clean(&neighbours, NOW), 4, "who is forgiven still sits there");
    }

    #[test]
    fn the_maps_are_bounded_and_offenders_stay() {
        let security = Security::default();
        let mut neighbours = Neighbours { capacity: 1000, ..Neighbours::default() };
        sees(&mut neighbours, "192.0.2.7", "mallory", NOW, 5);
        for n in 0..300 {
            sees(&mut neighbours, "192.0.2.7", &format!("user-{n}"), NOW, 0);
        }
        assert_eq!(neighbours.total, USERS_PER_ADDRESS_MAX);
        assert_eq!(neighbours.offenders(address("192.0.2.7"), &security, NOW), ["mallory"]);
        for n in 0..5000u32 {
            let host = std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string();
            sees(&mut neighbours, &host, "alice", NOW.plus(Duration::from_secs(n.into())), 0);
            assert!(neighbours.total <= 1000);
        }
    }
}
