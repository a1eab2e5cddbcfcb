//! The glance: a linear look at every place where a tag could begin, in whatever state a parser may be there. It sees at
//! least what any parser sees, so what it calls inert is inert in every context and after every mutation.

use std::borrow::Cow;

use super::entity;
use super::rules;
use super::url;

/// What the glance found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Glance {
    /// No parser finds anything that acts.
    Inert,
    /// Something acts, unless it is hidden in a comment or in plain text: ask the parser.
    Flagged,
    /// Something acts, and parsers disagree on texts of this kind.
    Certain,
    /// Something acts, or tags overlap as no honest text's do, and the text is not worth a parser's time.
    Excessive,
}

/// Beyond this size and number of attributes the glance is the verdict.
const PARSED_BYTES_MAX: usize = 64 * 1024;
const PARSED_ATTRIBUTES_MAX: usize = 512;
/// Attributes of a first tag that are read before the parser is asked.
const FIRST_ATTRIBUTES_MAX: usize = 4;
/// How often, on average, a byte may be read as part of an attribute.
const READINGS_MAX: usize = 8;

pub(super) fn glance(text: &str) -> Glance {
    Glancer::new(text, true).run()
}

/// True if an attribute's value is itself markup that acts. Values inside it are not opened again.
pub(super) fn holds_markup(value: &str) -> bool {
    memchr::memchr(b'<', value.as_bytes()).is_some() && Glancer::new(value, false).run() != Glance::Inert
}

/// True if the first tag of the text acts. Nothing before it can hide it, so that the parser would say the same.
pub(super) fn first_acts(text: &str) -> bool {
    let bytes = text.as_bytes();
    let Some(start) = memchr::memchr(b'<', bytes).map(|open| open + 1) else { return false };
    let end = skip(bytes, start, |byte| !is_space(byte) && !matches!(byte, b'/' | b'>'));
    let Some(name) = text.get(start..end).filter(|name| name.starts_with(|first: char| first.is_ascii_alphabetic()))
    else {
        return false;
    };
    let name = lowercase(name);
    let attributes = std::iter::successors(attribute(text, end), |last| attribute(text, last.next));
    let acts = |attribute: &Attribute<'_>| {
        rules::attribute_acts(Some(&name), &lowercase(attribute.name), &entity::decode(attribute.value))
    };
    attributes.take(FIRST_ATTRIBUTES_MAX).any(|attribute| acts(&attribute))
}

/// One attribute as the HTML tokenizer reads it.
pub(super) struct Attribute<'a> {
    pub(super) name: &'a str,
    pub(super) value: &'a str,
    /// It has a value, be it an empty one.
    pub(super) assigned: bool,
    /// Where the next one may begin.
    pub(super) next: usize,
}

/// Reads the attribute at or after `at`; `None` at the end of the tag or of the text.
pub(super) fn attribute(text: &str, at: usize) -> Option<Attribute<'_>> {
    let bytes = text.as_bytes();
    let start = skip(bytes, at, |byte| is_space(byte) || byte == b'/');
    if *bytes.get(start)? == b'>' {
        return None;
    }
    let name_end = skip(bytes, start + 1, |byte| !is_space(byte) && !matches!(byte, b'/' | b'>' | b'='));
    let name = text.get(start..name_end)?;
    let equals = skip(bytes, name_end, is_space);
    if bytes.get(equals) != Some(&b'=') {
        return Some(Attribute { name, value: "", assigned: false, next: name_end });
    }
    let value_start = skip(bytes, equals + 1, is_space);
    let (value, next) = match bytes.get(value_start) {
        // Cut off: whatever the page goes on with becomes the value.
        None => ("/", bytes.len()),
        Some(b'>') => ("", value_start),
        Some(quote @ (b'"' | b'\'')) => {
            let content = value_start + 1;
            let length = memchr::memchr(*quote, bytes.get(content..)?);
            let end = length.map_or(bytes.len(), |length| content + length);
            (text.get(content..end)?, (end + 1).min(bytes.len()))
        }
        Some(_) => {
            let end = skip(bytes, value_start, |byte| !is_space(byte) && byte != b'>');
            (text.get(value_start..end)?, end)
        }
    };
    Some(Attribute { name, value, assigned: true, next })
}

fn skip(bytes: &[u8], from: usize, while_true: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| !while_true(*byte)).unwrap_or(rest.len())
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c')
}

fn lowercase(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

struct Glancer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    /// Positions from which attributes were read: tags overlap, the work does not.
    visited: Vec<bool>,
    attributes: usize,
    attribute_bytes: usize,
    /// Where the tag name read last ends: every tag that begins inside it ends there too.
    name_end: usize,
    /// The last byte that could belong to a style sheet: `<style>` before it is more than a name.
    last_style_byte: Option<usize>,
    /// An element that fetches its `href`, and an `href` to fetch: together they may be one tag.
    href_loader: bool,
    href_fetches: bool,
    open_values: bool,
    flagged: bool,
    certain: bool,
    ambiguous: bool,
}

