//! How long decisions take. A clock is read for each admission, and for a sample of the inspections: the others cost a comparison.

use picket_shared::clock::Timestamp;
use tokio::time::Instant;

use crate::decide::Stage;
use crate::gate::Gate;

/// of so many milliseconds the inspections of one are timed: which, no client can know well enough to be quick or slow in it
const SAMPLE_MS: u64 = 64;

#[must_use = "it is stopped when the decision is there"]
pub struct Stopwatch {
    stage: Stage,
    begun: Option<Instant>,
}

impl Stopwatch {
    pub fn of_admission() -> Self {
        Stopwatch { stage: Stage::Admission, begun: Some(Instant::now()) }
    }

    /// for an event that is looked at `now`
    pub fn of_inspection(now: Timestamp) -> Self {
        let is_timed = now.as_millis().is_multiple_of(SAMPLE_MS);
        Stopwatch { stage: Stage::Inspection, begun: is_timed.then(Instant::now) }
    }

    pub fn stop(self, gate: &Gate) {
        if let Some(begun) = self.begun {
            gate.instruments.decided(self.stage, begun.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_admission_is_timed_and_of_the_inspections_those_of_one_millisecond_of_64() {
        let is_timed = |ms| Stopwatch::of_inspection(Timestamp::from_millis(ms)).begun.is_some();
        let start = 1_700_000_000_000;
        let timed: Vec<u64> = (start..start + 10 * SAMPLE_MS).filter(|ms| is_timed(*ms)).collect();
        assert_eq!(timed.len(), 10);
        assert!(timed.windows(2).all(|two| two[1] - two[0] == SAMPLE_MS), "{timed:?}");
        assert!((0..10).all(|_| Stopwatch::of_admission().begun.is_some()));
    }
}
