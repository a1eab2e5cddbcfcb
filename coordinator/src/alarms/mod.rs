//! Alarms: what an operator wants to be told without looking. Conditions of the cluster that hold, and grave records of the
//! audit trail, gathered by kind.
//!
//! Nothing waits for an alarm: it goes into bounded queues, and [`Receivers`] sends it. Every coordinator watches the conditions,
//! so that the next leader knows them; the leader tells of them, and while the state is away who led last.

mod condition;
mod digest;
mod message;
mod receivers;
mod roll;
mod signature;

#[cfg(test)]
mod tests;

use parking_lot::Mutex;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use picket_shared::audit::{AuditRecord, EventType, Outbox, Severity};
use picket_shared::clock::{Clock, Timestamp};
use picket_shared::policy::Monitoring;
use picket_shared::reason::Reason;
use picket_shared::state::LivePolicy;

use crate::metrics::Instruments;
pub(crate) use condition::{AUDIT_LAG_MAX, Condition, Readings};
pub(crate) use receivers::{Outcome, Receivers};
pub(crate) use roll::Roll;

use condition::{Change, Conditions};
use digest::Digest;

/// one thing to tell
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alarm {
    /// stays the same however often it is sent, so that a receiver knows a repetition
    pub(crate) id: String,
    pub(crate) at: Timestamp,
    pub(crate) kind: Kind,
    pub(crate) state: AlarmState,
    pub(crate) severity: Severity,
    /// in a sentence, for people
    pub(crate) summary: String,
    /// how often it happened since `since`
    pub(crate) count: u64,
    pub(crate) since: Timestamp,
    /// the latest record of many
    pub(crate) record: Option<AuditRecord>,
    /// who tells
    pub(crate) coordinator: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Condition(Condition),
    Records(EventType, Option<Reason>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AlarmState {
    /// a condition began to hold
    Raised,
    /// it holds no longer
    Resolved,
    /// grave records came
    Noticed,
}

impl Kind {
    /// all that alarms can be of, with what can be told of each
    pub(crate) fn with_states() -> impl Iterator<Item = (Kind, AlarmState)> {
        let conditions = Condition::ALL.into_iter().map(Kind::Condition);
        let held = conditions.flat_map(|kind| [(kind, AlarmState::Raised), (kind, AlarmState::Resolved)]);
        let records = EventType::ALL.into_iter().filter(|kind| may_alarm(*kind));
        held.chain(records.map(|kind| (Kind::Records(kind, None), AlarmState::Noticed)))
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Condition(condition) => condition.as_str(),
            Kind::Records(kind, _) => kind.as_str(),
        }
    }
}

impl AlarmState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            AlarmState::Raised => "raised",
            AlarmState::Resolved => "resolved",
            AlarmState::Noticed => "noticed",
        }
    }
}

/// what is watched, and whom it is told
pub(crate) struct Alarms {
    pub(crate) id: String,
    pub(crate) policy: LivePolicy,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) outbox: Outbox,
    pub(crate) instruments: Instruments,
    pub(crate) receivers: Arc<Receivers>,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    conditions: Conditions,
    digest: Digest,
}

impl Alarms {
    pub(crate) fn new(
        id: String,
        policy: LivePolicy,
        clock: Arc<dyn Clock>,
        outbox: Outbox,
        instruments: Instruments,
        receivers: Arc<Receivers>,
    ) -> Self {
        Alarms { id, policy, clock, outbox, instruments, receivers, watched: Mutex::default() }
    }

    /// looks at the cluster, each second
    pub(crate) fn look(&self, readings: &Readings, leads: bool) {
        let now = self.clock.now();
        let rules = self.policy.current();
        let monitoring = &rules.document.monitoring;
        let (changes, due) = {
            let mut watched = self.watched.lock();
            (watched.conditions.look(readings, monitoring, leads, now), watched.digest.due(now))
        };
        for change in changes {
            self.record(&change);
            self.tell(self.of_condition(&change, now));
        }
        for alarm in due.into_iter().filter(|_| leads) {
            self.tell(self.of_records(alarm, now));
        }
    }

    /// takes note of records that the trail did not have before; who calls it leads
    pub(crate) fn notice<'r>(&self, records: impl IntoIterator<Item = &'r AuditRecord>) {
        let rules = self.policy.current();
        let least = least_severity(&rules.document.monitoring);
        let now = self.clock.now();
        for record in records.into_iter().filter(|record| record.severity >= least && may_alarm(record.event_type)) {
            let first = self.watched.lock().digest.notice(record, now);
            if let Some(first) = first {
                self.tell(self.of_records(first, now));
            }
        }
    }

    /// the conditions that hold, each in a sentence
    pub(crate) fn in_force(&self) -> Vec<(Condition, String)> {
        self.watched.lock().conditions.in_force()
    }

    fn tell(&self, alarm: Alarm) {
        self.instruments.count_alarms(alarm.kind, alarm.state, 1);
        tracing::info!(kind = alarm.kind.as_str(), state = alarm.state.as_str(), summary = alarm.summary, "alarm");
        self.receivers.tell(&Arc::new(alarm));
    }

    fn of_condition(&self, change: &Change, now: Timestamp) -> Alarm {
        Alarm {
            id: fresh_id(),
            at: now,
            kind: Kind::Condition(change.condition),
            state: change.state,
            severity: change.condition.severity(),
            summary: change.summary.clone(),
            count: 1,
            since: change.since,
            record: None,
            coordinator: self.id.clone(),
        }
    }

    fn of_records(&self, gathered: digest::Gathered, now: Timestamp) -> Alarm {
        let digest::Gathered { count, since, severity, latest } = gathered;
        let summary = match count {
            1 => format!("{}: {}", latest.message, subject(&latest)),
            _ => format!("{}: {count} times, lastly {}", latest.message, subject(&latest)),
        };
        Alarm {
            id: fresh_id(),
            at: now,
            kind: Kind::Records(latest.event_type, latest.reason),
            state: AlarmState::Noticed,
            severity,
            summary,
            count,
            since,
            record: Some(latest),
            coordinator: self.id.clone(),
        }
    }

    /// what the trail keeps of a condition; grave records are in it anyway
    fn record(&self, change: &Change) {
        let kind = if change.state == AlarmState::Resolved { EventType::AlarmResolved } else { EventType::AlarmRaised };
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let record = AuditRecord::new(kind, change.condition.severity(), nobody, &change.summary, self.clock.now())
            .with("alarm", change.condition.as_str())
            .with("value", change.value)
            .with("threshold", change.threshold)
            .with("since", change.since.to_string());
        self.outbox.record(AuditRecord { node: Some(self.id.clone()), ..record });
    }
}

/// high and critical records alarm, and lower ones where a receiver asks for them
fn least_severity(monitoring: &Monitoring) -> Severity {
    let asked = monitoring.notifications.iter().map(|receiver| receiver.min_severity).min();
    asked.unwrap_or(Severity::High).min(Severity::High)
}

/// an alarm does not alarm
const fn may_alarm(kind: EventType) -> bool {
    !matches!(kind, EventType::AlarmRaised | EventType::AlarmResolved)
}

/// whom a record is about
fn subject(record: &AuditRecord) -> String {
    let network = record.metadata.get("network").and_then(serde_json::Value::as_str);
    match (network, record.ip.is_unspecified(), &record.node) {
        (Some(network), ..) => network.to_owned(),
        (None, true, Some(node)) => node.clone(),
        (None, ..) => record.ip.to_string(),
    }
}

fn fresh_id() -> String {
    format!("alarm_{}", picket_shared::random::hex(12))
}
