//! YAML text to a JSON value, with the line of every field. No input and no output besides.
//!
//! One document, keys that are texts, none of them twice. Aliases and tags are refused, so that what a reader sees is what
//! is meant, and a short file cannot stand for a huge value. Size and depth are bounded. Scalars are read by the core schema of
//! YAML 1.2: `on` and `off` are texts.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// bytes of a configuration file
pub const FILE_BYTES_MAX: usize = 1_048_576;
/// nesting of a document
const DEPTH_MAX: usize = 64;

/// the line of each field, by its dotted path
pub type Lines = BTreeMap<String, usize>;

#[derive(Debug, Default, PartialEq)]
pub struct Document {
    pub value: Value,
    pub lines: Lines,
}

/// something in the text that has no meaning as a configuration
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlMistake {
    pub line: usize,
    /// empty where the text itself is broken
    pub path: String,
    pub message: String,
}

/// reads the document, or says every mistake; broken syntax ends the reading
pub fn parse(text: &str) -> Result<Document, Vec<YamlMistake>> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!("has {} bytes; at most {FILE_BYTES_MAX} are read", text.len());
        return Err(vec![YamlMistake { line: 1, path: String::new(), message }]);
    }
    let mut reader = Reader { parser: Parser::new_from_str(text), lines: Lines::new(), mistakes: Vec::new() };
    match reader.stream() {
        Ok(value) if reader.mistakes.is_empty() => Ok(Document { value, lines: reader.lines }),
        Ok(_) => Err(reader.mistakes),
        Err(fatal) => {
            reader.mistakes.push(fatal);
            Err(reader.mistakes)
        }
    }
}

struct Reader<'text> {
    parser: Parser<'text, StrInput<'text>>,
    lines: Lines,
    mistakes: Vec<YamlMistake>,
}

impl<'text> Reader<'text> {
    fn stream(&mut self) -> Result<Value, YamlMistake> {
        let mut document = None;
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(document.unwrap_or(Value::Null)),
                Event::DocumentStart(_) if document.is_some() => {
                    return Err(broken(line, "a second document starts here; a configuration is one document"));
                }
                Event::DocumentStart(_) => {
                    let (event, line) = self.next()?;
                    document = Some(self.node(event, line, "", 0)?);
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'text>, usize), YamlMistake> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => Err(syntax(&error)),
            None => Ok((Event::StreamEnd, 1)),
        }
    }

    fn node(&mut self, event: Event<'text>, line: usize, path: &str, depth: usize) -> Result<Value, YamlMistake> {
        if depth > DEPTH_MAX {
            return Err(broken(line, format!("is nested more than {DEPTH_MAX} levels deep")));
        }
        match event {
            Event::Scalar(text, style, _, tag) => {
                if tag.is_some() {
                    self.mistake(line, path, "tags are not supported; write the value without one");
                }
                Ok(self.scalar(&text, style, line, path))
            }
            Event::SequenceStart(_, tag) => {
                if tag.is_some() {
                    self.mistake(line, path, "tags are not supported; write the value without one");
                }
                self.list(path, depth)
            }
            Event::MappingStart(_, tag) => {
                if tag.is_some() {
                    self.mistake(line, path, "tags are not supported; write the value without one");
                }
                self.fields(path, depth)
            }
            Event::Alias(_) => {
                self.mistake(line, path, "aliases are not supported; write the value out");
                Ok(Value::Null)
            }
            _ => Err(broken(line, "a value is expected here")),
        }
    }

    fn list(&mut self, path: &str, depth: usize) -> Result<Value, YamlMistake> {
        let mut items = Vec::new();
        loop {
            let (event, line) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::Array(items));
            }
            let path = format!("{path}[{}]", items.len());
            self.lines.insert(path.clone(), line);
            items.push(self.node(event, line, &path, depth + 1)?);
        }
    }

    fn fields(&mut self, path: &str, depth: usize) -> Result<Value, YamlMistake> {
        let mut fields = Map::new();
        loop {
            let (event, line) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Value::Object(fields));
            }
            let key = self.key(event, line, path, depth)?;
            let path = below(path, &key);
            if fields.contains_key(&key) {
                let first = self.lines.get(&path).copied().unwrap_or_default();
                self.mistake(line, &path, format!("stands here a second time; the first is on line {first}"));
            } else {
                self.lines.insert(path.clone(), line);
            }
            let (event, line) = self.next()?;
            let value = self.node(event, line, &path, depth + 1)?;
            fields.entry(key).or_insert(value);
        }
    }

    fn key(&mut self, event: Event<'text>, line: usize, path: &str, depth: usize) -> Result<String, YamlMistake> {
        match event {
            Event::Scalar(text, style, _, None) => {
                if !matches!(self.scalar(&text, style, line, path), Value::String(_)) {
                    self.mistake(
                        line,
                        &below(path, &text),
                        format!("a key must be a text: write it in quotes, \"{text}\""),
                    );
                }
                Ok(text.into_owned())
            }
            other => {
                self.mistake(line, path, "a key must be a plain text");
                self.node(other, line, path, depth + 1)?;
                Ok(format!("key on line {line}"))
            }
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, line: usize, path: &str) -> Value {
        if style != ScalarStyle::Plain {
            return text.into();
        }
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Value::Null,
            "true" | "True" | "TRUE" => true.into(),
            "false" | "False" | "FALSE" => false.into(),
            ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
            | "-.INF" => {
                self.mistake(line, path, format!("{text} is not a finite number"));
                Value::Null
            }
            _ => number(text).unwrap_or_else(|| text.into()),
        }
    }

    fn mistake(&mut self, line: usize, path: &str, message: impl Into<String>) {
        self.mistakes.push(YamlMistake { line, path: path.to_owned(), message: message.into() });
    }
}

