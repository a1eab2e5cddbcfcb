//! A conversation where one message is one event: `json`, `text` and `opaque` routes.

use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use serde_json::json;
use std::sync::Arc;
use tokio_tungstenite::tungstenite::Message;

use super::presence::Presence;
use super::step::{Step, Violations, record};
use crate::admission::Admitted;
use crate::attempt::Attempt;
use crate::config::Protocol;
use crate::decide::{self, Case, Stage};
use crate::gate::Gate;
use crate::inspection::{Body, Event, Payload, Rates, Speaker, inspect};
use crate::protocol::locate;
use crate::refusal::Denial;
use crate::route::Route;

pub struct Plain {
    pub admitted: Admitted,
    _presence: Presence,
    route: Arc<Route>,
    rates: Rates,
    violations: Violations,
}

impl Plain {
    pub fn new(admitted: Admitted, presence: Presence, route: Arc<Route>) -> Self {
        Plain { admitted, _presence: presence, route, rates: Rates::default(), violations: Violations::default() }
    }

    pub async fn client_says(&mut self, gate: &Gate, attempt: &Attempt, message: &Message, now: Timestamp) -> Step {
        let (named, flaw) = match (self.route.protocol, message) {
            (Protocol::Json, Message::Text(text)) => match locate(text, &self.route.event_field) {
                Ok(named) => (named, None),
                Err(flaw) => (None, Some(flaw)),
            },
            _ => (None, None),
        };
        let name = named.as_ref().map(|named| named.name.as_ref());
        let case = Case {
            principal: Some(&self.admitted.principal),
            event: name,
            message: Some(message),
            ..Case::of(attempt, Stage::Inspection)
        };
        let body = match (self.route.protocol, message) {
            (Protocol::Json, Message::Text(text)) => {
                let name_at = named.as_ref().map(|named| named.at.clone());
                Body::Json { text, name_at, payload: Payload::Whole, packed_at: None }
            }
            (Protocol::Text, Message::Text(text)) => Body::Text(text),
            (Protocol::Opaque, Message::Text(_) | Message::Binary(_)) => Body::Opaque,
            _ => {
                let denial = decide::refuse(gate, case, Reason::TypeNotAllowed);
                return self.violations.refused(gate, denial, Vec::new());
            }
        };
        let too_long = name.is_some_and(|name| name.len() > gate.limits.identifier_bytes_max);
        let event = Event {
            frame: message,
            size: message.len(),
            name,
            is_named_protocol: self.route.protocol == Protocol::Json,
            flaw: if too_long { Some("event name too long") } else { flaw },
            body,
        };
        let mut speaker =
            Speaker { principal: &self.admitted.principal, address: attempt.address, rates: &mut self.rates };
        let outcome = inspect(gate, &mut speaker, &event, now).await;
        match record(gate, case, outcome) {
            Ok(cleared) => Step::Forward(cleared),
            Err(denial) => {
                let answers = self.answer(&denial, name).into_iter().collect();
                self.violations.refused(gate, denial, answers)
            }
        }
    }

    /// only a JSON route has a form for an answer
    fn answer(&self, denial: &Denial, event: Option<&str>) -> Option<Message> {
        let answer = json!({
            "type": "error",
            "event": event,
            "reason": denial.reason.token(),
            "message": denial.reason.consequence().message,
            "retryAfterMs": denial.retry_after_ms(),
        });
        (self.route.protocol == Protocol::Json).then(|| Message::text(answer.to_string()))
    }
}
