//! The strict pass over one JSON value: RFC 8259 to the letter, and beyond it one reading only (no duplicate key, no lone
//! surrogate), bounded in depth, keys and text, and without keys that steer a JavaScript object or a database query.
//! Cost: one table look-up per byte, no allocation for usual payloads without escapes. Reads the payload, nothing else.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use smallvec::SmallVec;

use super::keys;
use super::signals;
use super::strings::decode;

/// Bounds of one payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Open arrays and objects at any point.
    pub max_depth: usize,
    /// Keys of all objects together.
    pub max_keys: usize,
    /// Unicode scalar values of one decoded string.
    pub max_text_chars: usize,
}

/// What the strict pass refuses. The name inside is for operators and rule statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    TextTooLong,
    TooDeep,
    Malformed(&'static str),
    Hostile(&'static str),
}

/// What the strict pass learnt on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scan {
    /// Some string value holds a byte without which no text is active: only then look at the texts.
    pub may_act: bool,
    /// Some string value holds a byte without which no text is a signal.
    pub may_signal: bool,
    /// Keys of all objects together.
    pub keys: usize,
    /// The deepest nesting met.
    pub depth: usize,
}

/// Reads exactly one JSON value, the whole input. The string in the byte range `keep` (the event's name) is no text.
pub fn scan(json: &str, bounds: &Bounds, keep: Option<Range<usize>>) -> Result<Scan, Flaw> {
    Scanner::new(json, bounds, keep.unwrap_or_default()).document()
}

/// Beyond this many keys an object gets a hash set; below, comparing is faster.
const SMALL_OBJECT_KEYS: usize = 16;

/// The string ends or needs care here.
const STOP: u8 = 1;
/// Without such a byte a text is never active: markup, entities, escapes, attribute and URL syntax, and the lead byte of
/// fullwidth forms.
const TRIGGER: u8 = 2;
/// Without such a byte a text is never a signal.
const SIGNAL: u8 = 4;

const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        class[byte] = STOP;
        byte += 1;
    }
    class[b'"' as usize] = STOP;
    class[b'\\' as usize] = STOP | TRIGGER;
    let triggers = [b'<', b'&', b'%', b'=', b':', 0xEF];
    let mut next = 0;
    while next < triggers.len() {
        class[triggers[next] as usize] |= TRIGGER;
        next += 1;
    }
    next = 0;
    while next < signals::BYTES_THAT_MATTER.len() {
        class[signals::BYTES_THAT_MATTER[next] as usize] |= SIGNAL;
        next += 1;
    }
    class[b'$' as usize] |= KEY;
    class[b'_' as usize] |= KEY;
    // Inside a text it follows a backslash, which matters too; otherwise it ends the text.
    class[b'"' as usize] = STOP;
    class
};

/// Without such a byte a short key names a field and nothing else.
const KEY: u8 = 8;

/// So many bytes are classed at once: a text without care is read in strides.
const STRIDE: usize = 16;
/// What is open in a usual payload fits without an allocation.
const USUAL_DEPTH: usize = 8;

const SYNTAX: Flaw = Flaw::Malformed("syntax");

enum Frame<'a> {
    Array {
        empty: bool,
    },
    Object {
        empty: bool,
        first_key: usize,
        seen: Option<HashSet<Cow<'a, str>>>,
        /// The object is the value of a key `constructor`.
        constructor: bool,
    },
}

