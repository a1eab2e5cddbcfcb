//! MessagePack read without trust: as JSON text for the checks, and written again with other texts.
//!
//! A declared length allocates nothing: texts are borrowed from the input, and a list or map of four thousand million elements
//! ends where the input does. Depth is held on a bounded stack. Binary and extension values are not looked into: in the JSON
//! they are `null`.

use std::borrow::Cow;

use crate::content::{Flaw, encode_text};

/// lists and maps within each other
const DEPTH_MAX: usize = 1024;

/// why the bytes cannot be read
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub &'static str);

impl From<Unreadable> for Flaw {
    fn from(unreadable: Unreadable) -> Self {
        if unreadable == TOO_DEEP { Flaw::TooDeep } else { Flaw::Malformed(unreadable.0) }
    }
}

const TRUNCATED: Unreadable = Unreadable("the MessagePack ends too early");
const TOO_DEEP: Unreadable = Unreadable("the MessagePack is nested deeper than 1024");
const RESERVED: Unreadable = Unreadable("the MessagePack has the byte 0xc1, which means nothing");
const NOT_UTF8: Unreadable = Unreadable("a text is not UTF-8");
const KEY_NOT_TEXT: Unreadable = Unreadable("a map's key is not a text");
const NOT_FINITE: Unreadable = Unreadable("a number is not finite");
const TRAILING: Unreadable = Unreadable("bytes follow the MessagePack");

/// a map, apart from one field of it
#[derive(Debug, PartialEq, Eq)]
pub struct Split<'a> {
    /// the other fields, as a JSON object
    pub rest: String,
    /// the field's value as it stands in the input: well-formed MessagePack
    pub field: Option<&'a [u8]>,
}

/// reads a map that is the whole input, and leaves one field's value as it is
pub fn split<'a>(bytes: &'a [u8], field: &str) -> Result<Split<'a>, Unreadable> {
    let mut reader = Reader { bytes, at: 0 };
    let Item::Map(entries) = reader.item()? else {
        return Err(Unreadable("the MessagePack is not a map"));
    };
    let mut split = Split { rest: "{".to_owned(), field: None };
    for _ in 0..entries {
        let Item::Text(key) = reader.item()? else {
            return Err(KEY_NOT_TEXT);
        };
        let value = reader.value()?;
        if key != field.as_bytes() {
            comma(&mut split.rest);
            write_text(&mut split.rest, key)?;
            split.rest.push(':');
            split.rest.push_str(&to_json(value)?);
        } else if split.field.replace(value).is_some() {
            return Err(Unreadable("a field stands twice"));
        }
    }
    split.rest.push('}');
    if reader.at == bytes.len() { Ok(split) } else { Err(TRAILING) }
}

/// one value, the whole input, as JSON text: in the same order and with keys that stand twice, so that the strict pass sees what
/// stands there. It has at most six bytes for each of the input.
pub fn to_json(value: &[u8]) -> Result<String, Unreadable> {
    to_json_with(value, |json| {
        json.push_str("null");
        Ok(())
    })
}

/// the same, with something else in the place of each binary value
pub fn to_json_with(
    value: &[u8],
    mut binary: impl FnMut(&mut String) -> Result<(), Unreadable>,
) -> Result<String, Unreadable> {
    let mut json = String::with_capacity(value.len());
    let mut walk = Walk::over(value);
    while let Some(step) = walk.step()? {
        match step {
            Step::Key(Item::Text(text)) => {
                comma(&mut json);
                write_text(&mut json, text)?;
                json.push(':');
            }
            Step::Key(_) => return Err(KEY_NOT_TEXT),
            Step::Value(item) => {
                comma(&mut json);
                match item {
                    Item::Binary => binary(&mut json)?,
                    item => write_item(&mut json, item)?,
                }
            }
            Step::EndOfArray => json.push(']'),
            Step::EndOfMap => json.push('}'),
        }
    }
    if walk.reader.at == value.len() { Ok(json) } else { Err(TRAILING) }
}

