//! What of the cluster is watched: a number against a bound. Raised as soon as it is beyond; resolved when it has been clearly
//! within for a while, so that a number that wavers about its bound alarms once.

use std::collections::BTreeMap;
use std::time::Duration;

use picket_shared::audit::Severity;
use picket_shared::clock::Timestamp;
use picket_shared::policy::Monitoring;
use picket_shared::state::{Mode, NodeStatus};

use super::AlarmState;
use crate::load::LastMinute;

/// a number is clearly within its bound below this part of it
const CLEARLY_WITHIN: f64 = 0.9;
/// how long it stays there before the alarm is resolved
const CALM_FOR: Duration = Duration::from_secs(30);
/// records waiting to be stored beyond which ingest is behind
pub(crate) const AUDIT_LAG_MAX: u64 = 10_000;
/// heartbeats in a row that may fail: one that is lost on its way is nobody's alarm
const FAILED_BEATS_MAX: u64 = 2;
/// processes that a sentence names
const NAMES_MAX: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition {
    HighConnectionCount,
    HighMessageRate,
    ErrorRate,
    StateOutage,
    DegradedNodes,
    LostNodes,
    StalePolicy,
    AuditLag,
    DeadLetters,
}

/// what the cluster showed at a moment; `None` is not known
#[derive(Clone, Debug, Default)]
pub(crate) struct Readings {
    pub(crate) connections: Option<u64>,
    pub(crate) minute: Option<LastMinute>,
    /// how often in a row the state did not answer this coordinator
    pub(crate) failed_beats: Option<u64>,
    pub(crate) degraded_nodes: Option<u64>,
    pub(crate) lost_nodes: Option<Vec<String>>,
    /// the processes that run an older policy than the newest one
    pub(crate) stale_policy: Option<Vec<String>>,
    pub(crate) audit_lag: Option<u64>,
    pub(crate) dead_letters: Option<u64>,
}

impl Readings {
    pub(crate) fn of(nodes: &[NodeStatus], minute: LastMinute) -> Self {
        let degraded = nodes.iter().filter(|node| node.mode == Mode::Degraded).count();
        Readings {
            connections: Some(nodes.iter().map(|node| node.traffic.active_connections).sum()),
            minute: Some(minute),
            degraded_nodes: Some(degraded as u64),
            ..Readings::default()
        }
    }

    /// the state did not answer so often in a row: nothing else is known
    pub(crate) fn without_state(failed_beats: u64) -> Self {
        Readings { failed_beats: Some(failed_beats), ..Readings::default() }
    }
}

