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
