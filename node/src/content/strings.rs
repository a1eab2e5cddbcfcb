//! String literals inside a valid JSON text: finding the values, decoding one, writing one.
//! Lexical and tolerant: on a text that is not JSON it finds fewer strings, and never fails.

use std::borrow::Cow;
use std::ops::Range;

/// The contents (between the quotes) of every string *value* of a JSON text, but for those lying in `keep`.
pub(super) struct Values<'a> {
    bytes: &'a [u8],
    at: usize,
    keep: Option<Range<usize>>,
}

impl<'a> Values<'a> {
    pub(super) fn of(json: &'a str, keep: Option<Range<usize>>) -> Self {
        Self { bytes: json.as_bytes(), at: 0, keep }
    }

    fn literal_from(&self, open: usize) -> Option<Range<usize>> {
        let start = open + 1;
        let mut at = start;
        loop {
            at += memchr::memchr2(b'"', b'\\', self.bytes.get(at..)?)?;
            if self.bytes.get(at) == Some(&b'"') {
                return Some(start..at);
            }
            at += 2;
        }
    }

    fn is_key(&self, close: usize) -> bool {
        let rest = self.bytes.get(close + 1..).unwrap_or_default();
        rest.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) == Some(&b':')
    }

    /// `keep` may be given with or without the quotes.
    fn is_kept(&self, content: &Range<usize>) -> bool {
        self.keep.as_ref().is_some_and(|keep| keep.start <= content.start && content.end <= keep.end)
    }
}

impl Iterator for Values<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            let open = self.at + memchr::memchr(b'"', self.bytes.get(self.at..)?)?;
            let content = self.literal_from(open)?;
            self.at = content.end + 1;
            if !self.is_key(content.end) && !self.is_kept(&content) {
                return Some(content);
            }
        }
    }
}

/// Every string value of a JSON text, decoded, in the order in which they stand there.
pub(crate) fn texts(json: &str) -> impl Iterator<Item = Cow<'_, str>> {
    Values::of(json, None).filter_map(|content| json.get(content)).map(decode)
}

/// The text that a literal's content stands for. What is no valid escape stays as it is.
pub(super) fn decode(content: &str) -> Cow<'_, str> {
    if memchr::memchr(b'\\', content.as_bytes()).is_none() {
        return Cow::Borrowed(content);
    }
    let mut text = String::with_capacity(content.len());
    let mut rest = content;
    while let Some(backslash) = memchr::memchr(b'\\', rest.as_bytes()) {
        let (plain, escape) = rest.split_at(backslash);
        text.push_str(plain);
        let (character, length) = unescape(escape);
        text.push(character);
        rest = escape.get(length..).unwrap_or_default();
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The character of the escape that `text` starts with, and the escape's length in bytes.
fn unescape(text: &str) -> (char, usize) {
    match text.as_bytes().get(1) {
        Some(b'n') => ('\n', 2),
        Some(b't') => ('\t', 2),
        Some(b'r') => ('\r', 2),
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(b'u') => unescape_unicode(text),
        Some(byte @ (b'"' | b'\\' | b'/')) => (char::from(*byte), 2),
        _ => ('\\', 1),
    }
}

fn unescape_unicode(text: &str) -> (char, usize) {
    let unit = |start: usize| text.get(start..start + 4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
    let Some(first) = unit(2) else { return ('\\', 1) };
    if let Some(character) = char::from_u32(u32::from(first)) {
        return (character, 6);
    }
    let second = if text.get(6..8) == Some("\\u") { unit(8) } else { None };
    let pair = [first, second.unwrap_or_default()];
    match char::decode_utf16(pair).next() {
        Some(Ok(character)) => (character, 12),
        _ => (char::REPLACEMENT_CHARACTER, 6),
    }
}

/// Appends `text` as the content of a literal.
pub(crate) fn encode_into(json: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            control if control < ' ' => json.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => json.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(json: &str) -> Vec<&str> {
        Values::of(json, None).filter_map(|range| json.get(range)).collect()
    }

    #[test]
    fn p04_values_are_found_and_keys_are_not() {
        assert_eq!(values(r#"{"a" : "x", "b\"": ["y", {"c":"z"}], "d": 1}"#), ["x", "y", "z"]);
        assert_eq!(values(r#""alone""#), ["alone"]);
        assert_eq!(values(r#"{"open"#), [""; 0]);
    }

    #[test]
    fn p04_the_event_name_is_kept_with_and_without_its_quotes() {
        let json = r#"["name","text"]"#;
        for keep in [1..7, 2..6] {
            let left: Vec<_> = Values::of(json, Some(keep)).filter_map(|range| json.get(range)).collect();
            assert_eq!(left, ["text"]);
        }
    }

    #[test]
    fn p04_decoding_and_encoding_agree_with_serde_json() {
        for text in ["plain", "a\"b\\c/\n\r\t\u{8}\u{c}\u{0}\u{1f}", "😀 é \u{2028}"] {
            let literal = serde_json::to_string(text).unwrap();
            assert_eq!(decode(&literal[1..literal.len() - 1]), text);
            let mut own = String::from("\"");
            encode_into(&mut own, text);
            own.push('"');
            assert_eq!(serde_json::from_str::<String>(&own).unwrap(), text);
        }
        assert_eq!(decode(r"\ud83d\ude00\u003c"), "😀<");
        assert_eq!(decode(r"\ud83d \u12"), "\u{fffd} \\u12");
    }
}