/// the value with its texts (not its keys) replaced in their order; all else byte for byte
pub fn with_texts<'t>(value: &[u8], texts: impl Iterator<Item = Cow<'t, str>>) -> Result<Vec<u8>, Unreadable> {
    let mut out = Vec::with_capacity(value.len());
    let mut texts = texts.fuse();
    let mut walk = Walk::over(value);
    loop {
        let from = walk.reader.at;
        let Some(step) = walk.step()? else {
            return Ok(out);
        };
        match (step, walk.reader.bytes.get(from..walk.reader.at)) {
            (Step::Value(Item::Text(old)), Some(raw)) => match texts.next() {
                Some(new) if new.as_bytes() != old => write_str(&mut out, &new),
                _ => out.extend_from_slice(raw),
            },
            (_, raw) => out.extend_from_slice(raw.unwrap_or_default()),
        }
    }
}

/// appends a text in its shortest form
pub fn write_str(out: &mut Vec<u8>, text: &str) {
    match (u8::try_from(text.len()), u16::try_from(text.len())) {
        (Ok(length @ 0..32), _) => out.push(0xa0 | length),
        (Ok(length), _) => out.extend([0xd9, length]),
        (_, Ok(length)) => {
            out.push(0xda);
            out.extend(length.to_be_bytes());
        }
        // No text that came within the body's bound is longer than this.
        _ => {
            out.push(0xdb);
            out.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// before a key or an element, unless it is the first
fn comma(json: &mut String) {
    if !json.is_empty() && !json.ends_with(['[', '{', ':']) {
        json.push(',');
    }
}

fn write_item(json: &mut String, item: Item<'_>) -> Result<(), Unreadable> {
    match item {
        Item::Nil | Item::Binary | Item::Extension => json.push_str("null"),
        Item::Bool(value) => json.push_str(if value { "true" } else { "false" }),
        Item::Unsigned(number) => json.push_str(&number.to_string()),
        Item::Signed(number) => json.push_str(&number.to_string()),
        Item::Float(number) if number.is_finite() => json.push_str(&format!("{number:?}")),
        Item::Float(_) => return Err(NOT_FINITE),
        Item::Text(text) => write_text(json, text)?,
        Item::Array(_) => json.push('['),
        Item::Map(_) => json.push('{'),
    }
    Ok(())
}

fn write_text(json: &mut String, text: &[u8]) -> Result<(), Unreadable> {
    let text = std::str::from_utf8(text).map_err(|_| NOT_UTF8)?;
    json.push('"');
    encode_text(json, text);
    json.push('"');
    Ok(())
}

/// a value, or the head of a list or map
#[derive(Clone, Copy, Debug)]
enum Item<'a> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'a [u8]),
    Binary,
    Extension,
    Array(u32),
    Map(u32),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// by the table of formats of the MessagePack specification
    fn item(&mut self) -> Result<Item<'a>, Unreadable> {
        let [first] = self.array()?;
        Ok(match first {
            0x00..=0x7f => Item::Unsigned(first.into()),
            0x80..=0x8f => Item::Map((first & 0x0f).into()),
            0x90..=0x9f => Item::Array((first & 0x0f).into()),
            0xa0..=0xbf => Item::Text(self.take(usize::from(first & 0x1f))?),
            0xc0 => Item::Nil,
            0xc1 => return Err(RESERVED),
            0xc2 | 0xc3 => Item::Bool(first == 0xc3),
            0xc4..=0xc6 => {
                self.skip(first - 0xc4, 0)?;
                Item::Binary
            }
            0xc7..=0xc9 => {
                self.skip(first - 0xc7, 1)?;
                Item::Extension
            }
            0xca => Item::Float(f32::from_be_bytes(self.array()?).into()),
            0xcb => Item::Float(f64::from_be_bytes(self.array()?)),
            0xcc => Item::Unsigned(u8::from_be_bytes(self.array()?).into()),
            0xcd => Item::Unsigned(u16::from_be_bytes(self.array()?).into()),
            0xce => Item::Unsigned(u32::from_be_bytes(self.array()?).into()),
            0xcf => Item::Unsigned(u64::from_be_bytes(self.array()?)),
            0xd0 => Item::Signed(i8::from_be_bytes(self.array()?).into()),
            0xd1 => Item::Signed(i16::from_be_bytes(self.array()?).into()),
            0xd2 => Item::Signed(i32::from_be_bytes(self.array()?).into()),
            0xd3 => Item::Signed(i64::from_be_bytes(self.array()?)),
            0xd4..=0xd8 => {
                self.take(1 + (1 << (first - 0xd4)))?;
                Item::Extension
            }
            0xd9..=0xdb => {
                let length = self.length(first - 0xd9)?;
                Item::Text(self.take(length as usize)?)
            }
            0xdc | 0xdd => Item::Array(self.length(first - 0xdb)?),
            0xde | 0xdf => Item::Map(self.length(first - 0xdd)?),
            0xe0..=0xff => Item::Signed(i8::from_be_bytes([first]).into()),
        })
    }

    /// one whole value, as it stands
    fn value(&mut self) -> Result<&'a [u8], Unreadable> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let mut walk = Walk::over(rest);
        while walk.step()?.is_some() {}
        self.take(walk.reader.at)
    }

    fn skip(&mut self, width: u8, kind_bytes: usize) -> Result<(), Unreadable> {
        let length = self.length(width)?;
        self.take(kind_bytes + length as usize).map(drop)
    }

    /// a length of one, two or four bytes
    fn length(&mut self, width: u8) -> Result<u32, Unreadable> {
        Ok(match width {
            0 => u8::from_be_bytes(self.array()?).into(),
            1 => u16::from_be_bytes(self.array()?).into(),
            _ => u32::from_be_bytes(self.array()?),
        })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        self.take(N)?.try_into().map_err(|_| TRUNCATED)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let end = self.at.checked_add(length).ok_or(TRUNCATED)?;
        let taken = self.bytes.get(self.at..end).ok_or(TRUNCATED)?;
        self.at = end;
        Ok(taken)
    }
}

