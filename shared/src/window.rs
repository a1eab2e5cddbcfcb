//! The strict sliding window: no trailing window ever holds more than the limit.
//!
//! Time is cut into slots of a sixtieth of the window, and the oldest slot that the window touches counts whole. So a window
//! may refuse a little early (by at most one slot of quota), and never late. A running total makes a check amortised O(1).
//! The usual two-window estimate is not used: an aligned attacker gets 1.99 times the limit through it.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::clock::Timestamp;

/// slots per window; the share of quota that strictness costs is one slot, 1/60
pub const SLOTS: u64 = 60;

/// at most `limit` admissions in any trailing `window`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub limit: NonZeroU32,
    pub window: Duration,
    /// every use is counted in the shared state by itself, not from a share that a node holds
    pub exact: bool,
}

impl Quota {
    /// a quota of at least one per window of at least one millisecond
    pub fn new(limit: u32, window_ms: u64) -> Self {
        Quota {
            limit: NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN),
            window: Duration::from_millis(window_ms.max(1)),
            exact: false,
        }
    }

    pub fn exactly(self, exact: bool) -> Self {
        Quota { exact, ..self }
    }

    /// the quota of a role: multiplied, rounded down, at least 1
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float cast saturates, and factors are validated as positive"
    )]
    pub fn scaled(self, factor: f64) -> Self {
        // A factor such as 1.15 is not exact in binary: 100 times it is meant to be 115.
        const ROUNDING: f64 = 1e-6;
        let limit = (f64::from(self.limit.get()) * factor + ROUNDING).floor() as u32;
        Quota { limit: NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN), ..self }
    }

    /// the quota of several clients together
    pub fn times(self, factor: u32) -> Self {
        let factor = NonZeroU32::new(factor).unwrap_or(NonZeroU32::MIN);
        Quota { limit: self.limit.saturating_mul(factor), ..self }
    }

    /// the time in which the oldest admissions leave together
    pub fn slot(self) -> Duration {
        Duration::from_millis(self.slot_ms())
    }

    pub(crate) fn window_ms(self) -> u64 {
        u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    pub(crate) fn slot_ms(self) -> u64 {
        self.window_ms().div_ceil(SLOTS)
    }
}

/// what a window says to one more
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Admitted,
    /// refused; one more will fit after this time if nothing else is admitted
    Refused {
        retry_after: Duration,
    },
}

/// the admissions of one subject against one limit
#[derive(Clone, Debug, Default)]
pub struct Window {
    slot_ms: u64,
    /// (slot, admissions), oldest first, no empty slots
    slots: VecDeque<(u64, u32)>,
    total: u32,
}

impl Window {
    /// admits one at `now` if every trailing window then still holds at most the limit
    pub fn admit(&mut self, quota: Quota, now: Timestamp) -> Verdict {
        self.fit(quota);
        let slot = self.slot_of(now);
        self.expire(quota, now);
        if self.total >= quota.limit.get() {
            return Verdict::Refused { retry_after: self.wait(quota, now) };
        }
        match self.slots.back_mut() {
            // A clock that steps back charges the newest slot: late dating only under-admits.
            Some((newest, count)) if *newest >= slot => *count += 1,
            _ => self.slots.push_back((slot, 1)),
        }
        self.total += 1;
        Verdict::Admitted
    }

    /// takes back one admission made at `then`, if it still counts
    pub fn refund(&mut self, then: Timestamp) {
        let slot = self.slot_of(then);
        if let Some(position) = self.slots.iter().rposition(|&(s, _)| s <= slot) {
            let (_, count) = &mut self.slots[position];
            *count -= 1;
            self.total -= 1;
            if *count == 0 {
                self.slots.remove(position);
            }
        }
    }

    /// how many admissions count at `now`
    pub fn used(&mut self, quota: Quota, now: Timestamp) -> u32 {
        self.fit(quota);
        self.expire(quota, now);
        self.total
    }

    /// whether nothing counts any more, so that the window may be forgotten
    pub fn is_idle(&self, quota: Quota, now: Timestamp) -> bool {
        self.slots.back().is_none_or(|&(newest, _)| newest < self.first_counted(quota, now))
    }

    /// a changed window length keeps what was counted, dated late: each old slot becomes the new slot that holds its end
    fn fit(&mut self, quota: Quota) {
        let slot_ms = quota.slot_ms();
        if self.slot_ms == slot_ms {
            return;
        }
        let old_ms = std::mem::replace(&mut self.slot_ms, slot_ms);
        let old = std::mem::take(&mut self.slots);
        for (slot, count) in old {
            let slot = ((slot + 1) * old_ms - 1) / slot_ms;
            match self.slots.back_mut() {
                Some((newest, sum)) if *newest == slot => *sum += count,
                _ => self.slots.push_back((slot, count)),
            }
        }
    }

    fn slot_of(&self, moment: Timestamp) -> u64 {
        moment.as_millis() / self.slot_ms.max(1)
    }

    /// the oldest slot that the trailing window touches
    fn first_counted(&self, quota: Quota, now: Timestamp) -> u64 {
        self.slot_of(now.minus(quota.window))
    }

