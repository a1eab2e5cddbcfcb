//! How many counters of identities this node keeps in the state at once: a bounded number. Beyond it newcomers are counted
//! together, so that whoever comes as a million identities fills neither the state nor this memory.
//!
//! An identity keeps the counter that it has as long as that one lives. A newcomer beyond the bound is counted with its
//! neighbours: an address by its /16, or /32 of IPv6, a user with those of the same crowd; together they have
//! [`CROWD_FACTOR`] times the limit of one. While nodes differ on who came first, an identity may use both counters.

use parking_lot::Mutex;
use siphasher::sip::SipHasher24;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{CounterKey, Subject};
use crate::clock::Timestamp;
use crate::window::Quota;

/// how many times the limit of one the newcomers of one prefix or crowd have together
pub const CROWD_FACTOR: u32 = 16;
/// users beyond the bound are counted in so many crowds
const CROWDS: u64 = 1024;
/// a full table is searched for what has ended no more often than this
const SWEEP_PERIOD: Duration = Duration::from_secs(1);

/// where a use is counted
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// under this key, by this quota
    Counter(CounterKey, Quota),
    /// nowhere: a prefix wider than one client's, whose clients are counted by a still wider one
    Nowhere(CounterKey),
}

/// the counters that this node keeps in the state
pub struct Identities {
    max: usize,
    hasher: RandomState,
    known: Mutex<Known>,
    crowded: AtomicU64,
}

#[derive(Default)]
struct Known {
    /// when the counter ends in the state, by the hash of its key
    ends: HashMap<u64, Timestamp>,
    sweep_after: Timestamp,
}

impl Identities {
    pub fn new(max: usize) -> Self {
        Identities { max, hasher: RandomState::new(), known: Mutex::default(), crowded: AtomicU64::new(0) }
    }

    /// counters that this node has in the state, those included that have ended and were not missed yet
    pub fn number(&self) -> usize {
        self.known.lock().ends.len()
    }

    /// uses that were counted together with those of others
    pub fn crowded_total(&self) -> u64 {
        self.crowded.load(Ordering::Relaxed)
    }

    pub(super) fn place(&self, key: CounterKey, quota: Quota, now: Timestamp) -> Place {
        let ends = now.plus(quota.window.saturating_mul(2));
        if self.known.lock().admit(self.hasher.hash_one(&key), ends, self.max, now) {
            return Place::Counter(key, quota);
        }
        self.crowded.fetch_add(1, Ordering::Relaxed);
        let subject = match &key.subject {
            Subject::Address(address) if address.is_wider_than_one_client() => return Place::Nowhere(key),
            Subject::Address(address) => Subject::Address(address.neighbourhood()),
            Subject::User(user) => Subject::Crowd(crowd(user)),
            Subject::Crowd(crowd) => Subject::Crowd(*crowd),
        };
        Place::Counter(CounterKey { subject, limit: key.limit }, quota.times(CROWD_FACTOR))
    }
}

impl Known {
    /// whether there is room for a counter, or it has its place already
    fn admit(&mut self, key: u64, ends: Timestamp, max: usize, now: Timestamp) -> bool {
        if let Some(known) = self.ends.get_mut(&key) {
            *known = ends.max(*known);
            return true;
        }
        if self.ends.len() >= max && now >= self.sweep_after {
            self.ends.retain(|_, ends| *ends > now);
            self.sweep_after = now.plus(SWEEP_PERIOD);
        }
        let has_room = self.ends.len() < max;
        if has_room {
            self.ends.insert(key, ends);
        }
        has_room
    }
}

/// the same on every node; an application signs the names of its users, so nobody chooses a crowd
fn crowd(user: &str) -> u16 {
    let mut hasher = SipHasher24::new();
    hasher.write(user.as_bytes());
    u16::try_from(hasher.finish() % CROWDS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::AddressKey;
    use crate::state::LimitName;
    use std::collections::HashSet;
    use std::net::IpAddr;

    const QUOTA_MS: u64 = 60_000;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + seconds * 1000)
    }

    fn user(number: u32) -> CounterKey {
        CounterKey { subject: Subject::User(format!("user-{number}").into()), limit: LimitName::Messages }
    }

    fn placed(identities: &Identities, key: CounterKey, now: Timestamp) -> (Subject, u32) {
        match identities.place(key, Quota::new(10, QUOTA_MS), now) {
            Place::Counter(key, quota) => (key.subject, quota.limit.get()),
            Place::Nowhere(key) => (key.subject, 0),
        }
    }

    #[test]
    fn r03_who_came_first_keeps_its_counter_and_newcomers_share_a_few() {
        let identities = Identities::new(1000);
        for number in 0..1000 {
            assert_eq!(placed(&identities, user(number), at(0)), (user(number).subject, 10));
        }
        let crowds: HashSet<_> = (1000..101_000).map(|number| placed(&identities, user(number), at(1))).collect();
        assert_eq!(crowds.len() as u64, CROWDS);
        assert!(crowds.iter().all(|(subject, limit)| matches!(subject, Subject::Crowd(_)) && *limit == 160));
        assert_eq!(placed(&identities, user(7), at(2)), (user(7).subject, 10), "known before");
        assert_eq!((identities.number(), identities.crowded_total()), (1000, 100_000));
    }

    #[test]
    fn r03_places_are_free_again_after_two_windows() {
        let identities = Identities::new(1);
        placed(&identities, user(1), at(0));
        assert!(matches!(placed(&identities, user(2), at(119)).0, Subject::Crowd(_)));
        assert_eq!(placed(&identities, user(2), at(121)).0, user(2).subject);
    }

    #[test]
    fn r03_addresses_beyond_the_bound_are_counted_by_wider_prefixes_once() {
        let identities = Identities::new(0);
        let of = |text: &str| -> Vec<String> {
            AddressKey::tiers(text.parse::<IpAddr>().unwrap())
                .map(|(prefix, factor)| {
                    let key = CounterKey { subject: Subject::Address(prefix), limit: LimitName::Connections };
                    match identities.place(key, Quota::new(10, QUOTA_MS).times(factor), at(0)) {
                        Place::Counter(CounterKey { subject: Subject::Address(prefix), .. }, quota) => {
                            format!("{prefix} x{}", quota.limit.get() / 10)
                        }
                        _ => "-".to_owned(),
                    }
                })
                .collect()
        };
        assert_eq!(of("198.51.100.7"), ["198.51.0.0/16 x16"]);
        assert_eq!(of("2001:db8:1:2::1"), ["2001:db8::/32 x16", "-", "-"]);
    }
}
