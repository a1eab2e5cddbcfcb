//! What callers do so often that it is recorded once in a while: coming in with a credential, being turned away with one that was
//! good once, and reading the trail. Bounded; what is
//! forgotten for want of room is recorded once more.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use picket_shared::address::AddressKey;
use picket_shared::clock::Timestamp;

/// how long a visit stands for others like it
const SPAN: Duration = Duration::from_secs(3600);
/// visits that are remembered at once
const VISITS_MAX: usize = 10_000;

#[derive(Default)]
pub(crate) struct Visits(Mutex<HashMap<Visit, Timestamp>>);

/// who does what from where
#[derive(PartialEq, Eq, Hash)]
struct Visit {
    name: String,
    address: AddressKey,
    deed: &'static str,
}

/// whether a visit is to be recorded
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    /// one like it is on record
    Known,
}

impl Visits {
    /// the first of an hour is due
    pub(crate) fn come(&self, name: &str, address: IpAddr, deed: &'static str, now: Timestamp) -> Due {
        let visit = Visit { name: name.to_owned(), address: AddressKey::of(address), deed };
        let mut visits = self.0.lock();
        if visits.get(&visit).is_some_and(|at| now.since(*at) < SPAN) {
            return Due::Known;
        }
        if visits.len() >= VISITS_MAX {
            visits.retain(|_, at| now.since(*at) < SPAN);
        }
        if visits.len() >= VISITS_MAX {
            visits.clear();
        }
        visits.insert(visit, now);
        Due::Now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    fn come(visits: &Visits, name: &str, address: &str, deed: &'static str, now: Timestamp) -> Due {
        visits.come(name, address.parse().unwrap(), deed, now)
    }

    #[test]
    fn a_visit_is_due_once_an_hour_for_each_caller_place_and_deed() {
        let visits = Visits::default();
        let siem = |now| come(&visits, "api-key:siem", "2001:db8::1", "reads", now);
        assert_eq!(siem(START), Due::Now);
        for (name, address, deed, due) in [
            ("api-key:siem", "2001:db8::1", "reads", Due::Known),
            ("api-key:siem", "2001:db8::2", "reads", Due::Known),
            ("api-key:siem", "2001:db8:1::1", "reads", Due::Now),
            ("api-key:other", "2001:db8::1", "reads", Due::Now),
            ("api-key:siem", "2001:db8::1", "enters", Due::Now),
        ] {
            assert_eq!(come(&visits, name, address, deed, START), due, "{name} {address} {deed}");
        }
        let later = START.plus(SPAN);
        assert_eq!((siem(later.minus(Duration::from_millis(1))), siem(later)), (Due::Known, Due::Now));
    }

    #[test]
    fn the_map_is_bounded() {
        let visits = Visits::default();
        for n in 0..VISITS_MAX * 2 + 1 {
            assert_eq!(come(&visits, &n.to_string(), "192.0.2.1", "reads", START), Due::Now);
            assert!(visits.0.lock().len() <= VISITS_MAX);
        }
    }
}
