//! What users saw of a rolling restart, and the judgement of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::upstream::{Reached, Said};

/// what was sent so shortly before the close came may have crossed it: the node had not read it
const CROSSES_WITHIN: Duration = Duration::from_millis(100);
/// of the reasons why handshakes failed
const REASONS_MAX: usize = 20;

#[derive(Default)]
pub struct Ledger(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    handshakes: u64,
    failed: u64,
    /// how often each, at most so many different ones
    reasons: BTreeMap<String, u64>,
    rate_limited: u64,
    sent: u64,
    echoed: u64,
    /// without an answer when the close came, and how long they had waited
    unanswered: Vec<(Said, Duration)>,
    /// sessions that ended in another way than by 1012
    broken: BTreeMap<String, u64>,
    closes: Vec<Instant>,
    returns: Vec<Instant>,
}

/// what all users together saw
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub handshakes: u64,
    pub failed: u64,
    pub reasons: Vec<String>,
    pub rate_limited: u64,
    pub sent: u64,
    pub echoed: u64,
    /// reached the application; the answer crossed the close
    pub delivered_unanswered: usize,
    /// sent as the close came
    pub crossed: usize,
    pub lost: usize,
    pub closes: usize,
    pub broken: Vec<String>,
}

impl Ledger {
    fn with<T>(&self, change: impl FnOnce(&mut Entries) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn opened(&self, returns: bool) {
        self.with(|entries| {
            entries.handshakes += 1;
            entries.returns.extend(returns.then(Instant::now));
        });
    }

    pub fn not_opened(&self, why: String, rate_limited: bool) {
        self.with(|entries| {
            entries.handshakes += 1;
            entries.failed += 1;
            entries.rate_limited += u64::from(rate_limited);
            count(&mut entries.reasons, why);
        });
    }

    pub fn sent(&self) {
        self.with(|entries| entries.sent += 1);
    }

    pub fn echoed(&self) {
        self.with(|entries| entries.echoed += 1);
    }

    pub fn closed(&self, unanswered: Option<(Said, Duration)>) {
        self.with(|entries| {
            entries.closes.push(Instant::now());
            entries.unanswered.extend(unanswered);
        });
    }

    pub fn broke(&self, how: String, unanswered: Option<(Said, Duration)>) {
        self.with(|entries| {
            count(&mut entries.broken, how);
            entries.unanswered.extend(unanswered);
        });
    }

    pub fn line(&self) -> String {
        self.with(|entries| {
            format!(
                "{} handshakes, {} failed, {} messages sent, {} echoed, {} sessions closed",
                entries.handshakes,
                entries.failed,
                entries.sent,
                entries.echoed,
                entries.closes.len()
            )
        })
    }

    pub fn seen(&self, reached: &Reached) -> Seen {
        self.with(|entries| {
            let (delivered, not): (Vec<_>, Vec<_>) =
                entries.unanswered.iter().partition(|(said, _)| reached.holds(*said));
            let crossed = not.iter().filter(|(_, waited)| *waited <= CROSSES_WITHIN).count();
            Seen {
                handshakes: entries.handshakes,
                failed: entries.failed,
                reasons: listed(&entries.reasons),
                rate_limited: entries.rate_limited,
                sent: entries.sent,
                echoed: entries.echoed,
                delivered_unanswered: delivered.len(),
                crossed,
                lost: not.len() - crossed,
                closes: entries.closes.len(),
                broken: listed(&entries.broken),
            }
        })
    }

    /// of the time from `start` to `end`: sessions closed, and the most users that came back in one second
    pub fn wave(&self, start: Instant, end: Instant) -> (usize, usize) {
        self.with(|entries| {
            let within = |moments: &[Instant]| -> Vec<Instant> {
                moments.iter().filter(|at| (start..end).contains(*at)).copied().collect()
            };
            let mut seconds = BTreeMap::<u64, usize>::new();
            for at in within(&entries.returns) {
                *seconds.entry(at.duration_since(start).as_secs()).or_default() += 1;
            }
            (within(&entries.closes).len(), seconds.into_values().max().unwrap_or_default())
        })
    }
}

fn count(of: &mut BTreeMap<String, u64>, what: String) {
    if of.len() < REASONS_MAX || of.contains_key(&what) {
        *of.entry(what).or_default() += 1;
    }
}

fn listed(of: &BTreeMap<String, u64>) -> Vec<String> {
    of.iter().map(|(what, times)| format!("{what} ({times})")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_time_to_be_read_and_did_not_arrive_is_lost() {
        let (ledger, reached) = (Ledger::default(), Reached::default());
        let says = |number, millis| Some((Said { user: 1, number }, Duration::from_millis(millis)));
        ledger.closed(says(1, 3));
        ledger.closed(says(2, 300));
        ledger.closed(None);
        let seen = ledger.seen(&reached);
        assert_eq!((seen.crossed, seen.lost, seen.closes), (1, 1, 3));
    }

    #[test]
    fn a_wave_is_its_busiest_second() {
        let (ledger, start) = (Ledger::default(), Instant::now());
        for _ in 0..3 {
            ledger.closed(None);
            ledger.opened(true);
        }
        ledger.opened(false);
        assert_eq!(ledger.wave(start, start + Duration::from_secs(5)), (3, 3));
        assert_eq!(ledger.wave(start + Duration::from_secs(5), start + Duration::from_secs(6)), (0, 0));
    }
}