struct Literal {
    start: usize,
    end: usize,
    escaped: bool,
    classes: u8,
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    bounds: Bounds,
    keep: Range<usize>,
    frames: SmallVec<[Frame<'a>; USUAL_DEPTH]>,
    /// Keys of the open objects; each object owns the tail from its `first_key`.
    keys: SmallVec<[Cow<'a, str>; SMALL_OBJECT_KEYS]>,
    learnt: Scan,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str, bounds: &Bounds, keep: Range<usize>) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            bounds: *bounds,
            keep,
            frames: SmallVec::new(),
            keys: SmallVec::new(),
            learnt: Scan::default(),
        }
    }

    fn document(mut self) -> Result<Scan, Flaw> {
        self.value(false)?;
        while !self.frames.is_empty() {
            self.member()?;
        }
        self.skip_whitespace();
        if self.at < self.bytes.len() {
            return Err(Flaw::Malformed("trailing_bytes"));
        }
        Ok(self.learnt)
    }

    /// Reads a scalar whole, or opens an array or object.
    fn value(&mut self, constructor: bool) -> Result<(), Flaw> {
        self.skip_whitespace();
        match self.peek() {
            Some(b'"') => {
                let literal = self.string()?;
                if !(self.keep.start <= literal.start && literal.end <= self.keep.end) {
                    self.learnt.may_act |= literal.classes & TRIGGER != 0;
                    self.learnt.may_signal |= literal.classes & SIGNAL != 0;
                }
                self.check_length(&literal)
            }
            Some(b'{') => {
                let first_key = self.keys.len();
                self.open(Frame::Object { empty: true, first_key, seen: None, constructor })
            }
            Some(b'[') => self.open(Frame::Array { empty: true }),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(SYNTAX),
        }
    }

    fn open(&mut self, frame: Frame<'a>) -> Result<(), Flaw> {
        if self.frames.len() >= self.bounds.max_depth {
            return Err(Flaw::TooDeep);
        }
        self.at += 1;
        self.frames.push(frame);
        self.learnt.depth = self.learnt.depth.max(self.frames.len());
        Ok(())
    }

    /// Reads the next element of the innermost array or object, or its end.
    fn member(&mut self) -> Result<(), Flaw> {
        self.skip_whitespace();
        let next = self.peek().ok_or(SYNTAX)?;
        match self.frames.last_mut() {
            Some(Frame::Array { empty }) => {
                let first = std::mem::replace(empty, false);
                if next == b']' {
                    return self.close();
                }
                self.separator(first)?;
                self.value(false)
            }
            Some(Frame::Object { empty, .. }) => {
                let first = std::mem::replace(empty, false);
                if next == b'}' {
                    return self.close();
                }
                self.separator(first)?;
                self.key_and_value()
            }
            None => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), Flaw> {
        self.at += 1;
        if let Some(Frame::Object { first_key, .. }) = self.frames.pop() {
            self.keys.truncate(first_key);
        }
        Ok(())
    }

    fn separator(&mut self, first: bool) -> Result<(), Flaw> {
        if first {
            return Ok(());
        }
        self.expect(b',')?;
        self.skip_whitespace();
        Ok(())
    }

    fn key_and_value(&mut self) -> Result<(), Flaw> {
        let literal = self.string()?;
        self.check_length(&literal)?;
        self.learnt.keys += 1;
        if self.learnt.keys > self.bounds.max_keys {
            return Err(Flaw::Malformed("too_many_keys"));
        }
        let raw = self.text.get(literal.start..literal.end).unwrap_or_default();
        let key = if literal.escaped { decode(raw) } else { Cow::Borrowed(raw) };
        self.skip_whitespace();
        self.expect(b':')?;
        self.skip_whitespace();
        if literal.escaped || literal.classes & KEY != 0 || key.len() >= keys::HARMLESS_BYTES {
            self.check_key(&key)?;
        }
        let constructor = key == "constructor";
        self.remember(key)?;
        self.value(constructor)
    }

    fn check_key(&self, key: &str) -> Result<(), Flaw> {
        if key == "prototype" && matches!(self.frames.last(), Some(Frame::Object { constructor: true, .. })) {
            return Err(Flaw::Hostile(keys::PROTOTYPE_POLLUTION));
        }
        match keys::hostile(key) {
            Some(keys::QUERY_OPERATOR) if keys::may_tag_a_type(key) && self.peeks_at_dotted_name() => Ok(()),
            Some(rule) => Err(Flaw::Hostile(rule)),
            None => Ok(()),
        }
    }

    /// `"$type": "app.chat.message"` tags a type; as a query operator it takes a number or a short alias.
    fn peeks_at_dotted_name(&self) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(content) = rest.strip_prefix(b"\"") else { return false };
        let end = memchr::memchr(b'"', content).unwrap_or(content.len());
        content.get(..end).is_some_and(|name| name.contains(&b'.'))
    }

    fn remember(&mut self, key: Cow<'a, str>) -> Result<(), Flaw> {
        let Some(Frame::Object { first_key, seen, .. }) = self.frames.last_mut() else { return Ok(()) };
        let siblings = self.keys.get(*first_key..).unwrap_or_default();
        let duplicate = match seen {
            Some(seen) => !seen.insert(key.clone()),
            None => siblings.contains(&key),
        };
        if duplicate {
            return Err(Flaw::Malformed("duplicate_key"));
        }
        if seen.is_none() && siblings.len() >= SMALL_OBJECT_KEYS {
            *seen = Some(siblings.iter().chain([&key]).cloned().collect());
        }
        self.keys.push(key);
        Ok(())
    }

    fn check_length(&self, literal: &Literal) -> Result<(), Flaw> {
        if literal.end - literal.start <= self.bounds.max_text_chars {
            return Ok(());
        }
        let raw = self.text.get(literal.start..literal.end).unwrap_or_default();
        let text = if literal.escaped { decode(raw) } else { Cow::Borrowed(raw) };
        if text.chars().count() > self.bounds.max_text_chars { Err(Flaw::TextTooLong) } else { Ok(()) }
    }

    /// Reads a string literal; the range returned is what lies between its quotes.
    fn string(&mut self) -> Result<Literal, Flaw> {
        self.expect(b'"')?;
        let start = self.at;
        let mut classes = 0;
        let mut escaped = false;
        loop {
            classes |= self.plain();
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(Flaw::Malformed("control_character")),
                None => return Err(SYNTAX),
            }
        }
        let end = self.at;
        self.at += 1;
        Ok(Literal { start, end, escaped, classes })
    }

    /// Skips what needs no care, and says what classes of bytes it held, the first byte that needs care included.
    fn plain(&mut self) -> u8 {
        let mut classes = 0;
        let (strides, _) = self.bytes.get(self.at..).unwrap_or_default().as_chunks::<STRIDE>();
        for stride in strides {
            let held = stride.iter().fold(0, |held, byte| held | CLASS[usize::from(*byte)]);
            if held & STOP != 0 {
                break;
            }
            classes |= held;
            self.at += STRIDE;
        }
        for byte in self.bytes.get(self.at..).unwrap_or_default() {
            let class = CLASS[usize::from(*byte)];
            classes |= class;
            if class & STOP != 0 {
                break;
            }
            self.at += 1;
        }
        classes
    }

    fn escape(&mut self) -> Result<(), Flaw> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => self.unicode_escape(),
            _ => Err(SYNTAX),
        }
    }

    fn unicode_escape(&mut self) -> Result<(), Flaw> {
        const LONE: Flaw = Flaw::Malformed("lone_surrogate");
        match self.code_unit()? {
            0xD800..=0xDBFF => {
                if !self.bytes.get(self.at..).unwrap_or_default().starts_with(b"\\u") {
                    return Err(LONE);
                }
                self.at += 1;
                if matches!(self.code_unit()?, 0xDC00..=0xDFFF) { Ok(()) } else { Err(LONE) }
            }
            0xDC00..=0xDFFF => Err(LONE),
            _ => Ok(()),
        }
    }

    /// Reads `uXXXX`.
    fn code_unit(&mut self) -> Result<u32, Flaw> {
        let digits = self.bytes.get(self.at + 1..self.at + 5).ok_or(SYNTAX)?;
        let mut unit = 0;
        for digit in digits {
            unit = unit * 16 + char::from(*digit).to_digit(16).ok_or(SYNTAX)?;
        }
        self.at += 5;
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), Flaw> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Flaw> {
        let before = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == before { Err(SYNTAX) } else { Ok(()) }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Flaw> {
        if !self.bytes.get(self.at..).unwrap_or_default().starts_with(word) {
            return Err(SYNTAX);
        }
        self.at += word.len();
        Ok(())
    }

    fn expect(&mut self, byte: u8) -> Result<(), Flaw> {
        if self.peek() != Some(byte) {
            return Err(SYNTAX);
        }
        self.at += 1;
        Ok(())
    }

    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}
