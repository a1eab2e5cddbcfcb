//! Is a text active, in which form and by what: the one judgement behind sanitising, rejecting and detecting.

use std::borrow::Cow;

use super::tag::Glance;
use super::{breakout, entity, forms, html, links, tag};

/// What makes a text active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// Markup that runs or loads.
    Markup,
    /// The same in a text that is not worth a parser's time.
    Excess,
    /// A script URL: the whole text, or one where a link's target stands.
    ScriptUrl,
    /// Attributes for whoever puts the text into one.
    Breakout,
}

/// A finding, and the canonical form it was made in where that is not the text itself.
pub(super) struct Verdict {
    pub(super) finding: Finding,
    pub(super) form: Option<String>,
}

pub(super) fn of(text: &str) -> Option<Verdict> {
    if is_plain(text) {
        return None;
    }
    if let Some(finding) = judge(text) {
        return Some(Verdict { finding, form: None });
    }
    forms::of(text)
        .into_iter()
        .find_map(|form| judge(&form).map(|finding| Verdict { finding, form: Some(form) }))
        .or_else(|| references_to_a_script(text))
}

/// True if no parser in no state finds anything in any form: what a rewritten text has to meet besides not being active.
pub(super) fn is_inert(text: &str) -> bool {
    let inert = |form: &str| tag::glance(form) == Glance::Inert;
    inert(text) && forms::of(text).iter().all(|form| inert(form))
}

/// The pre-filter: nothing acts without one of these bytes.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    memchr::memchr3(b'<', b':', b'=', bytes).is_none()
        && memchr::memchr3(b'%', b'\\', b'&', bytes).is_none()
        && memchr::memchr(0xEF, bytes).is_none()
}

fn judge(form: &str) -> Option<Finding> {
    markup(form).or_else(|| {
        if links::script(form) { Some(Finding::ScriptUrl) } else { breakout::acts(form).then_some(Finding::Breakout) }
    })
}

fn markup(form: &str) -> Option<Finding> {
    match tag::glance(form) {
        Glance::Inert => None,
        Glance::Flagged => (tag::first_acts(form) || html::acts(form)).then_some(Finding::Markup),
        Glance::Certain => Some(Finding::Markup),
        Glance::Excessive => Some(Finding::Excess),
    }
}

/// A script URL spelled in character references, which an attribute decodes. Markup in references is text and stays.
fn references_to_a_script(text: &str) -> Option<Verdict> {
    if memchr::memchr(b'&', text.as_bytes()).is_none()
        || !["&#", "&colon;", ":"].iter().any(|colon| text.contains(colon))
    {
        return None;
    }
    let decoded = entity::decode(text);
    if matches!(decoded, Cow::Borrowed(_)) || !links::script(&decoded) {
        return None;
    }
    Some(Verdict { finding: Finding::ScriptUrl, form: Some(decoded.into_owned()) })
}
