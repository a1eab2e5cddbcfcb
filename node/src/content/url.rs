//! URLs that run something when followed, after the browser's own cleaning of tabs, newlines, controls and case.
//! Reads at most the scheme and the start of what follows.

/// Where a URL stands decides how much benefit of the doubt it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// An attribute that holds a URL, such as `href`.
    Link,
    /// A text of its own or any other attribute: it may be prose ("JavaScript: The Good Parts").
    Prose,
}

const SCRIPT_SCHEMES: &[&str] = &["javascript", "vbscript", "livescript", "jscript", "mocha", "vbs"];
/// These hand the rest to another scheme.
const WRAPPERS: &[&str] = &["feed", "view-source", "jar", "wyciwyg", "url"];
const LONGEST_SCHEME: usize = 16;
/// A media type with its parameters, before the comma of a `data:` URL.
const LONGEST_MEDIA_TYPE: usize = 256;
/// How much of a script is looked at to tell it from prose.
const CODE_BYTES: usize = 256;

/// True if following the URL would run a script or open a document that can.
pub(super) fn runs(url: &str, place: Place) -> bool {
    script_body(url, place).is_some()
}

/// What remains of a URL that runs, without the scheme that makes it run.
pub(super) fn script_body(url: &str, place: Place) -> Option<&str> {
    let mut rest = url;
    for _ in 0..4 {
        let (scheme, body) = scheme_of(rest, place)?;
        let scheme = scheme.as_str();
        if SCRIPT_SCHEMES.contains(&scheme) {
            return (place == Place::Link || is_code(body)).then_some(body);
        }
        if scheme == "data" {
            return runs_data(body, place).then_some(body);
        }
        if scheme == "mhtml" && place == Place::Link {
            return Some(body);
        }
        if !WRAPPERS.contains(&scheme) {
            return None;
        }
        rest = body;
    }
    Some(rest)
}

/// True if the URL makes a browser fetch something: anything but nothing, a fragment, or a picture carried inside it.
pub(super) fn fetches(url: &str) -> bool {
    let trimmed = url.trim_start_matches(is_ignored);
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return false;
    }
    match scheme_of(trimmed, Place::Link) {
        Some((scheme, body)) if scheme.as_str() == "data" => !is_media(&media_type(body).unwrap_or_default()),
        _ => true,
    }
}

/// The scheme in lower case, and what follows its colon.
fn scheme_of(url: &str, place: Place) -> Option<(Scheme, &str)> {
    let is_stray = |character| place == Place::Link && is_stray(character);
    let start = url.trim_start_matches(|character| is_ignored(character) || is_stray(character));
    let mut scheme = Scheme::default();
    for (at, character) in start.char_indices() {
        match character {
            ':' if scheme.length > 0 => return start.get(at + 1..).map(|rest| (scheme, rest)),
            letter if letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.') => scheme.push(letter)?,
            ' ' => return None,
            ignored if is_ignored(ignored) => {}
            _ => return None,
        }
    }
    None
}

#[derive(Default)]
struct Scheme {
    letters: [u8; LONGEST_SCHEME],
    length: usize,
}

impl Scheme {
    fn push(&mut self, letter: char) -> Option<()> {
        *self.letters.get_mut(self.length)? = u8::try_from(letter).ok()?.to_ascii_lowercase();
        self.length += 1;
        Some(())
    }

    fn as_str(&self) -> &str {
        self.letters.get(..self.length).and_then(|letters| std::str::from_utf8(letters).ok()).unwrap_or_default()
    }
}

/// White space, controls and invisible characters: browsers drop some anywhere in a scheme, others drop the rest.
fn is_ignored(character: char) -> bool {
    character.is_whitespace()
        || character.is_control()
        || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{fffd}')
}

/// Quotes that old parsers took for attribute quotes.
fn is_stray(character: char) -> bool {
    matches!(character, '`' | '"' | '\'')
}

