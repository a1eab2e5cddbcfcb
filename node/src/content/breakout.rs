//! A text that is put between the quotes of an attribute without escaping: it acts if it ends the value and goes on with
//! attributes of its own, up to an event handler with code in it.
//!
//! The rule needs attribute syntax from the quote to the handler without a gap, so that prose with quotes and an equals sign
//! in it stays what it is: `she said "hello" and x=f(1)` ends the value too, but goes on with words.

use super::entity;
use super::tag;
use super::url::{self, Place};

/// Attributes that are written without a value.
const BARE: &[&str] = &[
    "autofocus",
    "autoplay",
    "checked",
    "contenteditable",
    "controls",
    "default",
    "disabled",
    "draggable",
    "hidden",
    "loop",
    "muted",
    "open",
    "readonly",
    "required",
    "selected",
];
/// How many attributes may stand before the handler.
const ATTRIBUTES_MAX: usize = 8;

pub(super) fn acts(text: &str) -> bool {
    let bytes = text.as_bytes();
    if memchr::memchr(b'=', bytes).is_none() {
        return false;
    }
    [b'"', b'\''].iter().filter_map(|quote| memchr::memchr(*quote, bytes)).any(|quote| attributes_act(text, quote + 1))
        || starts_with_handler(text)
}

/// In an unquoted place the text itself begins with the handler. Code begins like that too (`onmessage = (e) => f(e)`), but
/// with blanks around the sign, a brace or an arrow.
fn starts_with_handler(text: &str) -> bool {
    let Some(attribute) = tag::attribute(text, 0) else { return false };
    let tight = text.trim_start().get(attribute.name.len()..).and_then(|rest| rest.strip_prefix('='));
    let is_code = tight.is_none_or(|value| value.starts_with([' ', '{']))
        || attribute.value.contains("=>")
        || attribute.value.ends_with('=');
    !is_code && is_handler(attribute.name, attribute.value)
}

fn attributes_act(text: &str, start: usize) -> bool {
    let mut at = start;
    for _ in 0..ATTRIBUTES_MAX {
        let Some(attribute) = tag::attribute(text, at) else { return false };
        if is_handler(attribute.name, attribute.value) || is_script_link(attribute.name, attribute.value) {
            return true;
        }
        if !attribute.assigned && !is_bare(attribute.name) {
            return false;
        }
        at = attribute.next;
    }
    false
}

fn is_bare(name: &str) -> bool {
    BARE.iter().any(|bare| bare.eq_ignore_ascii_case(name))
        || !name.contains(|character: char| character.is_alphanumeric())
}

fn is_handler(name: &str, value: &str) -> bool {
    let event = name.get(..2).filter(|prefix| prefix.eq_ignore_ascii_case("on")).and(name.get(2..)).unwrap_or_default();
    event.len() >= 3 && event.bytes().all(|byte| byte.is_ascii_alphabetic()) && is_code(&entity::decode(value))
}

fn is_script_link(name: &str, value: &str) -> bool {
    matches!(name.to_ascii_lowercase().as_str(), "href" | "src" | "formaction" | "action")
        && url::runs(&entity::decode(value), Place::Link)
}

fn is_code(value: &str) -> bool {
    value.contains(['(', '`', '='])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p10_texts_that_break_out_of_an_attribute_act() {
        for text in [
            "\" onmouseover=alert(1) x=\"",
            "' autofocus onfocus='f()",
            "x\"onclick=\"f`1`",
            "onload=f(1)>",
            "\"//OnX=\"\"//onfocus=f(1)",
            "\" style=x onclick=\"a=b\"",
            "\" href=javascript:f",
        ] {
            assert!(acts(text), "{text}");
        }
    }

    #[test]
    fn p11_quoted_prose_and_code_do_not() {
        for text in [
            "she said \"hello\" and x=f(1)",
            "it's on=off",
            "once = (a)",
            "let x = \"a\"; on(b)",
            "width=\"5\" height=\"6\"",
            "online=yes",
            "on=f()",
            "onmessage = (e) => f(e)",
            "onClick={() => f(1)}",
            "onload = function () {}",
            "onchange=(e)=>f(e)",
            "the \"on\" state = (1)",
            "{\"a\": \"b\"} = f(c)",
        ] {
            assert!(!acts(text), "{text}");
        }
    }
}
