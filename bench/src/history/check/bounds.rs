//! What is promised, by what happened meanwhile: rows X01, X02, X03, X05 and H30.
//!
//! A node that gets no answer from Redis lets through at most its share, the limit divided by the nodes, rounded up: together at
//! most L + N of L by N nodes in any window. Beside that stands what Redis itself has let through in the same window.

use serde::Serialize;
use std::collections::BTreeMap;

use crate::history::record::{Fault, Look, Moment};

/// the nodes count their places again so long after Redis has answered (two seconds, and one for the way)
const RECOUNT: u64 = 3_000_000;

/// what happened within a window
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Regime {
    /// Redis answered all nodes, all the time
    Calm,
    /// the window holds the cut, or a moment at which a node had no answer, or begins less than a window after it
    Cut,
    /// Redis was away all the time
    Away,
    /// Redis came back
    Heal,
}

impl Regime {
    pub const ALL: [Regime; 4] = [Regime::Calm, Regime::Cut, Regime::Away, Regime::Heal];

    pub fn as_str(self) -> &'static str {
        match self {
            Regime::Calm => "calm",
            Regime::Cut => "at the cut",
            Regime::Away => "away",
            Regime::Heal => "heal",
        }
    }

    /// the most that a window may hold
    pub fn bound(self, limit: u32, nodes: u32) -> u32 {
        match self {
            Regime::Calm => limit,
            Regime::Cut => 2 * limit + nodes,
            Regime::Away => limit + nodes,
            Regime::Heal => limit + nodes * limit.div_ceil(nodes),
        }
    }
}

/// Redis is away from `cut`, comes back at `back`, and at `healed` all nodes are normal again
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    pub cut: Moment,
    pub back: Moment,
    pub healed: Moment,
}

