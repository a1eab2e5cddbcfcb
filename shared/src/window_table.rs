//! Sliding windows by subject, for a bounded number of subjects. Idle ones are forgotten in amortised constant time.

use std::collections::HashMap;
use std::hash::Hash;

use crate::clock::Timestamp;
use crate::window::{Quota, Verdict, Window};

/// the smallest size at which idle subjects are looked for
const SWEEP_MIN: usize = 1024;

/// windows of up to `capacity` subjects
#[derive(Debug)]
pub struct WindowTable<K> {
    windows: HashMap<K, (Quota, Window)>,
    capacity: usize,
    /// the size at which idle subjects are forgotten again
    sweep_at_size: usize,
    /// and, when that is the capacity, not before this moment: a full table must not be searched for each newcomer
    sweep_after: Timestamp,
}

/// all places are taken by subjects that are active
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<K: Eq + Hash + Clone> WindowTable<K> {
    pub fn with_capacity(capacity: usize) -> Self {
        WindowTable { windows: HashMap::new(), capacity, sweep_at_size: 0, sweep_after: Timestamp::default() }
    }

    /// admits one of the subject if every trailing window then still holds at most the limit
    pub fn admit(&mut self, subject: &K, quota: Quota, now: Timestamp) -> Result<Verdict, Full> {
        if let Some((known, window)) = self.windows.get_mut(subject) {
            *known = quota;
            return Ok(window.admit(quota, now));
        }
        self.make_room(quota, now)?;
        let (_, window) = self.windows.entry(subject.clone()).or_insert_with(|| (quota, Window::default()));
        Ok(window.admit(quota, now))
    }

    /// takes back one admission made at `then`, if it still counts
    pub fn refund(&mut self, subject: &K, then: Timestamp) {
        if let Some((_, window)) = self.windows.get_mut(subject) {
            window.refund(then);
        }
    }

    fn make_room(&mut self, quota: Quota, now: Timestamp) -> Result<(), Full> {
        let due_at = self.sweep_at_size.clamp(SWEEP_MIN.min(self.capacity), self.capacity);
        if self.windows.len() >= due_at && (due_at < self.capacity || now >= self.sweep_after) {
            self.windows.retain(|_, (quota, window)| !window.is_idle(*quota, now));
            self.sweep_at_size = self.windows.len() * 2;
            self.sweep_after = now.plus(quota.slot());
        }
        if self.windows.len() < self.capacity { Ok(()) } else { Err(Full) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + seconds * 1000)
    }

    #[test]
    fn a_full_table_refuses_newcomers_keeps_its_own_and_forgets_the_idle() {
        let mut table = WindowTable::with_capacity(2);
        let quota = Quota::new(2, 60_000);
        assert_eq!(table.admit(&1, quota, at(0)), Ok(Verdict::Admitted));
        assert_eq!(table.admit(&2, quota, at(0)), Ok(Verdict::Admitted));
        assert_eq!(table.admit(&3, quota, at(1)), Err(Full));
        assert_eq!(table.admit(&1, quota, at(1)), Ok(Verdict::Admitted));
        assert!(matches!(table.admit(&1, quota, at(2)), Ok(Verdict::Refused { .. })));
        assert_eq!(table.admit(&3, quota, at(90)), Ok(Verdict::Admitted));
    }

    #[test]
    fn a_full_table_is_searched_once_a_slot_at_most() {
        let mut table = WindowTable::with_capacity(10);
        let quota = Quota::new(1, 60_000);
        for subject in 0..10 {
            table.admit(&subject, quota, at(0)).unwrap();
        }
        assert_eq!(table.admit(&10, quota, at(1)), Err(Full));
        let next = table.sweep_after;
        assert_eq!(table.admit(&11, quota, at(1)), Err(Full));
        assert_eq!(table.sweep_after, next);
        assert!(next > at(1));
    }
}