impl Condition {
    pub(crate) const ALL: [Condition; 9] = {
        use Condition::*;
        [
            HighConnectionCount,
            HighMessageRate,
            ErrorRate,
            StateOutage,
            DegradedNodes,
            LostNodes,
            StalePolicy,
            AuditLag,
            DeadLetters,
        ]
    };

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Condition::HighConnectionCount => "highConnectionCount",
            Condition::HighMessageRate => "highMessageRate",
            Condition::ErrorRate => "errorRate",
            Condition::StateOutage => "stateOutage",
            Condition::DegradedNodes => "degradedNodes",
            Condition::LostNodes => "lostNodes",
            Condition::StalePolicy => "stalePolicy",
            Condition::AuditLag => "auditLag",
            Condition::DeadLetters => "deadLetters",
        }
    }

    pub(crate) const fn severity(self) -> Severity {
        match self {
            Condition::StateOutage | Condition::DegradedNodes => Severity::Critical,
            Condition::HighConnectionCount | Condition::HighMessageRate | Condition::ErrorRate => Severity::High,
            Condition::LostNodes | Condition::StalePolicy => Severity::High,
            Condition::AuditLag | Condition::DeadLetters => Severity::High,
        }
    }

    /// whether the policy's `alertThresholds` set its bound
    const fn has_threshold(self) -> bool {
        matches!(self, Condition::HighConnectionCount | Condition::HighMessageRate | Condition::ErrorRate)
    }

    /// the number and its bound; `None` where the number is not known. What nobody wants watched is calm
    #[expect(clippy::cast_precision_loss, reason = "numbers for people")]
    fn reading(self, readings: &Readings, monitoring: &Monitoring) -> Option<(f64, f64)> {
        if self.has_threshold() && !monitoring.enable_health_checks {
            return Some((0.0, 0.0));
        }
        let count = |processes: &Option<Vec<String>>| processes.as_ref().map(|processes| processes.len() as f64);
        let number = |number: Option<u64>| number.map(|number| number as f64);
        let thresholds = &monitoring.alert_thresholds;
        let (value, threshold) = match self {
            Condition::HighConnectionCount => (number(readings.connections), thresholds.high_connection_count as f64),
            Condition::HighMessageRate => {
                (number(readings.minute.map(|minute| minute.events)), thresholds.high_message_rate as f64)
            }
            Condition::ErrorRate => (readings.minute.map(LastMinute::error_rate), thresholds.error_rate),
            Condition::StateOutage => (number(readings.failed_beats), FAILED_BEATS_MAX as f64),
            Condition::DegradedNodes => (number(readings.degraded_nodes), 0.0),
            Condition::LostNodes => (count(&readings.lost_nodes), 0.0),
            Condition::StalePolicy => (count(&readings.stale_policy), 0.0),
            Condition::AuditLag => (number(readings.audit_lag), AUDIT_LAG_MAX as f64),
            Condition::DeadLetters => (number(readings.dead_letters), 0.0),
        };
        value.map(|value| (value, threshold))
    }

    fn sentence(self, readings: &Readings, value: f64, threshold: f64) -> String {
        match self {
            Condition::HighConnectionCount => format!("{value} open connections, above {threshold}"),
            Condition::HighMessageRate => format!("{value} events in the last minute, above {threshold}"),
            Condition::ErrorRate => format!(
                "{:.1} % of events and attempts refused in the last minute, above {:.1} %",
                value * 100.0,
                threshold * 100.0
            ),
            Condition::StateOutage => format!("the shared state did not answer {value} heartbeats in a row"),
            Condition::DegradedNodes => format!("{value} nodes decide without the shared state"),
            Condition::LostNodes => {
                format!("not heard of any more, without a goodbye: {}", names(&readings.lost_nodes))
            }
            Condition::StalePolicy => format!("the newest policy is not in force at {}", names(&readings.stale_policy)),
            Condition::AuditLag => format!("{value} audit records wait to be stored"),
            Condition::DeadLetters => format!("{value} audit entries could not be read and were put aside"),
        }
    }

    /// the conditions beyond their bounds at this moment, each in a sentence
    pub(crate) fn beyond(readings: &Readings, monitoring: &Monitoring) -> Vec<(Condition, String)> {
        let beyond = |condition: Condition| {
            let (value, threshold) = condition.reading(readings, monitoring)?;
            (value > threshold).then(|| (condition, condition.sentence(readings, value, threshold)))
        };
        Condition::ALL.into_iter().filter_map(beyond).collect()
    }
}

/// the first few of many
fn names(processes: &Option<Vec<String>>) -> String {
    let processes = processes.as_deref().unwrap_or_default();
    let named = processes.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match processes.len().saturating_sub(NAMES_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// a condition that began or ceased to hold
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) condition: Condition,
    pub(super) state: AlarmState,
    pub(super) summary: String,
    pub(super) value: f64,
    pub(super) threshold: f64,
    pub(super) since: Timestamp,
}

/// the conditions that hold
#[derive(Debug, Default)]
pub(super) struct Conditions(BTreeMap<Condition, Held>);

#[derive(Debug)]
struct Held {
    since: Timestamp,
    /// since when its number has been clearly within the bound
    calm: Option<Timestamp>,
    /// as it was last beyond the bound
    sentence: String,
    /// a leader that takes over tells of what holds: the one before may not have come to it
    told: bool,
}

impl Conditions {
    /// what is to be told; nothing by who does not lead
    pub(super) fn look(
        &mut self,
        readings: &Readings,
        monitoring: &Monitoring,
        leads: bool,
        now: Timestamp,
    ) -> Vec<Change> {
        let looked = Condition::ALL.into_iter().filter_map(|condition| {
            let Some((value, threshold)) = condition.reading(readings, monitoring) else {
                self.cannot_tell(condition);
                return None;
            };
            let beyond = (value > threshold).then(|| condition.sentence(readings, value, threshold));
            self.judge(condition, beyond, (value, threshold), leads, now)
        });
        looked.collect()
    }

    /// what holds goes on, and is not calm
    fn cannot_tell(&mut self, condition: Condition) {
        if let Some(held) = self.0.get_mut(&condition) {
            held.calm = None;
        }
    }

    fn judge(
        &mut self,
        condition: Condition,
        beyond: Option<String>,
        (value, threshold): (f64, f64),
        leads: bool,
        now: Timestamp,
    ) -> Option<Change> {
        let change = |state, summary, since| Change { condition, state, summary, value, threshold, since };
        if let Some(sentence) = beyond {
            let fresh = Held { since: now, calm: None, sentence: String::new(), told: false };
            let held = self.0.entry(condition).or_insert(fresh);
            held.calm = None;
            held.sentence = sentence.clone();
            let is_news = leads && !held.told;
            held.told = leads;
            return is_news.then(|| change(AlarmState::Raised, sentence, held.since));
        }
        let held = self.0.get_mut(&condition)?;
        if value > threshold * CLEARLY_WITHIN {
            held.calm = None;
            return None;
        }
        if now.since(*held.calm.get_or_insert(now)) < CALM_FOR {
            return None;
        }
        let held = self.0.remove(&condition)?;
        leads.then(|| change(AlarmState::Resolved, format!("no longer: {}", held.sentence), held.since))
    }