/// a number of the core schema (YAML 1.2.2 section 10.3.2), if the text is one
fn number(text: &str) -> Option<Value> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok().map(Value::from);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return u64::from_str_radix(digits, 8).ok().map(Value::from);
    }
    let starts = text.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    if !starts || !numeric {
        return None;
    }
    let integer = text.parse::<u64>().map(Value::from).or_else(|_| text.parse::<i64>().map(Value::from)).ok();
    integer.or_else(|| text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from))
}

fn syntax(error: &ScanError) -> YamlMistake {
    broken(error.marker().line(), format!("not valid YAML: {}", error.info()))
}

fn broken(line: usize, message: impl Into<String>) -> YamlMistake {
    YamlMistake { line, path: String::new(), message: message.into() }
}

/// the path of a field
pub fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// what holds of any bytes: the same document each time, within its bounds, and each field on a line of the text
#[cfg(any(test, fuzzing))]
pub fn law(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let lines_max = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 1;
    let parsed = parse(text);
    assert_eq!(parse(text), parsed);
    match parsed {
        Ok(document) => {
            assert!(depth(&document.value) <= DEPTH_MAX);
            assert!(document.lines.values().all(|line| (1..=lines_max).contains(line)), "{:?}", document.lines);
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            assert!(mistakes.iter().all(|mistake| (1..=lines_max).contains(&mistake.line)), "{mistakes:?}");
        }
    }
}

#[cfg(any(test, fuzzing))]
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mistakes(text: &str) -> Vec<(usize, String, String)> {
        parse(text).unwrap_err().into_iter().map(|mistake| (mistake.line, mistake.path, mistake.message)).collect()
    }

    #[test]
    fn values_have_the_types_of_yaml_1_2_and_fields_their_lines() {
        let document =
            parse("a: 1\nb:\n  c: [on, \"2\", 0.5, null]\n  chat:send: yes\nd:\n  - e: -3\n    f: 0x10\n").unwrap();
        assert_eq!(
            document.value,
            json!({ "a": 1, "b": { "c": ["on", "2", 0.5, null], "chat:send": "yes" }, "d": [{ "e": -3, "f": 16 }] })
        );
        for (path, line) in
            [("a", 1), ("b", 2), ("b.c", 3), ("b.c[3]", 3), ("b.chat:send", 4), ("d[0]", 6), ("d[0].f", 7)]
        {
            assert_eq!(document.lines.get(path), Some(&line), "{path}");
        }
    }

    #[test]
    fn texts_that_look_like_numbers_stay_texts() {
        let document = parse("[1.2.3.4, 10-20, 1e, --1, 127.0.0.1:80, '7', .5, 1e3, +1, -]").unwrap_or_default();
        assert_eq!(document.value, Value::Null, "a lone dash is no value in a flow list");
        let document = parse("[1.2.3.4, 10-20, 1e, --1, 127.0.0.1:80, '7', .5, 1e3, +1]").unwrap();
        assert_eq!(document.value, json!(["1.2.3.4", "10-20", "1e", "--1", "127.0.0.1:80", "7", 0.5, 1000.0, 1]));
    }

    #[test]
    fn what_could_mean_two_things_is_a_mistake_on_its_line() {
        let said = mistakes("a: 1\nb: &x 2\na: 3\n1: 2\nc: *x\nd: !!str 4\n? [e]\n: 5\n");
        let lines: Vec<_> = said.iter().map(|(line, path, _)| (*line, path.as_str())).collect();
        assert_eq!(lines, [(3, "a"), (4, "1"), (5, "c"), (6, "d"), (7, "")]);
        assert!(said[0].2.contains("first is on line 1"), "{said:?}");
        assert!(mistakes("a: 1\n---\nb: 2\n")[0].2.contains("second document"));
    }

    #[test]
    fn bombs_are_bounded() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        assert!(!mistakes(&deep).is_empty());
        let deep_blocks: String = (0..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
        assert!(mistakes(&deep_blocks)[0].2.contains("nested"));
        assert!(mistakes(&" ".repeat(FILE_BYTES_MAX + 1))[0].2.contains("bytes"));
        let laughs = "a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
        assert!(mistakes(laughs).iter().all(|(_, _, message)| message.contains("aliases")));
    }

    #[test]
    fn broken_syntax_says_its_line() {
        let said = mistakes("environment: production\nnode:\n  listen: \"127.0.0.1:0\n");
        assert!(said[0].0 >= 3 && said[0].2.starts_with("not valid YAML"), "{said:?}");
    }

    #[test]
    fn the_law_holds_of_the_corpus() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/configuration");
        let seeds: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|seed| seed.unwrap().path()).collect();
        assert!(seeds.len() >= 12, "{} seeds", seeds.len());
        for path in seeds {
            println!("{}", path.display());
            law(&std::fs::read(path).unwrap());
        }
    }
}
