//! The rules that watch the audit trail: what many nodes saw of one user or address. What is noticed becomes a record, and is scored as
//! one when it comes back through the audit log.

use std::sync::Arc;

use picket_shared::address::AddressKey;
use picket_shared::audit::{AuditRecord, Outbox};
use picket_shared::behaviour::{Deed, Watch};
use picket_shared::clock::Clock;
use picket_shared::policy::BehaviourRule;
use picket_shared::reason::Reason;
use picket_shared::state::LivePolicy;

/// the key of the metadata under which a record says with which token its user came in
const SESSION: &str = "session";

pub(crate) struct Behaviour {
    pub(crate) id: String,
    pub(crate) policy: LivePolicy,
    pub(crate) outbox: Outbox,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) watch: Watch,
}

impl Behaviour {
    /// looks at a record that the trail did not have before
    pub(crate) fn observe(&self, record: &AuditRecord) {
        let rules = self.policy.current();
        let watched = &rules.behaviour.records;
        // What a rule noticed is no deed, and nobody's records (0.0.0.0) are none.
        if watched.is_empty() || record.reason == Some(Reason::Behaviour) || record.ip.is_unspecified() {
            return;
        }
        let (user, address) = (record.user_id.as_deref(), AddressKey::of(record.ip));
        let session = record.metadata.get(SESSION).and_then(serde_json::Value::as_str);
        let names = [record.reason.map(Reason::token), Some(record.event_type.as_str())];
        for name in names.into_iter().flatten() {
            let deed = Deed { name, user, session, address, times: record.weight() };
            for rule in self.watch.see(watched, &deed, |name| field(record, name), self.clock.now()) {
                self.note(record, rule);
            }
        }
    }

    fn note(&self, last: &AuditRecord, rule: &BehaviourRule) {
        let window_ms = u64::try_from(rule.window.as_millis()).unwrap_or(u64::MAX);
        let record = AuditRecord::refusal(Reason::Behaviour, last.ip, self.clock.now())
            .with("passed", true)
            .with("detail", format!("security.behaviour: {}", rule.name))
            .with("rule", rule.name.as_str())
            .with("points", rule.points)
            .with("limit", rule.over)
            .with("windowMs", window_ms)
            .with("lastRecord", last.id.as_str());
        let record = match last.metadata.get(SESSION) {
            Some(session) => record.with(SESSION, session.clone()),
            None => record,
        };
        self.outbox.record(AuditRecord { node: Some(self.id.clone()), user_id: last.user_id.clone(), ..record });
    }
}

/// what `distinct` may name
fn field(record: &AuditRecord, name: &str) -> Option<String> {
    match name {
        // A client takes what addresses of its /64 it likes.
        "ip" => Some(AddressKey::of(record.ip).to_string()),
        "userId" => record.user_id.clone(),
        "route" => record.route.clone(),
        "node" => record.node.clone(),
        other => record.metadata.get(other).map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::audit::{EventType, Severity};
    use picket_shared::clock::{ManualClock, Timestamp};
    use picket_shared::policy::{Environment, Policy};
    use picket_shared::state::State;
    use serde_json::json;
    use std::time::Duration;

    const START: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    /// what is noticed of records under one rule
    async fn noticed(when: serde_json::Value, records: impl IntoIterator<Item = AuditRecord>) -> Vec<AuditRecord> {
        let mut policy = Policy::default();
        let rules = json!([{ "name": "places", "when": when, "then": "block" }]);
        policy.security.behaviour = serde_json::from_value(rules).unwrap();
        let (outbox, clock) = (Outbox::default(), Arc::new(ManualClock::at(START)));
        let policy = LivePolicy::starting_with(policy, Environment::Production).unwrap();
        let behaviour = Behaviour {
            id: "c1".into(),
            policy,
            outbox: outbox.clone(),
            clock: clock.clone(),
            watch: Watch::default(),
        };
        records.into_iter().for_each(|record| behaviour.observe(&record));
        let state = State::memory();
        outbox.deliver(state.audit.clone(), clock, std::future::ready(())).await;
        let noticed = state.audit.read(10, Duration::ZERO).await.unwrap();
        let noticed: Vec<_> = noticed.into_iter().map(|(_, record)| record).collect();
        noticed.iter().for_each(|record| behaviour.observe(record));
        noticed
    }

    fn came_in(user: &str, ip: &str) -> AuditRecord {
        let (kind, ip) = (EventType::AuthenticationSuccess, ip.parse().unwrap());
        AuditRecord { user_id: Some(user.into()), ..AuditRecord::new(kind, Severity::Low, ip, "in", START) }
    }

    #[tokio::test]
    async fn what_many_nodes_saw_of_one_user_is_noticed_once() {
        let when = json!({ "record": "AUTHENTICATION_SUCCESS", "distinct": "ip", "over": 2, "windowMs": 60_000 });
        let records = [("alice", 1), ("alice", 2), ("bob", 3), ("alice", 2), ("alice", 9)];
        let noticed = noticed(when, records.map(|(user, last)| came_in(user, &format!("192.0.2.{last}")))).await;
        assert_eq!(noticed.len(), 1);
        let record = &noticed[0];
        assert_eq!((record.reason, record.user_id.as_deref()), (Some(Reason::Behaviour), Some("alice")));
        assert_eq!((&record.metadata["rule"], &record.metadata["points"]), (&json!("places"), &json!(5.0)));
    }

    #[tokio::test]
    async fn one_session_from_two_places_is_noticed_and_a_subscriber_of_ipv6_is_one_place() {
        let when = json!({ "record": "AUTHENTICATION_SUCCESS", "distinct": "ip", "over": 1, "per": "session", "windowMs": 60_000 });
        let records = [
            ("s1", "2001:db8::1"),
            ("s1", "2001:db8::2"),
            ("s2", "192.0.2.1"),
            ("s3", "192.0.2.2"),
            ("s1", "192.0.2.1"),
        ];
        let without = ["192.0.2.3", "192.0.2.4"].map(|ip| came_in("alice", ip));
        let records = records.map(|(session, ip)| came_in("alice", ip).with("session", session));
        let noticed = noticed(when, without.into_iter().chain(records)).await;
        assert_eq!(noticed.len(), 1, "{noticed:?}");
        assert_eq!(noticed[0].metadata["session"], "s1");
    }

    #[tokio::test]
    async fn a_record_that_stands_for_many_counts_as_many() {
        let refused = || AuditRecord::refusal(Reason::TokenInvalid, [192, 0, 2, 66].into(), START);
        let mut flood: Vec<_> = (0..100).map(|_| refused()).collect();
        let when = json!({ "record": "token_invalid", "over": 1000, "per": "address", "windowMs": 600_000 });
        assert_eq!(noticed(when.clone(), flood.clone()).await.len(), 0);
        flood.push(refused().with("suppressed", 899));
        assert_eq!(noticed(when.clone(), flood.clone()).await.len(), 0, "a thousand are allowed");
        flood.push(refused());
        assert_eq!(noticed(when, flood).await.len(), 1);
    }
}