enum Step<'a> {
    Key(Item<'a>),
    Value(Item<'a>),
    EndOfArray,
    EndOfMap,
}

/// a list or map that is open: what is still to come of it, keys and values each
struct Level {
    left: u64,
    is_map: bool,
}

/// through one value, piece by piece, without recursion
struct Walk<'a> {
    reader: Reader<'a>,
    open: Vec<Level>,
    begun: bool,
}

impl<'a> Walk<'a> {
    fn over(bytes: &'a [u8]) -> Self {
        Walk { reader: Reader { bytes, at: 0 }, open: Vec::new(), begun: false }
    }

    /// `None` after the value's end
    fn step(&mut self) -> Result<Option<Step<'a>>, Unreadable> {
        if let Some(done) = self.open.pop_if(|level| level.left == 0) {
            return Ok(Some(if done.is_map { Step::EndOfMap } else { Step::EndOfArray }));
        }
        let is_key = match self.open.last_mut() {
            None if self.begun => return Ok(None),
            None => false,
            Some(level) => {
                let is_key = level.is_map && level.left.is_multiple_of(2);
                level.left -= 1;
                is_key
            }
        };
        self.begun = true;
        let item = self.reader.item()?;
        match item {
            Item::Array(length) => self.enter(Level { left: length.into(), is_map: false })?,
            Item::Map(length) => self.enter(Level { left: u64::from(length) * 2, is_map: true })?,
            _ => {}
        }
        Ok(Some(if is_key { Step::Key(item) } else { Step::Value(item) }))
    }

    fn enter(&mut self, level: Level) -> Result<(), Unreadable> {
        if self.open.len() >= DEPTH_MAX {
            return Err(TOO_DEEP);
        }
        self.open.push(level);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::texts;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn packed(value: &Value) -> Vec<u8> {
        rmp_serde::to_vec_named(value).unwrap()
    }

    #[test]
    fn p16_truncated_bottomless_and_boastful_bytes_are_refused_where_they_end() {
        let whole = packed(&json!({ "ip": "192.0.2.1", "n": [1, -1, 1.5, 70000, "é", null, true] }));
        for end in 0..whole.len() {
            assert_eq!(split(&whole[..end], "payload"), Err(TRUNCATED), "{end} bytes");
        }
        for boast in [
            &[0xdf, 0xff, 0xff, 0xff, 0xff][..],
            &[0x81, 0xa1, b'a', 0xdd, 0xff, 0xff, 0xff, 0xff],
            &[0x81, 0xa1, b'a', 0xdb, 0xff, 0xff, 0xff, 0xff, b'x'],
            &[0x81, 0xa1, b'a', 0xc6, 0xff, 0xff, 0xff, 0xff],
            &[0x81, 0xa1, b'a', 0xc9, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert_eq!(split(boast, "payload"), Err(TRUNCATED), "{boast:x?}");
        }
        let bomb = [&[0x81, 0xa7][..], b"payload", &[0x91; 100_000]].concat();
        assert_eq!(split(&bomb, "payload"), Err(TOO_DEEP));
        assert_eq!(split(&[0xc1], "payload"), Err(RESERVED));
        assert_eq!(split(&[0x90], "payload"), Err(Unreadable("the MessagePack is not a map")));
        assert_eq!(split(&[0x80, 0], "payload"), Err(TRAILING));
        assert_eq!(to_json(&[0x01, 0x02]), Err(TRAILING));
        assert_eq!(to_json(&[]), Err(TRUNCATED));
        assert_eq!(Flaw::from(TOO_DEEP), Flaw::TooDeep, "as in JSON");
    }

    #[test]
    fn what_json_cannot_say_is_a_flaw_and_binary_is_not_looked_into() {
        assert_eq!(to_json(&[0xa1, 0xff]), Err(NOT_UTF8));
        assert_eq!(to_json(&[0x81, 1, 2]), Err(KEY_NOT_TEXT));
        assert_eq!(to_json(&[0x81, 0x90, 2]), Err(KEY_NOT_TEXT));
        assert_eq!(to_json(&[0xca, 0x7f, 0xc0, 0, 0]), Err(NOT_FINITE));
        assert_eq!(to_json(&[0x92, 0xc4, 1, 7, 0xd6, 1, 0, 0, 0, 0]).unwrap(), "[null,null]");
        assert_eq!(to_json(&[0x82, 0xa1, b'a', 1, 0xa1, b'a', 2]).unwrap(), r#"{"a":1,"a":2}"#, "for the strict pass");
    }

    #[test]
    fn only_texts_change_when_texts_are_replaced() {
        let value = [0x83, 0xa1, b'a', 0xa3, b'o', b'l', b'd', 0xa1, b'b', 0xc4, 1, 7, 0xa1, b'c', 0xa1, b'z'];
        let new = with_texts(&value, ["new one".into(), "z".into()].into_iter()).unwrap();
        let expected = [&[0x83, 0xa1, b'a', 0xa7][..], b"new one", &value[7..]].concat();
        assert_eq!(new, expected);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            prop::num::f64::NORMAL.prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            ".{30,300}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 20, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..20)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_reads_what_another_library_wrote(value in any_json()) {
            let bytes = packed(&value);
            let json = to_json(&bytes).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Value>(&json).unwrap(), &value);
            prop_assert_eq!(&with_texts(&bytes, texts(&json)).unwrap(), &bytes);
            let body = packed(&json!({ "payload": &value, "rest": &value }));
            let split = split(&body, "payload").unwrap();
            prop_assert_eq!(split.field, Some(&bytes[..]));
            prop_assert_eq!(serde_json::from_str::<Value>(&split.rest).unwrap(), json!({ "rest": value }));
        }

        #[test]
        fn p16_no_bytes_make_it_fail(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(split(&bytes, "payload"));
            drop(to_json(&bytes));
        }
    }
}
