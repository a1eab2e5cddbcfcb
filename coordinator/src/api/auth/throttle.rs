//! Failures in the last minute by subject, bounded; when it is full the longest-quiet subjects are forgotten.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use picket_shared::clock::Timestamp;

use super::FAILURES_MAX;

const SPAN: Duration = Duration::from_secs(60);
/// subjects that are counted at once
const SUBJECTS_MAX: usize = 10_000;

pub(crate) struct Failures<K> {
    subjects: Mutex<HashMap<K, VecDeque<Timestamp>>>,
}

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Failures { subjects: Mutex::default() }
    }
}

impl<K: Eq + Hash> Failures<K> {
    /// how long until the subject may fail again, if it failed too often
    pub(crate) fn full(&self, subject: &K, now: Timestamp) -> Option<Duration> {
        let subjects = self.subjects.lock();
        let mut recent = subjects.get(subject)?.iter().filter(|at| now.since(**at) < SPAN);
        let oldest = *recent.next()?;
        (recent.count() + 1 >= FAILURES_MAX).then(|| oldest.plus(SPAN).since(now))
    }

    pub(crate) fn charge(&self, subject: K, now: Timestamp) {
        let mut subjects = self.subjects.lock();
        if subjects.len() >= SUBJECTS_MAX && !subjects.contains_key(&subject) {
            make_room(&mut subjects, now);
        }
        let failures = subjects.entry(subject).or_default();
        failures.push_back(now);
        if failures.len() > FAILURES_MAX {
            failures.pop_front();
        }
    }

    /// takes back what turned out to be no failure
    pub(crate) fn refund(&self, subject: &K, at: Timestamp) {
        let mut subjects = self.subjects.lock();
        let Some(failures) = subjects.get_mut(subject) else {
            return;
        };
        if let Some(position) = failures.iter().position(|failure| *failure == at) {
            failures.remove(position);
        }
        if failures.is_empty() {
            subjects.remove(subject);
        }
    }
}

/// forgets what is over, else the longest-quiet half
fn make_room<K: Eq + Hash>(subjects: &mut HashMap<K, VecDeque<Timestamp>>, now: Timestamp) {
    let last = |failures: &VecDeque<Timestamp>| failures.back().copied().unwrap_or_default();
    subjects.retain(|_, failures| now.since(last(failures)) < SPAN);
    if subjects.len() < SUBJECTS_MAX {
        return;
    }
    let mut times: Vec<_> = subjects.values().map(last).collect();
    let (_, median, _) = times.select_nth_unstable(SUBJECTS_MAX / 2);
    let median = *median;
    let mut surplus = SUBJECTS_MAX / 2;
    subjects.retain(|_, failures| {
        let quiet = last(failures) <= median && surplus > 0;
        surplus -= usize::from(quiet);
        !quiet
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_764_000_000_000 + seconds * 1000)
    }

    #[test]
    fn r09_ten_failures_a_minute_and_then_a_wait_for_the_oldest_to_pass() {
        let failures = Failures::default();
        for second in 0..10 {
            assert_eq!(failures.full(&"a", at(second)), None);
            failures.charge("a", at(second));
        }
        assert_eq!(failures.full(&"a", at(20)), Some(Duration::from_secs(40)));
        assert_eq!(failures.full(&"b", at(20)), None, "another is not held up");
        assert_eq!(failures.full(&"a", at(60)), None);
        failures.charge("a", at(60));
        assert_eq!(failures.full(&"a", at(60)), Some(Duration::from_secs(1)));
        failures.refund(&"a", at(60));
        assert_eq!(failures.full(&"a", at(60)), None);
    }

    #[test]
    fn the_map_is_bounded() {
        let failures = Failures::default();
        for n in 0..SUBJECTS_MAX * 2 {
            failures.charge(n, at(0));
            assert!(failures.subjects.lock().len() <= SUBJECTS_MAX);
        }
    }
}
