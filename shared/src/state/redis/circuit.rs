//! The circuit: when Redis does not answer, nobody waits for it. Pure; times are arguments.

use std::time::Duration;
use tokio::time::Instant;

/// consecutive failures that open it
const FAILURES_MAX: u32 = 5;
/// only failures for so long open it too
const FAILING_MAX: Duration = Duration::from_millis(250);
/// an answer that takes longer is slow
const SLOW: Duration = Duration::from_millis(25);
/// answers are judged over so long
const PERIOD: Duration = Duration::from_secs(1);
/// fewer answers than this in a period say nothing
const ANSWERS_MIN: u32 = 20;

#[derive(Debug)]
pub(super) struct Circuit {
    is_open: bool,
    failures: u32,
    failing_since: Option<Instant>,
    period: Instant,
    answers: u32,
    slow_answers: u32,
}

impl Circuit {
    pub(super) fn closed(now: Instant) -> Self {
        Circuit { is_open: false, failures: 0, failing_since: None, period: now, answers: 0, slow_answers: 0 }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// opens it at once
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    /// Redis answered a call; more than half of them slow over a period opens the circuit
    pub(super) fn answered(&mut self, took: Duration, now: Instant) {
        (self.failures, self.failing_since) = (0, None);
        self.answers += 1;
        self.slow_answers += u32::from(took > SLOW);
        if now.duration_since(self.period) < PERIOD {
            return;
        }
        if self.answers >= ANSWERS_MIN && self.slow_answers * 2 > self.answers {
            self.is_open = true;
        }
        (self.period, self.answers, self.slow_answers) = (now, 0, 0);
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.failures += 1;
        let since = *self.failing_since.get_or_insert(now);
        if self.failures >= FAILURES_MAX || now.duration_since(since) >= FAILING_MAX {
            self.is_open = true;
        }
    }

    /// the answer to a probe closes it, if it is quick
    pub(super) fn probed(&mut self, took: Duration, now: Instant) {
        if took <= SLOW {
            *self = Circuit::closed(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(millis: u64, start: Instant) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_an_answer_between_them_does_not() {
        let start = Instant::now();
        let mut circuit = Circuit::closed(start);
        for _ in 0..4 {
            circuit.failed(start);
        }
        circuit.answered(Duration::ZERO, start);
        circuit.failed(start);
        assert!(!circuit.is_open());
        for _ in 0..4 {
            circuit.failed(start);
        }
        assert!(circuit.is_open());
    }

    #[test]
    fn only_failures_for_a_while_open_it() {
        let start = Instant::now();
        let mut circuit = Circuit::closed(start);
        circuit.failed(start);
        circuit.failed(after(249, start));
        assert!(!circuit.is_open());
        circuit.failed(after(250, start));
        assert!(circuit.is_open());
    }

    #[test]
    fn x04_slow_answers_open_it_and_a_quick_probe_closes_it() {
        let start = Instant::now();
        let (slow, quick) = (Duration::from_millis(30), Duration::from_millis(1));
        let mut circuit = Circuit::closed(start);
        for n in 0..50 {
            circuit.answered(slow, after(n * 25, start));
        }
        assert!(circuit.is_open());
        circuit.probed(slow, after(1500, start));
        assert!(circuit.is_open());
        circuit.probed(quick, after(1750, start));
        assert!(!circuit.is_open());
    }
}
