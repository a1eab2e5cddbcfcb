//! The one form in which texts are compared with attack patterns: decoded, folded, lower case, `/` for `\`, comments and white
//! space as single blanks.

use crate::content::forms;

/// The pre-filter: no pattern matches without a digit or one of these.
pub(super) fn may_matter(text: &str) -> bool {
    text.bytes().any(|byte| MATTERS[usize::from(byte)])
}

const MATTERS: [bool; 256] = {
    let mut matters = [false; 256];
    let mut next = 0;
    while next < BYTES_THAT_MATTER.len() {
        matters[BYTES_THAT_MATTER[next] as usize] = true;
        next += 1;
    }
    matters
};

/// 0xEF starts the fullwidth forms.
pub(in crate::content) const BYTES_THAT_MATTER: &[u8] = b"0123456789='\"();|&$`\\/%{[<#*@_\n\xEF";

pub(super) fn form(text: &str) -> String {
    let decoded = forms::of(text).pop();
    let text = decoded.as_deref().unwrap_or(text);
    let mut form = String::with_capacity(text.len());
    // A comment that nobody ends is no comment; it is looked for once.
    let comments_end = text.rfind("*/").map_or(0, |end| end + 2);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let may_end = text.len() - rest.len() < comments_end;
        let length = match comment_length(rest, may_end) {
            Some(length) => {
                blank(&mut form);
                length
            }
            None => {
                push(&mut form, first);
                first.len_utf8()
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    form
}

/// `/* … */` is a blank to SQL, and `/*! … */` is what it holds.
fn comment_length(rest: &str, may_end: bool) -> Option<usize> {
    let body = rest.strip_prefix("/*")?;
    if let Some(conditional) = body.strip_prefix('!') {
        return Some(3 + conditional.bytes().take_while(u8::is_ascii_digit).count());
    }
    may_end.then(|| body.find("*/"))?.map(|end| end + 4)
}

fn push(form: &mut String, character: char) {
    match character {
        '\n' => form.push('\n'),
        '\\' => form.push('/'),
        '‘' | '’' | '′' | '´' => form.push('\''),
        '“' | '”' => form.push('"'),
        blank_like if blank_like.is_whitespace() || blank_like.is_control() => blank(form),
        other => form.push(other.to_ascii_lowercase()),
    }
}

fn blank(form: &mut String) {
    if !form.ends_with(' ') {
        form.push(' ');
    }
}