/// A script does something only by a call, an assignment, a template or an escape; and two plain words in a row are prose.
/// Looks at the start only: what shows neither in so many bytes is hiding something, unless it reads like words.
fn is_code(body: &str) -> bool {
    const ACTS: &[char] = &['(', '`', '=', '\\', '[', '/'];
    let body = body.trim_start_matches(is_ignored);
    let start = body.get(..body.floor_char_boundary(CODE_BYTES)).unwrap_or(body);
    let hides = start.len() < body.len() && (!has_words(start) || start.contains(['"', '\'', ';']));
    !is_prose(start) && (start.contains(ACTS) || hides)
}

fn has_words(start: &str) -> bool {
    let mut words = start.split(' ').map(|word| !word.is_empty() && word.chars().all(char::is_alphabetic));
    let mut previous = false;
    words.any(|word| std::mem::replace(&mut previous, word) && word)
}

fn is_prose(start: &str) -> bool {
    const KEYWORDS: &[&str] =
        &["var", "let", "const", "new", "void", "typeof", "throw", "delete", "return", "function", "async", "await"];
    let word_end = start.find(|character: char| !character.is_alphabetic()).unwrap_or(start.len());
    let (word, rest) = start.split_at(word_end);
    let next = rest.trim_start().chars().next();
    rest.starts_with(char::is_whitespace) && next.is_some_and(char::is_alphanumeric) && !KEYWORDS.contains(&word)
}

fn runs_data(body: &str, place: Place) -> bool {
    const ACTIVE: &[&str] = &["html", "svg", "xml", "javascript", "ecmascript", "x-scriptlet"];
    let Some(media) = media_type(body) else { return place == Place::Link && !body.is_empty() };
    match place {
        Place::Prose => media.contains('/') && ACTIVE.iter().any(|active| media.contains(active)),
        Place::Link => !(media.is_empty() || media == "text/plain" || is_media(&media)),
    }
}

/// The media type of a `data:` URL, as a browser cleans it.
fn media_type(body: &str) -> Option<String> {
    let comma = body.bytes().take(LONGEST_MEDIA_TYPE).position(|byte| byte == b',')?;
    let media = body.get(..comma)?.split(';').next()?;
    Some(
        media
            .chars()
            .filter(|character| !is_ignored(*character))
            .map(|character| character.to_ascii_lowercase())
            .collect(),
    )
}

/// Media that cannot hold a script or a further address.
fn is_media(media: &str) -> bool {
    const PICTURES: &[&str] =
        &["image/png", "image/gif", "image/jpeg", "image/jpg", "image/webp", "image/avif", "image/bmp"];
    PICTURES.contains(&media) || ["audio/", "video/", "font/"].iter().any(|family| media.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p10_a_scheme_is_known_through_a_browsers_cleaning() {
        for url in [
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            " \u{1}java\tscr\nipt\r:alert(1)",
            "\u{feff}vbscript:x",
            "`javascript:x`",
            "data:text/html,<b>",
            "data:image/svg+xml;base64,AAAA",
            "feed:javascript:alert(1)",
            "data:application/x-y,z",
            "view-source:data:text/html,x",
        ] {
            assert!(runs(url, Place::Link), "{url:?}");
        }
        for url in [
            "https://a/?x=javascript:1",
            "/javascript:x",
            "mailto:a@b.c",
            "#x",
            "",
            "data:image/png;base64,AA",
            "slack://x",
            "java script:x",
        ] {
            assert!(!runs(url, Place::Link), "{url:?}");
        }
    }

    #[test]
    fn p11_prose_about_javascript_is_not_a_script() {
        for text in [
            "JavaScript: The Good Parts (2008)",
            "javascript: yes",
            "data: 5, 6 and 7",
            "Data:text, html",
            "javascript: i like it (a lot)",
        ] {
            assert!(!runs(text, Place::Prose), "{text}");
        }
        for text in [
            "javascript:alert(1)",
            "javascript: alert (1)",
            "javascript: var x=1",
            "javascript://%0aalert(1)",
            "data:text/html,x",
        ] {
            assert!(runs(text, Place::Prose), "{text}");
        }
    }
}
