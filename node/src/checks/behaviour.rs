//! Inspection, last: is this event one too many for a rule over what somebody does on all sockets? It passes in any case; what is
//! noticed goes on the record. Memory only, and nothing where no rule watches the event.

use picket_shared::address::AddressKey;
use picket_shared::behaviour::{Deed, Watch};
use picket_shared::clock::Timestamp;
use picket_shared::policy::BehaviourRule;
use picket_shared::reason::Reason;
use serde_json::value::RawValue;

use crate::checks::content::Observation;
use crate::checks::message_rate::Sender;
use crate::inspection::{Body, Event, Payload};
use crate::protocol::{EventField, find};

pub fn check(
    watch: &Watch,
    rules: &[BehaviourRule],
    sender: &Sender<'_>,
    event: &Event<'_>,
    now: Timestamp,
) -> Vec<Observation> {
    let Some(name) = event.name.filter(|_| !rules.is_empty()) else {
        return Vec::new();
    };
    let user = sender.principal.user();
    let deed = Deed {
        name,
        user: user.map(|user| &*user.id),
        session: user.and_then(|user| user.session.as_deref()),
        address: AddressKey::of(sender.address),
        times: 1,
    };
    let noticed = watch.see(rules, &deed, |pointer| value(event, pointer), now);
    noticed.into_iter().map(observation).collect()
}

fn observation(rule: &BehaviourRule) -> Observation {
    let window_ms = u64::try_from(rule.window.as_millis()).unwrap_or(u64::MAX);
    Observation {
        reason: Reason::Behaviour,
        detail: format!("security.behaviour: {}", rule.name),
        facts: vec![
            ("rule", rule.name.as_str().into()),
            ("points", rule.points.into()),
            ("limit", rule.over.into()),
            ("windowMs", window_ms.into()),
        ],
    }
}

/// what stands in the payload there; of several arguments, in the first
fn value<'a>(event: &Event<'a>, pointer: &str) -> Option<&'a str> {
    let Body::Json { text, payload, .. } = &event.body else { return None };
    let text: &'a str = text;
    let argument = match payload {
        Payload::Whole => text,
        Payload::Arguments => serde_json::from_str::<Vec<&'a RawValue>>(text).ok()?.get(1)?.get(),
    };
    find(argument, &EventField::parse(pointer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::policy::{Environment, Policy, Rules};
    use picket_shared::token::Principal;
    use serde_json::json;
    use tokio_tungstenite::tungstenite::Message;

    fn noticed(payload: Payload, texts: impl IntoIterator<Item = String>) -> usize {
        let mut policy = Policy::default();
        policy.security.behaviour = serde_json::from_value(json!([
            { "name": "rooms", "when": { "event": "join", "distinct": "/at/room", "over": 2, "windowMs": 60_000 } },
        ]))
        .unwrap();
        let rules = Rules::compile(policy, Environment::Production).unwrap().behaviour.events;
        let (watch, frame) = (Watch::default(), Message::text(""));
        let sender = Sender { principal: &Principal::Anonymous, address: [192, 0, 2, 1].into() };
        let see = |text: String| {
            let body = Body::Json { text: &text, name_at: None, payload, packed_at: None };
            let event = Event { frame: &frame, size: 0, name: Some("join"), is_named_protocol: true, flaw: None, body };
            check(&watch, &rules, &sender, &event, Timestamp::from_millis(1)).len()
        };
        texts.into_iter().map(see).sum()
    }

    #[test]
    fn the_value_is_found_in_the_message_or_in_its_first_argument() {
        let plain = |room: &str| format!(r#"{{"type":"join","at":{{"room":{room}}}}}"#);
        assert_eq!(noticed(Payload::Whole, ["1", "2", "1", "2"].map(plain)), 0);
        assert_eq!(noticed(Payload::Whole, ["1", "2", r#""2""#].map(plain)), 1);
        let event = |room: &str| format!(r#"["join",{{"at":{{"room":{room}}}}},"more"]"#);
        assert_eq!(noticed(Payload::Arguments, ["1", "2", "3"].map(event)), 1);
        assert_eq!(noticed(Payload::Arguments, ["[\"join\"]", "[", "{}", "[1,2]"].map(str::to_owned)), 0);
    }
}
