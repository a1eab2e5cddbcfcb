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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition {
    HighConnectionCount,
    HighMessageRate,
    ErrorRate,
    DegradedNodes,
    AuditLag,
    DeadLetters,
}

/// what the cluster showed at a moment; `None` is not known
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readings {
    pub(crate) connections: u64,
    pub(crate) minute: LastMinute,
    pub(crate) degraded_nodes: u64,
    pub(crate) audit_lag: Option<u64>,
    pub(crate) dead_letters: Option<u64>,
}

impl Readings {
    pub(crate) fn of(nodes: &[NodeStatus], minute: LastMinute) -> Self {
        let connections = nodes.iter().map(|node| node.traffic.active_connections).sum();
        let degraded = nodes.iter().filter(|node| node.mode == Mode::Degraded).count();
        Readings { connections, minute, degraded_nodes: degraded as u64, audit_lag: None, dead_letters: None }
    }
}

impl Condition {
    pub(crate) const ALL: [Condition; 6] = {
        use Condition::*;
        [HighConnectionCount, HighMessageRate, ErrorRate, DegradedNodes, AuditLag, DeadLetters]
    };

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Condition::HighConnectionCount => "highConnectionCount",
            Condition::HighMessageRate => "highMessageRate",
            Condition::ErrorRate => "errorRate",
            Condition::DegradedNodes => "degradedNodes",
            Condition::AuditLag => "auditLag",
            Condition::DeadLetters => "deadLetters",
        }
    }

    pub(crate) const fn severity(self) -> Severity {
        match self {
            Condition::DegradedNodes => Severity::Critical,
            Condition::HighConnectionCount | Condition::HighMessageRate | Condition::ErrorRate => Severity::High,
            Condition::AuditLag | Condition::DeadLetters => Severity::High,
        }
    }

    /// whether the policy's `alertThresholds` set its bound
    pub(crate) const fn has_threshold(self) -> bool {
        matches!(self, Condition::HighConnectionCount | Condition::HighMessageRate | Condition::ErrorRate)
    }

    /// the number and its bound; `None` where the number is not known, or nobody wants it watched
    #[expect(clippy::cast_precision_loss, reason = "numbers for people")]
    fn reading(self, readings: &Readings, monitoring: &Monitoring) -> Option<(f64, f64)> {
        if self.has_threshold() && !monitoring.enable_health_checks {
            return None;
        }
        let thresholds = &monitoring.alert_thresholds;
        Some(match self {
            Condition::HighConnectionCount => (readings.connections as f64, thresholds.high_connection_count as f64),
            Condition::HighMessageRate => (readings.minute.events as f64, thresholds.high_message_rate as f64),
            Condition::ErrorRate => (readings.minute.error_rate(), thresholds.error_rate),
            Condition::DegradedNodes => (readings.degraded_nodes as f64, 0.0),
            Condition::AuditLag => (readings.audit_lag? as f64, AUDIT_LAG_MAX as f64),
            Condition::DeadLetters => (readings.dead_letters? as f64, 0.0),
        })
    }

    fn sentence(self, value: f64, threshold: f64) -> String {
        match self {
            Condition::HighConnectionCount => format!("{value} open connections, above {threshold}"),
            Condition::HighMessageRate => format!("{value} events in the last minute, above {threshold}"),
            Condition::ErrorRate => format!(
                "{:.1} % of events and attempts refused in the last minute, above {:.1} %",
                value * 100.0,
                threshold * 100.0
            ),
            Condition::DegradedNodes => format!("{value} nodes decide without the shared state"),
            Condition::AuditLag => format!("{value} audit records wait to be stored"),
            Condition::DeadLetters => format!("{value} audit entries could not be read and were put aside"),
        }
    }

    /// the conditions beyond their bounds at this moment, each in a sentence
    pub(crate) fn beyond(readings: &Readings, monitoring: &Monitoring) -> Vec<(Condition, String)> {
        let beyond = |condition: Condition| {
            let (value, threshold) = condition.reading(readings, monitoring)?;
            (value > threshold).then(|| (condition, condition.sentence(value, threshold)))
        };
        Condition::ALL.into_iter().filter_map(beyond).collect()
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
            let (value, threshold) = condition.reading(readings, monitoring).unwrap_or_default();
            self.judge(condition, value, threshold, leads, now)
        });
        looked.collect()
    }

    fn judge(
        &mut self,
        condition: Condition,
        value: f64,
        threshold: f64,
        leads: bool,
        now: Timestamp,
    ) -> Option<Change> {
        let change = |state, summary, since| Change { condition, state, summary, value, threshold, since };
        if value > threshold {
            let sentence = condition.sentence(value, threshold);
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
        let readings = Readings { connections, ..Readings::default() };
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
            connections: 2000,
            minute: LastMinute { events: 20_000, admitted: 0, refusals: 20_000 },
            degraded_nodes: 2,
            audit_lag: Some(20_000),
            dead_letters: Some(1),
        };
        let beyond = Condition::beyond(&readings, &Monitoring::default());
        println!("{beyond:#?}");
        assert_eq!(beyond.len(), Condition::ALL.len());
    }
}
