//! Offline: proves of each subject and limit that no trailing window ever surely held more than was promised for what happened in it.

mod bounds;
mod exact;
mod ledger;
mod report;
mod windows;

use anyhow::Result;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::history::plan::Load;
use crate::history::record::Moment;
use crate::stats::{ascending, percentile};
use bounds::{Outages, Regime};
use exact::Logs;
use ledger::{Ledger, Limit, Subject};
use windows::{Count, Interval, Stay};

/// the state counts in milliseconds, and a node dates by its own clock since it asked: windows shorter by this are looked at
const GRAIN: u64 = 5_000;
/// of a violation, so many messages are printed
const SHOWN_MAX: usize = 60;

/// the fullest window beside what was promised for it
#[derive(Clone, Debug)]
pub struct Worst {
    pub subject: String,
    pub start: Moment,
    pub count: usize,
    pub bound: u32,
}

impl Worst {
    fn ratio(&self) -> f64 {
        self.count as f64 / f64::from(self.bound.max(1))
    }
}

#[derive(Debug, Default)]
pub struct Row {
    pub subjects: usize,
    pub asked: u64,
    pub through: u64,
    pub refused: u64,
    /// subjects that filled a window in calm to the last use: the checker would see one more
    pub full: usize,
    pub worst: BTreeMap<Regime, Worst>,
    pub violations: Vec<Violation>,
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub limit: Limit,
    pub regime: Regime,
    pub worst: Worst,
    pub inside: Vec<Interval>,
}

/// let through, and what an exact log would have let through, of what was sent in calm and in all
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    pub sent: u64,
    pub through: u64,
    pub exact: u64,
}

pub struct Verdict {
    pub seed: u64,
    pub seconds: f64,
    pub rows: Vec<(Limit, Row)>,
    pub calm: BTreeMap<Load, Beside>,
    pub all: BTreeMap<Load, Beside>,
    /// of messages that were let through: how long the interval is in which that was decided, in ms
    pub width_p50_ms: f64,
    pub width_p99_ms: f64,
    pub outages: Outages,
    pub alone: u64,
    pub overshoot: u64,
}

impl Verdict {
    pub fn violations(&self) -> impl Iterator<Item = &Violation> {
        self.rows.iter().flat_map(|(_, row)| &row.violations)
    }

    pub fn report(&self) -> String {
        report::report(self)
    }
}

pub fn check(directory: &Path) -> Result<Verdict> {
    Ok(judge(&Ledger::read(directory)?))
}

fn judge(ledger: &Ledger) -> Verdict {
    let outages = Outages::of(&ledger.faults, &ledger.looks);
    let rows = Limit::ALL.into_iter().map(|limit| (limit, row(ledger, limit, &outages))).collect();
    let (calm, all) = beside_an_exact_log(ledger, &outages);
    let widths = ledger.subjects_of(Limit::Messages).flat_map(|subject| &subject.uses);
    let widths = ascending(widths.map(|interval| interval.width() as f64 / 1000.0).collect());
    let (alone, overshoot) = told(ledger);
    Verdict {
        seed: ledger.plan.seed,
        seconds: ledger.last as f64 / 1e6,
        rows,
        calm,
        all,
        width_p50_ms: percentile(&widths, 0.5).unwrap_or_default(),
        width_p99_ms: percentile(&widths, 0.99).unwrap_or_default(),
        outages,
        alone,
        overshoot,
    }
}

fn row(ledger: &Ledger, limit: Limit, outages: &Outages) -> Row {
    let mut row = Row { refused: ledger.refused.get(&limit).copied().unwrap_or_default(), ..Row::default() };
    for subject in ledger.subjects_of(limit) {
        row.subjects += 1;
        row.asked += subject.asked;
        row.through += (subject.uses.len() + subject.stays.len()) as u64;
        let worst = worst_of(subject, outages, ledger.plan.nodes as u32);
        row.full += usize::from(worst.get(&Regime::Calm).is_some_and(|worst| worst.count == subject.most as usize));
        for (regime, worst) in worst {
            if worst.count > worst.bound as usize {
                let inside = inside(subject, &worst);
                row.violations.push(Violation { limit, regime, worst: worst.clone(), inside });
            }
            let known = row.worst.entry(regime).or_insert_with(|| worst.clone());
            if worst.ratio() > known.ratio() {
                *known = worst;
            }
        }
    }
    row
}

/// the fullest window of each regime
fn worst_of(subject: &Subject, outages: &Outages, nodes: u32) -> BTreeMap<Regime, Worst> {
    let is_places = subject.window == 0;
    let window = subject.window.saturating_sub(GRAIN);
    let counts = match is_places {
        true => windows::occupancies(&subject.stays),
        false => windows::counts(&subject.uses, window),
    };
    let mut worst: BTreeMap<Regime, Worst> = BTreeMap::new();
    for Count { start, end, count } in counts {
        let regime = if is_places { outages.regime_of_place(start, end) } else { outages.regime(start, window) };
        let bound = regime.bound(subject.most, nodes);
        let one = worst.entry(regime).or_insert_with(|| Worst { subject: subject.name.clone(), start, count, bound });
        if count > one.count {
            (one.start, one.count) = (start, count);
        }
    }
    worst
}

fn inside(subject: &Subject, worst: &Worst) -> Vec<Interval> {
    let end = worst.start + subject.window.saturating_sub(GRAIN);
    let of_window = |one: &&Interval| one.low >= worst.start && one.high < end;
    let held_then = |stay: &&Stay| stay.held.low <= worst.start && stay.held.high >= worst.start;
    let mut inside: Vec<Interval> = match subject.window {
        0 => subject.stays.iter().filter(held_then).map(|stay| stay.held).collect(),
        _ => subject.uses.iter().filter(of_window).copied().collect(),
    };
    inside.sort_unstable_by_key(|one| one.low);
    inside.truncate(SHOWN_MAX);
    inside
}

type ByLoad = BTreeMap<Load, Beside>;

fn beside_an_exact_log(ledger: &Ledger, outages: &Outages) -> (ByLoad, ByLoad) {
    let (mut calm, mut all) = (ByLoad::new(), ByLoad::new());
    let mut logs = Logs::new(&ledger.subjects);
    let longest = ledger.subjects.iter().map(|subject| subject.window).max().unwrap_or_default();
    for message in &ledger.messages {
        let would_be = logs.admit(&message.charges, message.sent);
        let is_calm = outages.is_calm(message.sent, longest);
        let counted = [Some(&mut all), Some(&mut calm).filter(|_| is_calm)];
        for by_load in counted.into_iter().flatten() {
            let beside = by_load.entry(message.load).or_default();
            beside.sent += 1;
            beside.through += u64::from(message.is_through);
            beside.exact += u64::from(would_be);
        }
    }
    (calm, all)
}

/// what all nodes said in the end: uses let through alone, and uses beyond a limit that they learnt of
fn told(ledger: &Ledger) -> (u64, u64) {
    let mut last: HashMap<usize, (u64, u64)> = HashMap::new();
    let mut gone = (0, 0);
    for look in &ledger.looks {
        let now = (look.alone, look.overshoot);
        // Another one has come in its place, and begins at zero.
        if let Some(before) = last.insert(look.node, now).filter(|before| now.0 < before.0 || now.1 < before.1) {
            gone = (gone.0 + before.0, gone.1 + before.1);
        }
    }
    last.into_values().fold(gone, |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

#[cfg(test)]
mod tests;
