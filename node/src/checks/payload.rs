//! Inspection 4: size, form, depth, length of texts, known event. Pure, on the bytes at hand.

use picket_shared::policy::ValidationRules;
use picket_shared::reason::Reason;
use std::ops::Range;

use crate::content::{Bounds, Flaw, scan};
use crate::inspection::{Body, Event};
use crate::refusal::Denial;

/// what the content check has to look for in the payload's texts
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    pub may_act: bool,
    pub may_signal: bool,
}

impl Checked {
    pub const NOTHING: Checked = Checked { may_act: false, may_signal: false };
    const ANYTHING: Checked = Checked { may_act: true, may_signal: true };
}

/// whether the event may be sent at all
pub fn check_name(rules: &ValidationRules, event: &Event<'_>) -> Result<(), Denial> {
    match event.name {
        Some(name) if !rules.knows(name) => Err(Reason::UnknownEvent.into()),
        None if event.is_named_protocol && !rules.knows("") => {
            Err(Denial::from(Reason::UnknownEvent).because("the event has no name"))
        }
        _ => Ok(()),
    }
}

/// everything but the name
pub fn check_form(rules: &ValidationRules, keys_max: usize, event: &Event<'_>) -> Result<Checked, Denial> {
    if event.size > rules.payload_bytes_max {
        let detail = format!("{} bytes, validation.maxPayloadSize is {}", event.size, rules.payload_bytes_max);
        let denial = Denial::from(Reason::PayloadTooLarge).with("setting", "validation.maxPayloadSize");
        return Err(denial.with("limit", rules.payload_bytes_max).with("observed", event.size).because(detail));
    }
    if let Some(flaw) = event.flaw {
        return Err(denial(flaw));
    }
    match &event.body {
        Body::Json { text, name_at, .. } => {
            let bounds =
                Bounds { max_depth: rules.depth_max, max_keys: keys_max, max_text_chars: rules.text_chars_max };
            json(text, &bounds, name_at.clone())
        }
        Body::Text(text) if text.chars().count() > rules.text_chars_max => Err(Reason::TextTooLong.into()),
        Body::Text(_) => Ok(Checked::ANYTHING),
        Body::Opaque => Ok(Checked::NOTHING),
    }
}

/// the same where depth and length do not matter; what the codec itself could not read is not passed on unread
pub fn check_without_lengths(keys_max: usize, event: &Event<'_>) -> Result<Checked, Denial> {
    match (&event.flaw, &event.body) {
        (Some(flaw), _) => Err(Denial::from(Reason::Malformed).because(format!("{flaw:?}"))),
        (None, Body::Json { text, name_at, .. }) => {
            let bounds = Bounds { max_depth: usize::MAX, max_keys: keys_max, max_text_chars: usize::MAX };
            json(text, &bounds, name_at.clone())
        }
        (None, Body::Text(_)) => Ok(Checked::ANYTHING),
        (None, Body::Opaque) => Ok(Checked::NOTHING),
    }
}

fn json(text: &str, bounds: &Bounds, name_at: Option<Range<usize>>) -> Result<Checked, Denial> {
    let scan = scan(text, bounds, name_at).map_err(denial)?;
    Ok(Checked { may_act: scan.may_act, may_signal: scan.may_signal })
}

fn denial(flaw: Flaw) -> Denial {
    match flaw {
        Flaw::TextTooLong => Reason::TextTooLong.into(),
        Flaw::TooDeep => Reason::TooDeep.into(),
        Flaw::Malformed(rule) => Denial::from(Reason::Malformed).because(rule),
        Flaw::Hostile(rule) => Denial::from(Reason::HostileContent).because(rule),
    }
}
