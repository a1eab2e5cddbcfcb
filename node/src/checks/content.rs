//! Inspection 6: would a text run or load something where it is shown? Only texts that could are parsed.

use picket_shared::policy::{ContentMode, ValidationRules};
use picket_shared::reason::Reason;
use serde_json::Value;
use std::borrow::Cow;

use crate::checks::payload::Checked;
use crate::content;
use crate::inspection::{Body, Event, Payload};
use crate::refusal::Denial;

/// what the content check leaves behind
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// the payload without what could run or load, where that differs
    pub rewritten: Option<String>,
    /// what is recorded and scored, although the event passes
    pub observed: Option<Observation>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Observation {
    pub reason: Reason,
    pub detail: String,
    /// more of it, for the audit record
    pub facts: Vec<(&'static str, Value)>,
}

impl Observation {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Observation { reason, detail: detail.into(), facts: Vec::new() }
    }
}

pub fn check(rules: &ValidationRules, event: &Event<'_>, checked: Checked) -> Result<Finding, Denial> {
    if rules.content == ContentMode::Off {
        return Ok(Finding::default());
    }
    let finding = if checked.may_act { active(rules.content, event)? } else { Finding::default() };
    Ok(match finding.observed {
        None if checked.may_signal => Finding { observed: signals(event), ..finding },
        _ => finding,
    })
}

/// whether the payload has the form that its event must have
pub fn check_schema(rules: &ValidationRules, event: &Event<'_>) -> Result<(), Denial> {
    let (Some(name), Body::Json { text, payload, .. }) = (event.name, &event.body) else {
        return Ok(());
    };
    let Some(schema) = rules.schema_of(name) else {
        return Ok(());
    };
    let value = payload_of(text, *payload).ok_or_else(|| Denial::from(Reason::Malformed))?;
    schema.validate(&value).map_err(|error| {
        let place = error.instance_path().to_string();
        Denial::from(Reason::Schema).because(format!("validation.schemas.{name} at `{place}`"))
    })
}

fn payload_of(json: &str, payload: Payload) -> Option<Value> {
    match (serde_json::from_str(json).ok()?, payload) {
        (whole, Payload::Whole) => Some(whole),
        (Value::Array(mut items), Payload::Arguments) => match items.len() {
            2 => items.pop(),
            _ => Some(Value::Array(items.split_off(1))),
        },
        (_, Payload::Arguments) => None,
    }
}

/// text with active markup: rewritten, refused or only recorded, all three by the same judgement
fn active(mode: ContentMode, event: &Event<'_>) -> Result<Finding, Denial> {
    let (is_active, rewritten) = match (&event.body, mode) {
        (Body::Json { text, name_at, .. }, ContentMode::Sanitize) => {
            rewritten(content::sanitize_json(text, name_at.clone()))
        }
        (Body::Json { text, name_at, .. }, _) => (content::any_active(text, name_at.clone()), None),
        (Body::Text(text), ContentMode::Sanitize) => rewritten(content::sanitize_text(text)),
        (Body::Text(text), _) => (content::is_active(text), None),
        (Body::Opaque, _) => (false, None),
    };
    match (is_active, mode) {
        (false, _) => Ok(Finding::default()),
        (true, ContentMode::Reject) => {
            Err(Denial::from(Reason::HostileContent).because("active markup").with("setting", "validation.content"))
        }
        (true, _) => {
            let detail = if rewritten.is_some() { "active markup removed" } else { "active markup passed on" };
            let observed = Observation::new(Reason::ActiveContent, detail);
            Ok(Finding { rewritten, observed: Some(observed) })
        }
    }
}

fn rewritten(outcome: Cow<'_, str>) -> (bool, Option<String>) {
    match outcome {
        Cow::Borrowed(_) => (false, None),
        Cow::Owned(text) => (true, Some(text)),
    }
}

/// chat about SQL is normal: such text is recorded and scored a little, never refused
fn signals(event: &Event<'_>) -> Option<Observation> {
    let found = match &event.body {
        Body::Json { text, name_at, .. } => content::signals(text, name_at.clone()),
        Body::Text(text) => content::text_signals(text),
        Body::Opaque => return None,
    };
    let names: Vec<_> = found.iter().map(content::Signal::as_str).collect();
    (!names.is_empty()).then(|| Observation::new(Reason::SuspiciousContent, names.join(", ")))
}
