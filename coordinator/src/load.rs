//! How busy the cluster was in the last minute, from the nodes' running counts.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use picket_shared::clock::Timestamp;
use picket_shared::state::{NodeStatus, TrafficSnapshot};

/// the time that rates look back
const SPAN: Duration = Duration::from_secs(60);
/// samples that are kept: one a second, with some room
const SAMPLES_MAX: usize = 128;

/// what happened in the last minute
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LastMinute {
    /// that passed
    pub(crate) events: u64,
    /// connections that came in
    pub(crate) admitted: u64,
    /// of events and of attempts
    pub(crate) refusals: u64,
}

impl LastMinute {
    /// refused ÷ all events and attempts; 0 when there were too few to say
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub(crate) fn error_rate(self) -> f64 {
        const ENOUGH: u64 = 20;
        let all = self.events + self.admitted + self.refusals;
        if all < ENOUGH { 0.0 } else { self.refusals as f64 / all as f64 }
    }
}

#[derive(Default)]
pub(crate) struct Load {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    seen: HashMap<String, TrafficSnapshot>,
    samples: VecDeque<(Timestamp, LastMinute)>,
}

impl Load {
    /// takes note of the nodes' counts
    pub(crate) fn sample(&self, nodes: &[NodeStatus], now: Timestamp) {
        let mut inner = self.inner.lock();
        let mut grown = LastMinute::default();
        for node in nodes {
            let Some(before) = inner.seen.get(&node.id) else {
                continue;
            };
            // A node that started again counts from zero.
            grown.events += node.traffic.events.saturating_sub(before.events);
            grown.refusals += node.traffic.refusals.saturating_sub(before.refusals);
            grown.admitted += node.traffic.total_connections.saturating_sub(before.total_connections);
        }
        inner.seen = nodes.iter().map(|node| (node.id.clone(), node.traffic)).collect();
        inner.samples.push_back((now, grown));
        while inner.samples.len() > SAMPLES_MAX || inner.samples.front().is_some_and(|(at, _)| now.since(*at) > SPAN) {
            inner.samples.pop_front();
        }
    }

    pub(crate) fn last_minute(&self, now: Timestamp) -> LastMinute {
        let inner = self.inner.lock();
        let recent = inner.samples.iter().filter(|(at, _)| now.since(*at) <= SPAN);
        recent.fold(LastMinute::default(), |sum, (_, sample)| LastMinute {
            events: sum.events + sample.events,
            admitted: sum.admitted + sample.admitted,
            refusals: sum.refusals + sample.refusals,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::state::Mode;

    fn node(id: &str, events: u64, refusals: u64) -> NodeStatus {
        NodeStatus {
            id: id.into(),
            version: "1".into(),
            mode: Mode::Normal,
            policy_version: 1,
            connections: 0,
            last_seen: Timestamp::from_millis(0),
            traffic: TrafficSnapshot { events, refusals, ..TrafficSnapshot::default() },
            decisions: None,
            knows_countries: None,
            enforce: Default::default(),
            is_switched: false,
            on_trial: false,
            clock_offset_ms: 0,
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn only_what_was_added_in_the_last_minute_counts_and_a_restart_takes_nothing_away() {
        let load = Load::default();
        load.sample(&[node("a", 1000, 0)], at(0));
        assert_eq!(load.last_minute(at(0)), LastMinute::default(), "what was before is not news");
        load.sample(&[node("a", 1100, 30), node("b", 500, 0)], at(10));
        load.sample(&[node("a", 5, 0), node("b", 520, 0)], at(20));
        let minute = load.last_minute(at(20));
        assert_eq!(minute, LastMinute { events: 120, admitted: 0, refusals: 30 });
        assert_eq!(minute.error_rate(), 0.2);
        assert_eq!(load.last_minute(at(75)).events, 20);
        assert_eq!(load.last_minute(at(200)).error_rate(), 0.0);
    }
}
