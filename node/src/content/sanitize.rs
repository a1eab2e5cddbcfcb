//! Removing what is active: from one text, and from the string values of a JSON payload.

use std::borrow::Cow;
use std::ops::Range;

use super::strings::{self, Values};
use super::verdict::{self, Finding, Verdict};
use super::{entity, forms, html, links};

/// How often a text is rewritten before all of it is escaped.
const ROUNDS: usize = 4;
/// How much active text of one payload is rewritten; the rest is escaped: it is no message with a little too much formatting.
const REWRITTEN_BYTES_MAX: usize = 64 * 1024;

/// True if the text would run or load something when an application renders it.
pub fn is_active(text: &str) -> bool {
    verdict::of(text).is_some()
}

/// The text without what could run or load. A text that is not active is returned as it is, and so is the result of an
/// earlier call.
pub fn sanitize_text(text: &str) -> Cow<'_, str> {
    match verdict::of(text) {
        None => Cow::Borrowed(text),
        Some(verdict) => Cow::Owned(Cure::default().apply(text, verdict)),
    }
}

/// The JSON text with its active string values rewritten; every other byte stays. Keys are never rewritten, and neither is a
/// string in the byte range `keep` (the event's name).
pub fn sanitize_json(json: &str, keep: Option<Range<usize>>) -> Cow<'_, str> {
    let mut cure = Cure::default();
    let mut output = String::new();
    let mut copied = 0;
    for range in Values::of(json, keep) {
        let text = strings::decode(json.get(range.clone()).unwrap_or_default());
        if let Some(verdict) = verdict::of(&text) {
            output.push_str(json.get(copied..range.start).unwrap_or_default());
            strings::encode_into(&mut output, &cure.apply(&text, verdict));
            copied = range.end;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    output.push_str(json.get(copied..).unwrap_or_default());
    Cow::Owned(output)
}

/// True if `sanitize_json` would rewrite something.
pub fn any_active(json: &str, keep: Option<Range<usize>>) -> bool {
    Values::of(json, keep).any(|range| is_active(&strings::decode(json.get(range).unwrap_or_default())))
}

/// What may still be spent on rewriting; beyond it active texts are escaped.
struct Cure {
    bytes_left: usize,
}

impl Default for Cure {
    fn default() -> Self {
        Self { bytes_left: REWRITTEN_BYTES_MAX }
    }
}

impl Cure {
    fn apply(&mut self, text: &str, first: Verdict) -> String {
        match self.bytes_left.checked_sub(text.len()) {
            None => escaped(text),
            Some(left) => {
                self.bytes_left = left;
                rewritten(text, first).unwrap_or_else(|| escaped(text))
            }
        }
    }
}

/// The text treated until it is not active; `None` if that does not come about, or holds only as long as nobody mutates it.
fn rewritten(text: &str, first: Verdict) -> Option<String> {
    let mut current = treated(text, first);
    for _ in 1..ROUNDS {
        match verdict::of(&current) {
            Some(verdict) => current = treated(&current, verdict),
            None => return verdict::is_inert(&current).then_some(current),
        }
    }
    None
}

/// One treatment by what was found, in the form in which it was found.
fn treated(text: &str, verdict: Verdict) -> String {
    let form = verdict.form.map_or(Cow::Borrowed(text), Cow::Owned);
    match verdict.finding {
        Finding::Markup => html::rewritten(&form),
        Finding::ScriptUrl => links::without_scripts(&form),
        Finding::Excess | Finding::Breakout => escaped(&form),
    }
}

/// The last resort: no character is left that means anything to a parser, and no scheme that runs.
fn escaped(text: &str) -> String {
    let folded = forms::folded(text).map_or(Cow::Borrowed(text), Cow::Owned);
    // Character references are written out where they spell a script, so that escaping does not just postpone it.
    let decoded = entity::decode(&folded);
    let plain = if links::script(&decoded) { links::without_scripts(&decoded) } else { folded.into_owned() };
    let mut output = String::with_capacity(plain.len() + plain.len() / 4);
    for character in plain.chars() {
        match character {
            '&' => output.push_str("&amp;"),
            '<' => output.push_str("&lt;"),
            '>' => output.push_str("&gt;"),
            '"' => output.push_str("&quot;"),
            '\'' => output.push_str("&#39;"),
            '`' => output.push_str("&#96;"),
            '=' => output.push_str("&#61;"),
            '%' => output.push_str("&#37;"),
            '\\' => output.push_str("&#92;"),
            other => output.push(other),
        }
    }
    output
}
