//! Script URLs in a text that is no markup: where applications make a link of it. That is at its start (the text is the URL),
//! as the target of a Markdown link, as an autolink, and as a quoted or bare value in code or JSON (`"url":"javascript:…"`).
//! Prose that only speaks of them (`try javascript:alert(1)`) stays as it is.

use super::url::{self, Place};

/// True if a script URL stands where a link's target does.
pub(super) fn script(text: &str) -> bool {
    memchr::memchr(b':', text.as_bytes()).is_some() && targets(text).any(|start| runs_at(text, start))
}

/// The text without the schemes that make its links run.
pub(super) fn without_scripts(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let mut copied = 0;
    for start in targets(text) {
        if start < copied || !runs_at(text, start) {
            continue;
        }
        output.push_str(text.get(copied..start).unwrap_or_default());
        let mut rest = text.get(start..).unwrap_or_default();
        while let Some(body) = url::script_body(rest, Place::Prose) {
            rest = body;
        }
        copied = text.len() - rest.len();
    }
    output.push_str(text.get(copied..).unwrap_or_default());
    output
}

fn runs_at(text: &str, start: usize) -> bool {
    text.get(start..).is_some_and(|target| url::runs(target, Place::Prose))
}

/// Where a link's target may begin.
fn targets(text: &str) -> impl Iterator<Item = usize> {
    let bytes = text.as_bytes();
    let first = std::iter::once(0);
    let inner = bytes.iter().enumerate().filter_map(move |(at, byte)| opens_target(bytes, at, *byte).then_some(at + 1));
    first.chain(inner)
}

/// `<url`, `](url`, `]:url`, `=url`, and a quote right after the punctuation of code.
fn opens_target(bytes: &[u8], at: usize, byte: u8) -> bool {
    let before = || at.checked_sub(1).and_then(|before| bytes.get(before));
    let follows = || bytes.get(at + 1).is_some_and(|next| !matches!(next, b'<' | b'>' | b'=' | b':'));
    match byte {
        b'<' | b'=' => follows(),
        b'(' | b':' => before() == Some(&b']'),
        b'"' | b'\'' => matches!(before(), Some(b'(' | b':' | b'=' | b',' | b'[' | b'{')),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p09_links_to_scripts_are_found_and_undone() {
        for (text, expected) in [
            ("javascript:alert(1)", "alert(1)"),
            ("[click](javascript:alert(1))", "[click](alert(1))"),
            ("[a]: javascript:alert(1)", "[a]:alert(1)"),
            ("<javascript:alert(1)>", "<alert(1)>"),
            ("{\"url\":\"javascript:javascript:f()\"}", "{\"url\":\"f()\"}"),
            ("x=javascript:f() y='javascript:g()'", "x=f() y='g()'"),
        ] {
            assert!(script(text), "{text}");
            assert_eq!(without_scripts(text), expected);
        }
    }

    #[test]
    fn p11_speaking_of_scripts_is_no_link() {
        for text in [
            "try javascript:alert(1)",
            "JavaScript: The Good Parts",
            "[a](https://b.c)",
            "a: b = c",
            "\"javascript:f()\" is a URL",
        ] {
            assert!(!script(text), "{text}");
        }
    }
}
