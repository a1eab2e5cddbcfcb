//! Inspection 4: size, form, depth, length of texts, known event. Pure, on the bytes at hand.

use picket_shared::policy::ValidationRules;
use picket_shared::reason::Reason;

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
    const NOTHING: Checked = Checked { may_act: false, may_signal: false };
    const ANYTHING: Checked = Checked { may_act: true, may_signal: true };
}

pub fn check(rules: &ValidationRules, keys_max: usize, event: &Event<'_>) -> Result<Checked, Denial> {
    let checked = check_form(rules, keys_max, event)?;
    match event.name {
        Some(name) if !rules.knows(name) => Err(Reason::UnknownEvent.into()),
        None if event.is_named_protocol && !rules.knows("") => {
            Err(Denial::from(Reason::UnknownEvent).because("the event has no name"))
        }
        _ => Ok(checked),
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
            let scan = scan(text, &bounds, name_at.clone()).map_err(denial)?;
            Ok(Checked { may_act: scan.may_act, may_signal: scan.may_signal })
        }
        Body::Text(text) if text.chars().count() > rules.text_chars_max => Err(Reason::TextTooLong.into()),
        Body::Text(_) => Ok(Checked::ANYTHING),
        Body::Opaque => Ok(Checked::NOTHING),
    }
}

fn denial(flaw: Flaw) -> Denial {
    match flaw {
        Flaw::TextTooLong => Reason::TextTooLong.into(),
        Flaw::TooDeep => Reason::TooDeep.into(),
        Flaw::Malformed(rule) => Denial::from(Reason::Malformed).because(rule),
        Flaw::Hostile(rule) => Denial::from(Reason::HostileContent).because(rule),
    }
}
