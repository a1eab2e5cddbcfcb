//! A conversation where one message is one event: `json`, `msgpack`, `text` and `opaque` routes.

use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use std::borrow::Cow;
use std::sync::Arc;
use tokio_tungstenite::tungstenite::Message;

use super::presence::Presence;
use super::step::{Step, Violations, record};
use crate::admission::Admitted;
use crate::attempt::Attempt;
use crate::config::Protocol;
use crate::content::Flaw;
use crate::decide::{self, Case, Stage};
use crate::gate::Gate;
use crate::inspection::{Body, Event, Payload, Rates, Speaker, inspect, timed};
use crate::pardons::Pardons;
use crate::protocol::{Refused, locate, msgpack};
use crate::refusal::Denial;
use crate::route::Route;
use crate::stopwatch::Stopwatch;

/// stands for a message that cannot be read, of which the checks are told the flaw
const UNREADABLE: &str = "null";

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
        let document = self.document(message);
        let json = document.as_ref().map(|document| document.as_deref().unwrap_or(UNREADABLE));
        let (named, flaw) = match &document {
            Some(Ok(json)) => match locate(json, &self.route.event_field) {
                Ok(named) => (named, None),
                Err(flaw) => (None, Some(Flaw::Malformed(flaw))),
            },
            Some(Err(flaw)) => (None, Some(*flaw)),
            None => (None, None),
        };
        let name = named.as_ref().map(|named| named.name.as_ref());
        let case = Case {
            principal: Some(&self.admitted.principal),
            event: name,
            message: Some(message),
            ..Case::of(attempt, Stage::Inspection)
        };
        let body = match (self.route.protocol, message, json) {
            (_, _, Some(text)) => Body::Json {
                text,
                name_at: named.as_ref().map(|named| named.at.clone()),
                payload: Payload::Whole,
                packed_at: matches!(message, Message::Binary(_)).then(|| 0..message.len()),
            },
            (Protocol::Text, Message::Text(text), None) => Body::Text(text),
            (Protocol::Opaque, Message::Text(_) | Message::Binary(_), None) => Body::Opaque,
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
            is_named_protocol: json.is_some(),
            flaw: if too_long { Some(Flaw::Malformed("event name too long")) } else { flaw },
            body,
        };
        let mut speaker =
            Speaker { principal: &self.admitted.principal, address: attempt.address, rates: &mut self.rates };
        let mut pardons = Pardons::by(gate);
        let stopwatch = Stopwatch::of_inspection(now);
        let outcome = inspect(gate, &mut speaker, &event, &mut pardons, now).await;
        stopwatch.stop(gate);
        match record(gate, case, outcome, pardons, &mut self.violations.pardoned) {
            Ok(cleared) => Step::Forward(cleared),
            Err(denial) => {
                let answers = self.answer(&denial, name, json.unwrap_or_default()).into_iter().collect();
                self.violations.refused(gate, denial, answers)
            }
        }
    }

    /// the JSON that a message is or, in MessagePack, stands for; `None` where the route's messages are none
    fn document<'m>(&mut self, message: &'m Message) -> Option<Result<Cow<'m, str>, Flaw>> {
        match (self.route.protocol, message) {
            (Protocol::Json, Message::Text(text)) => Some(Ok(Cow::Borrowed(text))),
            (Protocol::MsgPack, Message::Binary(bytes)) => {
                let json = timed(&mut self.rates.inspection, bytes.len(), || msgpack::to_json(bytes));
                Some(json.map(Cow::Owned).map_err(Flaw::from))
            }
            _ => None,
        }
    }

    fn answer(&self, denial: &Denial, event: Option<&str>, json: &str) -> Option<Message> {
        let answer = self.route.refusal.as_ref()?.fill(&Refused {
            reason: denial.reason.token(),
            message: denial.reason.consequence().message,
            event,
            retry_after_ms: denial.retry_after_ms(),
            appeal: denial.appeal,
            json,
        })?;
        match self.route.protocol {
            Protocol::MsgPack => rmp_serde::to_vec_named(&answer).ok().map(Message::binary),
            _ => Some(Message::text(answer.to_string())),
        }
    }
}