    pub(super) fn in_force(&self) -> Vec<(Condition, String)> {
        self.0.iter().map(|(condition, held)| (*condition, held.sentence.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_764_000_000_000 + seconds * 1000)
    }

    fn look(conditions: &mut Conditions, connections: u64, leads: bool, seconds: u64) -> Vec<AlarmState> {
        let readings = Readings { connections: Some(connections), ..Readings::default() };
        let changes = conditions.look(&readings, &Monitoring::default(), leads, at(seconds));
        changes.into_iter().map(|change| change.state).collect()
    }

    #[test]
    fn a_number_that_wavers_about_its_bound_alarms_once() {
        let mut conditions = Conditions::default();
        assert_eq!(look(&mut conditions, 1000, true, 0), [], "the bound itself is allowed");
        assert_eq!(look(&mut conditions, 1001, true, 1), [AlarmState::Raised]);
        for second in 2..200 {
            assert_eq!(look(&mut conditions, [950, 1010, 899][second as usize % 3], true, second), []);
        }
        assert_eq!(
            conditions.in_force(),
            [(Condition::HighConnectionCount, "1010 open connections, above 1000".into())]
        );
        for second in 200..230 {
            assert_eq!(look(&mut conditions, 900, true, second), []);
        }
        assert_eq!(look(&mut conditions, 900, true, 230), [AlarmState::Resolved]);
        assert_eq!(look(&mut conditions, 900, true, 300), []);
    }

    #[test]
    fn who_comes_to_lead_tells_of_what_holds() {
        let mut conditions = Conditions::default();
        assert_eq!(look(&mut conditions, 2000, false, 0), []);
        assert_eq!(conditions.in_force().len(), 1);
        assert_eq!(look(&mut conditions, 2000, true, 10), [AlarmState::Raised]);
        assert_eq!(look(&mut conditions, 2000, true, 11), []);
    }

    #[test]
    fn every_condition_has_a_name_of_its_own_and_a_sentence() {
        let names: std::collections::BTreeSet<_> = Condition::ALL.into_iter().map(Condition::as_str).collect();
        assert_eq!(names.len(), Condition::ALL.len());
        let readings = Readings {
            connections: Some(2000),
            minute: Some(LastMinute { events: 20_000, admitted: 0, refusals: 20_000 }),
            failed_beats: Some(3),
            degraded_nodes: Some(2),
            lost_nodes: Some((1..9).map(|n| format!("edge-{n}")).collect()),
            stale_policy: Some(vec!["edge-1".into(), "coordinator-1".into()]),
            audit_lag: Some(20_000),
            dead_letters: Some(1),
        };
        let beyond = Condition::beyond(&readings, &Monitoring::default());
        println!("{beyond:#?}");
        assert_eq!(beyond.len(), Condition::ALL.len());
        let lost = "not heard of any more, without a goodbye: edge-1, edge-2, edge-3, edge-4, edge-5 and 3 more";
        assert!(beyond.contains(&(Condition::LostNodes, lost.into())));
    }

    #[test]
    fn what_held_before_an_outage_holds_until_it_is_seen_to_have_ended() {
        let mut conditions = Conditions::default();
        let mut look = |readings: Readings, seconds| {
            let changes = conditions.look(&readings, &Monitoring::default(), true, at(seconds));
            changes.into_iter().map(|change| (change.condition, change.state)).collect::<Vec<_>>()
        };
        let answered =
            |connections| Readings { connections: Some(connections), failed_beats: Some(0), ..Readings::default() };
        assert_eq!(look(answered(2000), 0), [(Condition::HighConnectionCount, AlarmState::Raised)]);
        assert_eq!(look(answered(1), 1), []);
        for failed in 1..=2 {
            assert_eq!(look(Readings::without_state(failed), failed + 1), []);
        }
        assert_eq!(look(Readings::without_state(3), 4), [(Condition::StateOutage, AlarmState::Raised)]);
        for failed in 4..100 {
            assert_eq!(look(Readings::without_state(failed), failed + 1), []);
        }
        for second in 101..131 {
            assert_eq!(look(answered(1), second), []);
        }
        let ended = [Condition::HighConnectionCount, Condition::StateOutage];
        assert_eq!(look(answered(1), 131), ended.map(|condition| (condition, AlarmState::Resolved)));
    }
}