impl Outage {
    fn regime(&self, start: Moment, window: u64) -> Regime {
        let end = start + window;
        if end <= self.cut || start >= self.healed {
            Regime::Calm
        } else if start < self.cut + window {
            Regime::Cut
        } else if end > self.back {
            Regime::Heal
        } else {
            Regime::Away
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Outages {
    pub injected: Vec<Outage>,
    /// times within which some node had no answer in time and decided alone, and no fault was injected
    pub disturbances: Vec<Outage>,
}

impl Outages {
    pub fn of(faults: &[Fault], looks: &[Look]) -> Self {
        let mut outages = Outages { injected: injected(faults, looks), disturbances: Vec::new() };
        for one in alone(looks) {
            match outages.injected.iter_mut().find(|of| one.cut <= of.healed && one.healed >= of.cut) {
                Some(of) => (of.cut, of.healed) = (of.cut.min(one.cut), of.healed.max(one.healed)),
                None => outages.disturbances.push(one),
            }
        }
        outages
    }

    fn all(&self) -> impl Iterator<Item = &Outage> {
        self.injected.iter().chain(&self.disturbances)
    }

    /// the widest promise of all that touch the window
    pub fn regime(&self, start: Moment, window: u64) -> Regime {
        let widest = |regime: &Regime| match regime {
            Regime::Calm => 0,
            Regime::Away => 1,
            Regime::Heal => 2,
            Regime::Cut => 3,
        };
        self.all().map(|outage| outage.regime(start, window)).max_by_key(widest).unwrap_or(Regime::Calm)
    }

    /// of a place that was given away between the two: what was given too much in an outage may stay, but nothing is added to it
    /// afterwards
    pub fn regime_of_place(&self, asked: Moment, taken: Moment) -> Regime {
        let touches = |outage: &Outage| taken >= outage.cut && asked < outage.healed + RECOUNT;
        if self.all().any(touches) { Regime::Cut } else { Regime::Calm }
    }

    /// no outage has anything to do with what was asked then
    pub fn is_calm(&self, at: Moment, window: u64) -> bool {
        self.all().all(|outage| at < outage.cut || at >= outage.healed + window)
    }
}

fn injected(faults: &[Fault], looks: &[Look]) -> Vec<Outage> {
    let mut outages = Vec::new();
    let mut open = None;
    for fault in faults {
        match *fault {
            Fault::Cut { at, .. } => open = Some(at),
            Fault::Back { at } => {
                outages.extend(open.take().map(|cut| Outage { cut, back: at, healed: healed(looks, at) }));
            }
            Fault::NodeDies { .. } | Fault::NodeReturns { .. } => {}
        }
    }
    outages.extend(open.map(|cut| Outage { cut, back: Moment::MAX / 2, healed: Moment::MAX / 2 }));
    outages
}

/// when every node had said that it is normal, having been asked after Redis was back
fn healed(looks: &[Look], back: Moment) -> Moment {
    let mut first: BTreeMap<usize, Moment> = looks.iter().map(|look| (look.node, Moment::MAX / 2)).collect();
    for look in looks.iter().filter(|look| look.is_normal && look.sent >= back) {
        let first = first.entry(look.node).or_insert(look.done);
        *first = (*first).min(look.done);
    }
    first.into_values().max().unwrap_or(back)
}

/// between two looks at a node: it let something through alone, or said that it is not normal
fn alone(looks: &[Look]) -> Vec<Outage> {
    let mut before: BTreeMap<usize, &Look> = BTreeMap::new();
    let mut found = Vec::new();
    for look in looks {
        let (since, known) = before.insert(look.node, look).map_or((0, 0), |last| (last.sent, last.alone));
        // A node that came in the place of another one begins at zero.
        let was_alone = if look.alone >= known { look.alone > known } else { look.alone > 0 };
        if was_alone || !look.is_normal {
            found.push(Outage { cut: since, back: since, healed: look.done });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTAGE: Outage = Outage { cut: 10_000, back: 40_000, healed: 42_000 };

    #[test]
    fn a_window_is_judged_by_what_happened_in_it() {
        let outages = Outages { injected: vec![OUTAGE], disturbances: Vec::new() };
        let of = |start| outages.regime(start, 10_000);
        assert_eq!(of(0), Regime::Calm, "it ends when redis is cut off");
        assert_eq!([of(1), of(19_999)], [Regime::Cut; 2]);
        assert_eq!([of(20_000), of(30_000)], [Regime::Away; 2]);
        assert_eq!([of(30_001), of(41_999)], [Regime::Heal; 2]);
        assert_eq!(of(42_000), Regime::Calm);
        assert_eq!(outages.regime_of_place(9_000, 9_999), Regime::Calm);
        assert_eq!(outages.regime_of_place(9_000, 10_000), Regime::Cut, "it may have been decided after the cut");
        assert!(outages.is_calm(9_999, 10_000) && !outages.is_calm(51_999, 10_000) && outages.is_calm(52_000, 10_000));
    }

    #[test]
    fn promises_are_those_of_the_rows() {
        let bounds = Regime::ALL.map(|regime| regime.bound(20, 3));
        assert_eq!(bounds, [20, 43, 23, 41]);
    }

    fn look(node: usize, sent: Moment, is_normal: bool, alone: u64) -> Look {
        Look { node, sent, done: sent + 5, is_normal, alone, overshoot: 0 }
    }

    #[test]
    fn an_outage_ends_when_all_nodes_have_said_so() {
        let faults = [Fault::Cut { at: 100, forgets: false }, Fault::Back { at: 200 }];
        let looks = [
            look(0, 90, true, 0),
            look(1, 92, true, 0),
            look(0, 150, false, 4),
            look(1, 152, true, 0),
            look(0, 210, true, 4),
            look(1, 212, false, 6),
            look(1, 230, true, 6),
            look(0, 240, true, 5),
            look(0, 340, true, 5),
            look(0, 400, true, 7),
        ];
        let outages = Outages::of(&faults, &looks);
        assert_eq!(outages.injected, [Outage { cut: 90, back: 200, healed: 245 }], "as long as it may have been");
        assert_eq!(outages.disturbances, [Outage { cut: 340, back: 340, healed: 405 }], "nobody did anything");
    }

    #[test]
    fn redis_that_never_comes_back_is_away_to_the_end() {
        let outages = Outages::of(&[Fault::Cut { at: 100, forgets: true }], &[]);
        assert_eq!(outages.regime(1_000_000, 10), Regime::Away);
    }
}
