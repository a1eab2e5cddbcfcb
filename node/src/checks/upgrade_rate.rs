//! Before admission: how many upgrades does this node take up in a second, from all addresses together? Local memory only.
//!
//! After an outage everybody comes back at once. Who is beyond the rate is told when to come back: each is given a moment of
//! its own, so many a second as half of the rate, and some chance, so that the herd comes back as a queue. Stands behind the
//! limit of each address, so that one cannot use up what is for all.

use parking_lot::Mutex;
use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use picket_shared::window::{Quota, Verdict, Window};
use std::time::Duration;

use crate::refusal::Denial;

/// the longest queue; whoever comes later is spread over the second half of it
const QUEUE_MAX: Duration = Duration::from_secs(30);
/// what chance adds: clients round `Retry-After` to seconds
const JITTER: Duration = Duration::from_secs(1);

/// the upgrades of the last second, and the queue of those who were sent away
pub struct Upgrades {
    quota: Quota,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken_up: Window,
    /// when the next to be sent away should come back, in microseconds
    queue_end_us: u64,
}

impl Upgrades {
    pub fn new(per_second_max: u32) -> Self {
        Upgrades { quota: Quota::new(per_second_max, 1000), state: Mutex::default() }
    }
}

/// `chance` is drawn anew for each
pub fn check(upgrades: &Upgrades, now: Timestamp, chance: u16) -> Result<(), Denial> {
    let mut state = upgrades.state.lock();
    match state.taken_up.admit(upgrades.quota, now) {
        Verdict::Admitted => Ok(()),
        Verdict::Refused { .. } => {
            let wait = state.queue_up(upgrades.quota, now, chance);
            Err(Denial::from(Reason::Overload).because("node.limits.upgradesPerSecondMax").retry_after(wait))
        }
    }
}

impl State {
    /// half of the rate is left to whoever was not sent away
    fn queue_up(&mut self, quota: Quota, now: Timestamp, chance: u16) -> Duration {
        let now_us = now.as_millis().saturating_mul(1000);
        let step_us = 2_000_000 / u64::from(quota.limit.get());
        let place_us = self.queue_end_us.max(now_us) + step_us;
        let ahead = Duration::from_micros(place_us - now_us);
        if ahead <= QUEUE_MAX {
            self.queue_end_us = place_us;
            return ahead + part(JITTER, chance);
        }
        QUEUE_MAX / 2 + part(QUEUE_MAX / 2, chance)
    }
}

fn part(of: Duration, chance: u16) -> Duration {
    of * u32::from(chance) / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    #[test]
    fn x39_no_second_takes_up_more_than_the_rate() {
        let upgrades = Upgrades::new(100);
        let admitted = |from: u64| (from..from + 1000).filter(|ms| check(&upgrades, at(*ms), 0).is_ok()).count();
        assert_eq!(admitted(0), 100);
        assert!(admitted(1000) <= 100);
    }

    #[test]
    fn x39_a_herd_is_sent_back_as_a_queue_of_half_the_rate() {
        let upgrades = Upgrades::new(100);
        let mut returns: Vec<u64> = Vec::new();
        for client in 0..600_u16 {
            if let Err(denial) = check(&upgrades, at(0), client.wrapping_mul(40_503)) {
                assert_eq!(denial.reason, Reason::Overload);
                returns.push(denial.retry_after_ms().unwrap());
            }
        }
        assert_eq!(returns.len(), 500, "the first hundred are in");
        returns.sort_unstable();
        let busiest = (0..*returns.last().unwrap())
            .map(|from| returns.iter().filter(|back| (from..from + 1000).contains(*back)).count())
            .max();
        println!("x39: 500 sent away come back within {:?} ms, at most {busiest:?} in a second", returns.last());
        assert!(busiest.unwrap() <= 100, "{busiest:?}");
        assert!((9_000..=11_000).contains(returns.last().unwrap()));
    }

    #[test]
    fn x39_nobody_waits_longer_than_the_longest_queue() {
        let upgrades = Upgrades::new(1);
        let waits: Vec<_> =
            (0..1000).filter_map(|chance| check(&upgrades, at(0), chance * 60).err()?.retry_after_ms()).collect();
        assert!(waits.iter().all(|wait| *wait <= 31_000), "{:?}", waits.iter().max());
    }
}
