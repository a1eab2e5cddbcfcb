//! Finding an event's name in JSON without building a tree: everything else stays raw.

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::ops::Range;

/// where a JSON message has its event's name
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventField(Vec<String>);

impl EventField {
    /// a top-level name (`type`), or a JSON pointer (`/meta/event`, RFC 6901)
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix('/') {
            Some(pointer) => {
                EventField(pointer.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect())
            }
            None => EventField(vec![text.to_owned()]),
        }
    }
}

/// a name and its place in the text, quotes included
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAt<'a> {
    pub name: Cow<'a, str>,
    pub at: Range<usize>,
}

/// the value at the field is not a string
pub const NAME_NOT_A_STRING: &str = "event name is not a string";

/// the event's name, `None` if the message has none; text that is not JSON has none either, and is judged elsewhere
pub fn locate<'a>(json: &'a str, field: &EventField) -> Result<Option<NamedAt<'a>>, &'static str> {
    let mut value = json;
    for key in &field.0 {
        match member(value, key) {
            Some(inner) => value = inner,
            None => return Ok(None),
        }
    }
    read_name(json, value)
}

/// the name and the number of elements of a Socket.IO payload, `["name", …]`
pub fn locate_first(json: &str) -> Result<(NamedAt<'_>, usize), &'static str> {
    let (first, length) = serde_json::Deserializer::from_str(json)
        .deserialize_seq(First)
        .map_err(|_| "payload is not an array with a name")?;
    read_name(json, first.get())?.map(|name| (name, length)).ok_or(NAME_NOT_A_STRING)
}

fn read_name<'a>(json: &'a str, value: &'a str) -> Result<Option<NamedAt<'a>>, &'static str> {
    let start = value.as_ptr() as usize - json.as_ptr() as usize;
    let at = start..start + value.len();
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(NAME_NOT_A_STRING)?;
    let name = match inner.contains('\\') {
        false => Cow::Borrowed(inner),
        true => Cow::Owned(serde_json::from_str(value).map_err(|_| NAME_NOT_A_STRING)?),
    };
    Ok(Some(NamedAt { name, at }))
}

fn member<'a>(json: &'a str, key: &str) -> Option<&'a str> {
    serde_json::Deserializer::from_str(json).deserialize_map(Member(key)).ok().flatten().map(RawValue::get)
}

/// finds one member of an object, compared after decoding
struct Member<'k>(&'k str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Key<'de>>()? {
            if key.0 == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// a key, borrowed where it has no escapes
struct Key<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// the first element of an array, raw, and how many there are
struct First;

impl<'de> Visitor<'de> for First {
    type Value = (&'de RawValue, usize);

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array that is not empty")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let first = seq.next_element()?.ok_or_else(|| A::Error::custom("empty array"))?;
        let mut length = 1;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            length += 1;
        }
        Ok((first, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(json: &str, field: &str) -> Result<Option<String>, &'static str> {
        let found = locate(json, &EventField::parse(field))?;
        if let Some(named) = &found {
            assert_eq!(serde_json::from_str::<String>(&json[named.at.clone()]).unwrap(), named.name);
        }
        Ok(found.map(|named| named.name.into_owned()))
    }

    #[test]
    fn p04_the_decoded_name_counts() {
        assert_eq!(name(r#"{"a":{"type":"no"},"type":"chat"}"#, "type"), Ok(Some("chat".into())));
        assert_eq!(name(r#"{"\u0074ype":"ch\u0061t"}"#, "type"), Ok(Some("chat".into())));
        assert_eq!(name(r#"{"meta":{"event/name":"x"}}"#, "/meta/event~1name"), Ok(Some("x".into())));
    }

    #[test]
    fn messages_without_a_name_have_none_and_other_types_are_a_flaw() {
        for json in ["{}", "[]", "3", "{\"typ\":1}", "not json", ""] {
            assert_eq!(name(json, "type"), Ok(None), "{json}");
        }
        for json in [r#"{"type":3}"#, r#"{"type":null}"#, r#"{"type":{"a":1}}"#] {
            assert_eq!(name(json, "type"), Err(NAME_NOT_A_STRING), "{json}");
        }
    }

    #[test]
    fn s05_a_socket_io_payload_starts_with_a_string() {
        let (named, length) = locate_first(r#" ["a\"b", {"x":[1,2]}, 3]"#).unwrap();
        assert_eq!((named.name.as_ref(), length), ("a\"b", 3));
        for json in ["[]", "{}", "[1]", "[null]", "[[\"a\"]]", "\"a\"", "[\"a\"", ""] {
            assert!(locate_first(json).is_err(), "{json}");
        }
    }
}
