//! The form in which a refused message is answered: a JSON template, so that an application's own protocol can say no in its words.
//!
//! A text of the template that is one slot in braces is replaced: `{reason}`, `{message}`, `{event}`, `{retryAfterMs}`, `{appeal}`, or a
//! JSON pointer into the refused message (`{/id}`). Of the message only a short scalar is told again.

use picket_shared::appeal::AppealCode;
use serde_json::{Value, json};

use super::{EventField, find};

/// what a slot can be filled with
#[derive(Debug)]
pub struct Refused<'a> {
    pub reason: &'static str,
    pub message: &'static str,
    pub event: Option<&'a str>,
    pub retry_after_ms: Option<u64>,
    /// by which its audit record is found
    pub appeal: Option<AppealCode>,
    /// the message that was refused
    pub json: &'a str,
}

/// a template whose slots are known
#[derive(Clone, Debug, PartialEq)]
pub struct RefusalForm(Value);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not one of {{reason}}, {{message}}, {{event}}, {{retryAfterMs}}, {{appeal}} and a JSON pointer such as {{/id}}"
)]
pub struct RefusalFormError(String);

/// bytes of a value of the message that an answer repeats
const REPEATED_BYTES_MAX: usize = 256;

enum Slot<'a> {
    Reason,
    Message,
    Event,
    RetryAfterMs,
    Appeal,
    /// into the refused message
    Pointer(&'a str),
}

impl<'a> Slot<'a> {
    /// `None`: a text of its own
    fn parse(text: &'a str) -> Option<Result<Self, RefusalFormError>> {
        let name = text.strip_prefix('{')?.strip_suffix('}')?;
        Some(match name {
            "reason" => Ok(Slot::Reason),
            "message" => Ok(Slot::Message),
            "event" => Ok(Slot::Event),
            "retryAfterMs" => Ok(Slot::RetryAfterMs),
            "appeal" => Ok(Slot::Appeal),
            pointer if pointer.starts_with('/') => Ok(Slot::Pointer(pointer)),
            _ => Err(RefusalFormError(text.to_owned())),
        })
    }

    /// `None` if the message lacks what the pointer names
    fn fill(&self, refused: &Refused<'_>) -> Option<Value> {
        match self {
            Slot::Reason => Some(refused.reason.into()),
            Slot::Message => Some(refused.message.into()),
            Slot::Event => Some(refused.event.into()),
            Slot::RetryAfterMs => Some(refused.retry_after_ms.into()),
            Slot::Appeal => Some(refused.appeal.map(|code| code.to_string()).into()),
            Slot::Pointer(pointer) => {
                let value = find(refused.json, &EventField::parse(pointer))?;
                let is_short_scalar = value.len() <= REPEATED_BYTES_MAX && !value.starts_with(['{', '[']);
                serde_json::from_str(value).ok().filter(|_| is_short_scalar)
            }
        }
    }
}

impl RefusalForm {
    pub fn parse(template: &Value) -> Result<Self, RefusalFormError> {
        check(template)?;
        Ok(RefusalForm(template.clone()))
    }

    /// the contract's own form
    pub fn of_json_routes() -> Self {
        RefusalForm(json!({
            "type": "error",
            "event": "{event}",
            "reason": "{reason}",
            "message": "{message}",
            "retryAfterMs": "{retryAfterMs}",
            "appeal": "{appeal}",
        }))
    }

    /// the answer; none to a message that lacks what a pointer names, since its sender could not tell what it answers
    pub fn fill(&self, refused: &Refused<'_>) -> Option<Value> {
        fill(&self.0, refused)
    }
}

fn check(template: &Value) -> Result<(), RefusalFormError> {
    match template {
        Value::String(text) => Slot::parse(text).map_or(Ok(()), |slot| slot.map(drop)),
        Value::Array(items) => items.iter().try_for_each(check),
        Value::Object(members) => members.values().try_for_each(check),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn fill(template: &Value, refused: &Refused<'_>) -> Option<Value> {
    match template {
        Value::String(text) => match Slot::parse(text) {
            Some(slot) => slot.ok()?.fill(refused),
            None => Some(template.clone()),
        },
        Value::Array(items) => items.iter().map(|item| fill(item, refused)).collect(),
        Value::Object(members) => {
            let filled = members.iter().map(|(key, value)| Some((key.clone(), fill(value, refused)?)));
            filled.collect::<Option<_>>().map(Value::Object)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(template.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> Refused<'_> {
        Refused {
            reason: "burst",
            message: "too many events",
            event: Some("subscribe"),
            retry_after_ms: Some(70),
            appeal: AppealCode::parse("00000-00000"),
            json,
        }
    }

    fn filled(template: Value, json: &str) -> Option<Value> {
        RefusalForm::parse(&template).unwrap().fill(&refused(json))
    }

    #[test]
    fn slots_are_filled_with_values_of_their_own_type() {
        let template = json!({ "id": "{/id}", "error": { "code": "{reason}", "data": ["{retryAfterMs}", "{event}", "{appeal}", "{x"] } });
        assert_eq!(
            filled(template, r#"{"id":7}"#),
            Some(json!({ "id": 7, "error": { "code": "burst", "data": [70, "subscribe", "00000-00000", "{x"] } }))
        );
    }

    #[test]
    fn nothing_answers_a_message_that_lacks_what_a_pointer_names() {
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(300));
        for json in ["{}", "null", "not json", r#"{"id":{"a":1}}"#, r#"{"id":[1]}"#, r#"{"id":tru}"#, &long] {
            assert_eq!(filled(json!({ "id": "{/id}" }), json), None, "{json}");
        }
        assert_eq!(filled(json!("{reason}"), "not json"), Some(json!("burst")));
    }

    #[test]
    fn an_unknown_slot_is_a_mistake_wherever_it_stands() {
        for template in [json!("{cause}"), json!([{ "a": ["{}"] }]), json!({ "a": { "b": "{id}" } })] {
            assert!(RefusalForm::parse(&template).is_err(), "{template}");
        }
        assert!(RefusalForm::parse(&json!({ "{cause}": "in {braces} within a text" })).is_ok());
    }
}