    fn expire(&mut self, quota: Quota, now: Timestamp) {
        let first = self.first_counted(quota, now);
        while let Some(&(slot, count)) = self.slots.front()
            && slot < first
        {
            self.slots.pop_front();
            self.total -= count;
        }
    }

    /// until so many of the oldest slots have left that one more fits
    fn wait(&self, quota: Quota, now: Timestamp) -> Duration {
        let mut left = self.total;
        for &(slot, count) in &self.slots {
            left -= count;
            if left < quota.limit.get() {
                let leaves = Timestamp::from_millis((slot + 1) * self.slot_ms).plus(quota.window);
                return leaves.since(now);
            }
        }
        quota.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000_000 + millis)
    }

    fn most_in_any_trailing_window(admitted: &[u64], window_ms: u64) -> usize {
        admitted
            .iter()
            .enumerate()
            .map(|(last, &end)| admitted[..=last].iter().filter(|&&t| t + window_ms > end).count())
            .max()
            .unwrap_or(0)
    }

    proptest! {
        #[test]
        fn x01_no_arrival_pattern_puts_more_than_the_limit_into_a_trailing_window(
            limit in 1u32..40,
            window_ms in prop::sample::select(vec![1000u64, 1013, 10_000, 60_000]),
            gaps in prop::collection::vec(prop_oneof![Just(0u64), 0u64..50, 0u64..2_000, 900u64..61_000], 1..400),
        ) {
            let quota = Quota::new(limit, window_ms);
            let mut window = Window::default();
            let mut now = 0;
            let mut admitted = Vec::new();
            for gap in gaps {
                now += gap;
                if window.admit(quota, at(now)) == Verdict::Admitted {
                    admitted.push(now);
                }
            }
            prop_assert!(most_in_any_trailing_window(&admitted, window_ms) <= limit as usize);
        }

        #[test]
        fn a_steady_client_at_95_percent_is_never_refused(
            limit in 1u32..500,
            window_ms in 1000u64..120_000,
            offset in 0u64..10_000,
        ) {
            let quota = Quota::new(limit, window_ms);
            let mut window = Window::default();
            let gap = window_ms as f64 / (0.95 * f64::from(limit));
            for n in 0..(3 * limit + 10) {
                let now = offset + (f64::from(n) * gap).ceil() as u64;
                prop_assert_eq!(window.admit(quota, at(now)), Verdict::Admitted, "message {}", n);
            }
        }

        #[test]
        fn the_retry_time_is_exact(limit in 1u32..20, window_ms in 1000u64..60_000, gaps in prop::collection::vec(0u64..500, 1..60)) {
            let quota = Quota::new(limit, window_ms);
            let mut window = Window::default();
            let mut now = 0;
            for gap in gaps {
                now += gap;
                if let Verdict::Refused { retry_after } = window.admit(quota, at(now)) {
                    let wait = u64::try_from(retry_after.as_millis()).unwrap();
                    prop_assert!(wait > 0 && wait <= window_ms + window_ms / SLOTS + 2);
                    prop_assert!(window.clone().admit(quota, at(now + wait)) == Verdict::Admitted);
                    prop_assert!(window.clone().admit(quota, at(now + wait - 1)) != Verdict::Admitted);
                }
            }
        }

        #[test]
        fn a_changed_window_length_never_forgets_what_still_counts(
            limit in 1u32..20,
            lengths in prop::collection::vec(1000u64..60_000, 2..6),
            gaps in prop::collection::vec(0u64..700, 1..200),
        ) {
            let mut window = Window::default();
            let (mut now, mut admitted) = (0, Vec::new());
            let shortest = *lengths.iter().min().unwrap();
            for (n, gap) in gaps.into_iter().enumerate() {
                now += gap;
                let quota = Quota::new(limit, lengths[(n / 7) % lengths.len()]);
                if window.admit(quota, at(now)) == Verdict::Admitted {
                    admitted.push(now);
                }
            }
            prop_assert!(most_in_any_trailing_window(&admitted, shortest) <= limit as usize);
        }
    }

    #[test]
    fn a_refund_makes_room_for_one() {
        let quota = Quota::new(1, 60_000);
        let mut window = Window::default();
        assert_eq!(window.admit(quota, at(0)), Verdict::Admitted);
        assert!(matches!(window.admit(quota, at(10)), Verdict::Refused { .. }));
        window.refund(at(0));
        assert!(window.is_idle(quota, at(10)));
        assert_eq!(window.admit(quota, at(10)), Verdict::Admitted);
    }

    #[test]
    fn an_attacker_aligned_to_the_window_gets_no_second_helping() {
        let quota = Quota::new(100, 60_000);
        let mut window = Window::default();
        let mut burst = |now| (0..1000).filter(|_| window.admit(quota, at(now)) == Verdict::Admitted).count();
        assert_eq!(burst(59_999), 100);
        assert_eq!(burst(60_001), 0);
        assert_eq!(burst(119_000), 0);
        assert_eq!(burst(121_001), 100);
    }
}
