//! Inspection 2: how much of a processor's time do this connection's payloads take to look into? Its own count, no lock.
//!
//! Size and number of messages are bounded elsewhere; this bounds what their content costs, whatever an attacker finds. The
//! message that goes beyond is still looked into: what a text costs is known only afterwards. The next ones wait.

use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use std::time::Duration;

use crate::refusal::Denial;

/// smaller messages are not timed: the rates bound them, and asking for the time would cost more than they do
pub const TIMED_BYTES_MIN: usize = 4096;

/// what a connection's payloads have taken, paid back with time
#[derive(Debug, Default)]
pub struct InspectionTime {
    taken: Duration,
    at: Timestamp,
}

/// whether there is time for one more; `per_second` is the processor time in a second of wall time
pub fn check(time: &mut InspectionTime, per_second: Duration, now: Timestamp) -> Result<(), Denial> {
    time.pay_back(per_second, now);
    match time.taken.checked_sub(per_second) {
        None => Ok(()),
        Some(beyond) => {
            let wait = beyond.as_secs_f64() / per_second.as_secs_f64().max(f64::EPSILON);
            let wait = Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX).max(Duration::from_millis(1));
            Err(Denial::from(Reason::InspectionTime).because("node.limits.inspectionMsPerSecond").retry_after(wait))
        }
    }
}

impl InspectionTime {
    pub fn took(&mut self, time: Duration) {
        self.taken = self.taken.saturating_add(time);
    }

    fn pay_back(&mut self, per_second: Duration, now: Timestamp) {
        let earned = now.since(self.at).as_secs_f64() * per_second.as_secs_f64();
        self.taken = self.taken.saturating_sub(Duration::try_from_secs_f64(earned).unwrap_or(Duration::MAX));
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_millis(200);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    #[test]
    fn p15_a_connection_gets_no_more_than_its_share_of_a_processor() {
        let mut time = InspectionTime::default();
        let (mut inspected, mut refused) = (Duration::ZERO, 0);
        for millis in (0..10_000).step_by(10) {
            match check(&mut time, BUDGET, at(millis)) {
                Ok(()) => {
                    time.took(Duration::from_millis(20));
                    inspected += Duration::from_millis(20);
                }
                Err(denial) => {
                    assert_eq!(denial.reason, Reason::InspectionTime);
                    refused += 1;
                }
            }
        }
        println!("p15: of 1,000 messages of 20 ms in 10 s {refused} were refused, {inspected:?} was spent");
        // Ten seconds of 200 ms, what may be saved up, and the message that went beyond.
        assert!(inspected <= Duration::from_millis(2220), "{inspected:?}");
        assert!(refused > 800);
    }

    #[test]
    fn p15_who_waits_as_told_is_heard_again() {
        let mut time = InspectionTime::default();
        check(&mut time, BUDGET, at(0)).unwrap();
        time.took(Duration::from_millis(300));
        let wait = check(&mut time, BUDGET, at(0)).unwrap_err().retry_after_ms().unwrap();
        assert_eq!(wait, 500);
        assert!(check(&mut time, BUDGET, at(499)).is_err());
        assert!(check(&mut time, BUDGET, at(501)).is_ok());
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_and_takes_nothing() {
        let mut time = InspectionTime::default();
        check(&mut time, BUDGET, at(1000)).unwrap();
        time.took(Duration::from_millis(100));
        assert!(check(&mut time, BUDGET, at(0)).is_ok());
        assert_eq!(time.taken, Duration::from_millis(100));
    }
}
