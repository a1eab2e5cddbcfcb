//! The cluster's one clock, Redis's, as a process reads it without asking: its own clock, corrected by the measured offset.

use std::sync::Arc;

use super::Redis;
use crate::clock::{Clock, Timestamp};

pub(super) struct ClusterClock {
    pub(super) redis: Arc<Redis>,
}

impl Clock for ClusterClock {
    fn now(&self) -> Timestamp {
        self.redis.clock.now().shifted(self.offset_ms())
    }

    fn offset_ms(&self) -> i64 {
        self.redis.membership.clock_offset_ms()
    }
}

/// the offset after an answer of `there`, some time between `sent` and `received`. It stays as long as the answer does not
/// contradict it, so that a slow answer does not make the clock wander
pub(super) fn corrected(offset_ms: i64, there: i64, sent: Timestamp, received: Timestamp) -> i64 {
    // All three are cut to a whole ms.
    const ROUNDING_MS: i64 = 1;
    let local = |at: Timestamp| i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    let least = there.saturating_sub(local(received)).saturating_sub(ROUNDING_MS);
    let most = there.saturating_sub(local(sent)).saturating_add(ROUNDING_MS);
    offset_ms.max(least).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x16_an_offset_stays_until_an_answer_contradicts_it() {
        let at = Timestamp::from_millis;
        assert_eq!(corrected(0, 1_000_030, at(1_000_000), at(1_000_050)), 0, "a slow answer");
        assert_eq!(corrected(0, 1_300_000, at(1_000_000), at(1_000_001)), 299_998);
        assert_eq!(corrected(299_998, 1_300_900, at(1_000_900), at(1_000_950)), 299_998);
        assert_eq!(corrected(299_998, 701_000, at(1_001_000), at(1_001_000)), -299_999);
        assert_eq!(corrected(0, 1_000_000, at(1_000_100), at(990_000)), -99, "the local clock jumped meanwhile");
    }
}
