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
        let names = [record.reason.map(Reason::token), Some(record.event_type.as_str())];
        for name in names.into_iter().flatten() {
            let deed = Deed { name, user, address };
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
        self.outbox.record(AuditRecord { node: Some(self.id.clone()), user_id: last.user_id.clone(), ..record });
    }
}

/// what `distinct` may name
fn field(record: &AuditRecord, name: &str) -> Option<String> {
    match name {
        "ip" => Some(record.ip.to_string()),
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

    #[tokio::test]
    async fn what_many_nodes_saw_of_one_user_is_noticed_once() {
        let mut policy = Policy::default();
        policy.security.behaviour = serde_json::from_value(json!([
            { "name": "places", "when": { "record": "AUTHENTICATION_SUCCESS", "distinct": "ip", "over": 2, "windowMs": 60_000 }, "then": "block" },
        ]))
        .unwrap();
        let (outbox, clock) = (Outbox::default(), Arc::new(ManualClock::at(START)));
        let policy = LivePolicy::starting_with(policy, Environment::Production).unwrap();
        let behaviour = Behaviour {
            id: "c1".into(),
            policy,
            outbox: outbox.clone(),
            clock: clock.clone(),
            watch: Watch::default(),
        };
        for (user, last) in [("alice", 1), ("alice", 2), ("bob", 3), ("alice", 2), ("alice", 9)] {
            let record = AuditRecord::new(
                EventType::AuthenticationSuccess,
                Severity::Low,
                [192, 0, 2, last].into(),
                "in",
                START,
            );
            behaviour.observe(&AuditRecord { user_id: Some(user.into()), ..record });
        }
        let state = State::memory();
        outbox.deliver(state.audit.clone(), clock, std::future::ready(())).await;
        let noticed = state.audit.read(10, Duration::ZERO).await.unwrap();
        assert_eq!(noticed.len(), 1);
        let record = &noticed[0].1;
        assert_eq!((record.reason, record.user_id.as_deref()), (Some(Reason::Behaviour), Some("alice")));
        assert_eq!((&record.metadata["rule"], &record.metadata["points"]), (&json!("places"), &json!(5.0)));
        behaviour.observe(record);
    }
}