impl<'a> Glancer<'a> {
    fn new(text: &'a str, open_values: bool) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            visited: Vec::new(),
            attributes: 0,
            attribute_bytes: 0,
            name_end: 0,
            last_style_byte: None,
            href_loader: false,
            href_fetches: false,
            open_values,
            flagged: false,
            certain: false,
            ambiguous: false,
        }
    }

    fn run(mut self) -> Glance {
        let bytes = self.bytes;
        for open in memchr::memchr_iter(b'<', bytes) {
            match bytes.get(open + 1) {
                Some(first) if first.is_ascii_alphabetic() => self.start_tag(open + 1),
                Some(b'!' | b'?') => self.declaration(open + 1),
                _ => {}
            }
            if self.overlaps() {
                return Glance::Excessive;
            }
        }
        let excessive = bytes.len() > PARSED_BYTES_MAX || self.attributes > PARSED_ATTRIBUTES_MAX;
        match self.flagged || self.certain || (self.href_loader && self.href_fetches) {
            false => Glance::Inert,
            true if excessive => Glance::Excessive,
            true if self.ambiguous || self.certain => Glance::Certain,
            true => Glance::Flagged,
        }
    }

    fn overlaps(&self) -> bool {
        self.attribute_bytes > READINGS_MAX * self.bytes.len()
    }

    fn start_tag(&mut self, start: usize) {
        if start >= self.name_end {
            self.name_end = skip(self.bytes, start, |byte| !is_space(byte) && !matches!(byte, b'/' | b'>'));
        }
        let end = self.name_end;
        let name = self.text.get(start..end).filter(|name| name.len() <= rules::NAME_BYTES_MAX).unwrap_or_default();
        let name = lowercase(name);
        let local = rules::local_name(&name);
        let closed = self.bytes.get(end) == Some(&b'>');
        self.ambiguous |= rules::is_ambiguous(local);
        self.href_loader |= rules::loads_href(local);
        self.flagged |= rules::element_acts(local, !closed);
        if local == "style" {
            self.flagged |= self.has_style_after(end);
        }
        if !closed {
            self.attributes_from(end);
        }
    }

    fn attributes_from(&mut self, start: usize) {
        if self.visited.is_empty() {
            self.visited = vec![false; self.bytes.len() + 1];
        }
        let mut at = start;
        while let Some(seen) = self.visited.get_mut(at)
            && !std::mem::replace(seen, true)
            && let Some(attribute) = attribute(self.text, at)
        {
            self.attributes += 1;
            self.attribute_bytes += attribute.next - at;
            if !self.flagged && !self.overlaps() {
                self.flagged = self.acts(&attribute);
            }
            at = attribute.next;
        }
    }

    fn acts(&mut self, attribute: &Attribute<'_>) -> bool {
        let name = lowercase(attribute.name);
        let value = entity::decode(attribute.value);
        self.href_fetches |= matches!(&*name, "href" | "xlink:href") && url::fetches(&value);
        // Without entities the tags in it are met where they stand in the text.
        let opened = self.open_values && matches!(value, Cow::Owned(_));
        rules::attribute_acts(None, &name, &value) || (opened && holds_markup(&value))
    }

    /// Style sheets need a brace, an at-rule or an escape; without one the tag is a name, as in `Vec<Style>`.
    fn has_style_after(&mut self, at: usize) -> bool {
        let bytes = self.bytes;
        let last = *self.last_style_byte.get_or_insert_with(|| {
            bytes.iter().rposition(|byte| matches!(byte, b'{' | b'@' | b'\\' | b'&')).unwrap_or(0)
        });
        last > at
    }

    /// Declarations that load or run in XML, in old browsers or on the server.
    fn declaration(&mut self, start: usize) {
        const ACTIVE: &[&[u8]] = &[b"?xml-stylesheet", b"?import", b"!entity", b"!attlist"];
        let rest = self.bytes.get(start..).unwrap_or_default();
        let begins = |word: &&[u8]| rest.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
        self.certain |= match rest.strip_prefix(b"!--") {
            Some(comment) => is_instruction(comment),
            None => ACTIVE.iter().any(begins),
        };
    }
}

/// `[if IE]` and `#exec`: comments that old browsers and servers obey.
fn is_instruction(comment: &[u8]) -> bool {
    const BLANKS_MAX: usize = 16;
    let blanks = comment.iter().take(BLANKS_MAX).take_while(|byte| is_space(**byte)).count();
    match comment.get(blanks..) {
        Some([b'#', letter, ..]) => letter.is_ascii_alphabetic(),
        Some([b'[', i, f, ..]) => i.eq_ignore_ascii_case(&b'i') && f.eq_ignore_ascii_case(&b'f'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p09_a_tag_is_seen_wherever_a_parser_may_stand() {
        for text in [
            "<img src=x>",
            "<b title='<img src=x>'>",
            "<!-- <img src=x>",
            "<textarea><img src=x>",
            "<x y=\"<a onclick=f>\">",
            "<a onclick=f",
            "<a onx=",
        ] {
            assert_eq!(glance(text), Glance::Flagged, "{text}");
        }
        for text in [
            "<svg><!-- <img src=x> -->",
            "<!--[if IE]>",
            "<!--#exec cmd=x-->",
            "<?xml-stylesheet href=x?>",
            "<noscript><p title='<img src=x>'>",
        ] {
            assert_eq!(glance(text), Glance::Certain, "{text}");
        }
    }

    #[test]
    fn p11_bare_names_are_inert() {
        for text in [
            "Vec<String>",
            "Map<Object, List<Style>>",
            "<T one two>",
            "a<b && c>d",
            "<3",
            "</script>",
            "<b>",
            "<a href=\"https://x/?a=b&amp;c\">",
            "<!-- x -->",
        ] {
            assert_eq!(glance(text), Glance::Inert, "{text}");
        }
    }

    #[test]
    fn p15_overlapping_tags_are_not_read_over_and_over() {
        for unit in ["<a/x=", "<s", "<a x=\"<a y='", "<a x=<b/", "<a title=&lt;"] {
            glance(&unit.repeat(200_000));
        }
    }
}
