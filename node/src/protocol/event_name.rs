//! Finding an event's name in JSON without building a tree, and without reading further than it.
//!
//! The text is read by its tokens only. That is exact for JSON with one reading; any other text may show a name or none, and is
//! refused by the strict pass over the payload, which every event meets.

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

/// the value at the field, as it stands in the text
pub fn find<'a>(json: &'a str, field: &EventField) -> Option<&'a str> {
    field.0.iter().try_fold(json, |value, key| member(value, key))
}

/// the event's name, `None` if the message has none; text that is not JSON has none either, and is judged elsewhere
pub fn locate<'a>(json: &'a str, field: &EventField) -> Result<Option<NamedAt<'a>>, &'static str> {
    find(json, field).map_or(Ok(None), |value| read_name(json, value))
}

/// the name in a Socket.IO payload, `["name", …]`
pub fn locate_first(json: &str) -> Result<NamedAt<'_>, &'static str> {
    let mut tokens = Tokens::of(json);
    let first = tokens.take(b'[').and_then(|()| tokens.value()).filter(|_| matches!(tokens.peek(), Some(b',' | b']')));
    read_name(json, first.ok_or("payload is not an array with a name")?)?.ok_or(NAME_NOT_A_STRING)
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

/// the value of one member of an object, whose key is compared after decoding
fn member<'a>(json: &'a str, key: &str) -> Option<&'a str> {
    let mut tokens = Tokens::of(json);
    tokens.take(b'{')?;
    loop {
        let found = tokens.string()?;
        tokens.take(b':')?;
        let value = tokens.value()?;
        if is_key(found, key) {
            return Some(value);
        }
        tokens.take(b',')?;
    }
}

fn is_key(literal: &str, key: &str) -> bool {
    match literal.contains('\\') {
        false => literal.get(1..literal.len() - 1) == Some(key),
        true => serde_json::from_str::<String>(literal).is_ok_and(|decoded| decoded == key),
    }
}

/// the tokens of a JSON text, one after the other
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn of(text: &'a str) -> Self {
        Tokens { text, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// the next byte that is not white space
    fn peek(&mut self) -> Option<u8> {
        self.at += self.rest().iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.rest().first().copied()
    }

    fn take(&mut self, expected: u8) -> Option<()> {
        (self.peek()? == expected).then(|| self.at += 1)
    }

    /// a string, quotes included
    fn string(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let start = self.at - 1;
        loop {
            self.at += memchr::memchr2(b'"', b'\\', self.rest())?;
            if self.rest().first() == Some(&b'"') {
                self.at += 1;
                return self.text.get(start..self.at);
            }
            self.at += 2;
        }
    }

    /// any value, as it stands in the text
    fn value(&mut self) -> Option<&'a str> {
        match self.peek()? {
            b'"' => self.string(),
            b'{' | b'[' => self.nested(),
            _ => {
                let start = self.at;
                let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                self.at += self.rest().iter().take_while(|byte| !is_end(byte)).count();
                self.text.get(start..self.at)
            }
        }
    }

    fn nested(&mut self) -> Option<&'a str> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => drop(self.string()?),
                byte => {
                    self.at += 1;
                    match byte {
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                }
            }
            if depth == 0 {
                return self.text.get(start..self.at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn what_comes_before_the_name_is_skipped_whole() {
        let json = r#"{"a":[{"type":"]}\""},[[]]],"b" : -1.5e3 , "c":null,"type" : "chat","d":{}}"#;
        assert_eq!(name(json, "type"), Ok(Some("chat".into())));
        assert_eq!(name(r#"{"a":[1,{"type":"no"}]}"#, "type"), Ok(None));
    }

    proptest! {
        #[test]
        fn a_name_is_found_where_serde_json_finds_it(members in prop::collection::btree_map("[a-d\\\\\"{\\[]{0,3}|type", any_json(), 0..6)) {
            let object = serde_json::Value::Object(members.into_iter().collect());
            let json = object.to_string();
            let expected = match object.get("type") {
                None => Ok(None),
                Some(serde_json::Value::String(name)) => Ok(Some(name.clone())),
                Some(_) => Err(NAME_NOT_A_STRING),
            };
            prop_assert_eq!(name(&json, "type"), expected);
        }

        #[test]
        fn no_text_makes_it_fail(text in any::<String>()) {
            drop(locate(&text, &EventField::parse("/a/b")));
            drop(locate_first(&text));
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf =
            prop_oneof![any::<i32>().prop_map(serde_json::Value::from), ".{0,6}".prop_map(serde_json::Value::from)];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::btree_map("[a-z\"\\\\]{0,4}", inner, 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn s05_a_socket_io_payload_starts_with_a_string() {
        let named = locate_first(r#" ["a\"b", {"x":[1,2]}, 3]"#).unwrap();
        assert_eq!((named.name.as_ref(), named.at), ("a\"b", 2..8));
        for json in ["[]", "{}", "[1]", "[null]", "[[\"a\"]]", "\"a\"", "[\"a\"", ""] {
            assert!(locate_first(json).is_err(), "{json}");
        }
    }
}
