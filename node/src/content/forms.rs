//! The canonical forms in which a text is judged besides its own: as a back end sees it that drops controls and invisible
//! characters and folds look-alikes (NFKC), and as one that decodes URL or JavaScript escapes once more, or twice.
//! A form is for detection; it is delivered only when it has to be rewritten.

use unicode_normalization::char::decompose_compatible;

/// How often escapes are decoded.
const DECODINGS: usize = 2;

/// The forms of `text` that differ from it.
pub(super) fn of(text: &str) -> Vec<String> {
    let mut forms: Vec<String> = folded(text).into_iter().collect();
    for _ in 0..DECODINGS {
        let Some(decoded) = unescaped(forms.last().map_or(text, String::as_str)) else { break };
        forms.push(folded(&decoded).unwrap_or(decoded));
    }
    forms
}

/// Without controls and invisible characters, and with every character that is compatible with ASCII as ASCII.
pub(super) fn folded(text: &str) -> Option<String> {
    if text.bytes().all(is_plain) {
        return None;
    }
    text.chars().any(|character| !matches!(fold(character), Fold::Same)).then(|| {
        let mut form = String::with_capacity(text.len());
        for character in text.chars() {
            match fold(character) {
                Fold::Same => form.push(character),
                Fold::Nothing => {}
                Fold::Ascii => decompose_compatible(character, |part| form.push(part)),
            }
        }
        form
    })
}

/// folded to itself, as most bytes are
fn is_plain(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\r' | 0xC | b' '..=b'~')
}

enum Fold {
    Same,
    Nothing,
    Ascii,
}

fn fold(character: char) -> Fold {
    match character {
        '\t' | '\n' | '\r' | '\u{c}' | ' '..='~' => Fold::Same,
        '\0'..='\u{1f}'
        | '\u{7f}'..='\u{9f}'
        | '\u{ad}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2060}'..='\u{2064}'
        | '\u{feff}' => Fold::Nothing,
        // Greek to Georgian, and the ideographs and syllables of East Asia, have no ASCII look-alikes.
        '\u{300}'..='\u{1cff}' | '\u{3040}'..='\u{faff}' => Fold::Same,
        other => {
            let mut ascii = true;
            decompose_compatible(other, |part| ascii &= part.is_ascii());
            if ascii { Fold::Ascii } else { Fold::Same }
        }
    }
}

/// With `%3c`, `%u003c`, `\x3c`, `\u003c`, `\u{3c}` and form-encoded blanks decoded, overlong UTF-8 too.
fn unescaped(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let plus = memchr::memchr(b'+', bytes).is_some() && memchr::memchr(b'<', bytes).is_some();
    if !plus && memchr::memchr2(b'%', b'\\', bytes).is_none() {
        return None;
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    let mut changed = plus;
    while let Some((first, tail)) = rest.split_first() {
        if let Some((code, length)) = escape(rest) {
            changed = true;
            push(&mut decoded, code);
            rest = rest.get(length..).unwrap_or_default();
        } else {
            decoded.push(if *first == b'+' { b' ' } else { *first });
            rest = tail;
        }
    }
    changed.then(|| text_of(decoded))
}

fn text_of(bytes: Vec<u8>) -> String {
    let is_overlong = memchr::memchr3(0xC0, 0xC1, 0xE0, &bytes).is_some();
    let bytes = if is_overlong { without_overlong(&bytes) } else { bytes };
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

enum Code {
    Byte(u8),
    Character(u32),
}

fn push(decoded: &mut Vec<u8>, code: Code) {
    match code {
        Code::Byte(byte) => decoded.push(byte),
        Code::Character(code) => {
            let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
            decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

/// The escape that the bytes start with, and its length.
fn escape(bytes: &[u8]) -> Option<(Code, usize)> {
    match bytes {
        [b'%', b'u' | b'U', ..] | [b'\\', b'u', ..] => {
            if bytes.get(2) == Some(&b'{') {
                let length = bytes.iter().take(10).position(|byte| *byte == b'}')?;
                return Some((Code::Character(hexadecimal(bytes.get(3..length)?)?), length + 1));
            }
            Some((Code::Character(hexadecimal(bytes.get(2..6)?)?), 6))
        }
        [b'\\', quote @ (b'"' | b'\'' | b'/' | b'`'), ..] => Some((Code::Byte(*quote), 2)),
        [b'\\', b'x', ..] => Some((Code::Byte(u8::try_from(hexadecimal(bytes.get(2..4)?)?).ok()?), 4)),
        [b'%', ..] => Some((Code::Byte(u8::try_from(hexadecimal(bytes.get(1..3)?)?).ok()?), 3)),
        _ => None,
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0, |code: u32, digit| Some(code * 16 + char::from(*digit).to_digit(16)?))
}

/// ASCII spelled in two or three bytes, as one byte.
fn without_overlong(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        let (byte, remaining) = match rest {
            [lead @ (0xC0 | 0xC1), next @ 0x80..=0xBF, remaining @ ..] => ((lead & 1) << 6 | next & 0x3F, remaining),
            [0xE0, lead @ (0x80 | 0x81), next @ 0x80..=0xBF, remaining @ ..] => {
                ((lead & 1) << 6 | next & 0x3F, remaining)
            }
            _ => (*first, tail),
        };
        plain.push(byte);
        rest = remaining;
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p10_every_spelling_of_a_tag_has_a_form_that_is_the_tag() {
        for text in [
            "＜script＞",
            "<scr\0ipt>",
            "<\u{200b}script>",
            "<𝐬𝐜𝐫𝐢𝐩𝐭>",
            "<ſcript>",
            "%3Cscript%3E",
            "%253cscript%253e",
            r"\x3cscript\x3e",
            r"\u003cscript\u{3e}",
            "%u003cscript%u003e",
            "%c0%bcscript%c0%be",
            "%e0%80%bcscript%3e",
        ] {
            let forms = of(text);
            assert_eq!(forms.last().map(String::as_str), Some("<script>"), "{text}");
        }
    }

    #[test]
    fn p11_usual_text_has_no_other_form() {
        for text in ["Grüße, 你好、こんにちは", "100% sure", r"C:\users\x", "a+b", "ok"] {
            assert!(of(text).is_empty(), "{text}");
        }
    }
}
