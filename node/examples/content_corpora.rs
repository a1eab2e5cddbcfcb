//! Measures the content checks on the corpora that lie beside the repository (or at PICKET_CORPORA): how much of what is an
//! attack is recognised, how much of what is honest is touched, and what it costs. `--missed` lists what was not judged well.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement prints a table and reads the clock")]

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use picket_node::content::{
    Bounds, Flaw, Signal, is_active, sanitize_json, sanitize_text, scan, signals, text_signals,
};
use serde_json::Value;

const BOUNDS: Bounds = Bounds { max_depth: 64, max_keys: 10_000, max_text_chars: 10_000 };

fn main() {
    let directory = corpora();
    if !directory.is_dir() {
        println!("no corpora at {}: nothing measured (set PICKET_CORPORA)", directory.display());
        return;
    }
    let corpora = Corpora { directory, list_missed: std::env::args().any(|argument| argument == "--missed") };
    println!("{:<44} {:>5} {:>5} {:>7}", "corpus", "hits", "of", "rate");
    corpora.markup();
    corpora.honest_text();
    corpora.json();
    corpora.signals();
    timings();
}

fn corpora() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora");
    std::env::var_os("PICKET_CORPORA").map_or(beside, PathBuf::from)
}

struct Corpora {
    directory: PathBuf,
    list_missed: bool,
}

impl Corpora {
    fn rows(&self, name: &str) -> Vec<Value> {
        let lines = std::fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Prints how many rows satisfy `hit`, and with `--missed` those that do not.
    fn rate(&self, title: &str, rows: &[&Value], hit: impl Fn(&Value) -> bool) {
        let missed: Vec<_> = rows.iter().filter(|row| !hit(row)).collect();
        let hits = rows.len() - missed.len();
        let percent = 100.0 * hits as f64 / rows.len().max(1) as f64;
        println!("{title:<44} {hits:>5} {:>5} {percent:>6.1}%", rows.len());
        if self.list_missed {
            for row in missed {
                println!("    {} {:.150?}", field(row, "id"), text(row));
            }
        }
    }

    fn markup(&self) {
        let rows = self.rows("xss.jsonl");
        for tier in ["core", "hard", "fragment"] {
            let tiered: Vec<_> = rows.iter().filter(|row| field(row, "tier") == tier).collect();
            self.rate(&format!("xss {tier}: active"), &tiered, |row| is_active(&text(row)));
            self.rate(&format!("xss {tier}: settled by sanitising"), &tiered, |row| is_settled(&text(row)));
        }
        for name in ["padded_evasion", "sanitize_dompurify", "naughty_strings"] {
            let rows = self.rows(&format!("{name}.jsonl"));
            let rows: Vec<_> = rows.iter().collect();
            self.rate(&format!("{name}: active"), &rows, |row| is_active(&text(row)));
            self.rate(&format!("{name}: settled by sanitising"), &rows, |row| is_settled(&text(row)));
        }
    }

    fn honest_text(&self) {
        let rows = self.rows("benign.jsonl");
        let unchanged: Vec<_> = rows.iter().filter(|row| field(row, "expect") == "allow_unchanged").collect();
        self.rate("benign allow_unchanged: byte for byte", &unchanged, |row| {
            let text = text(row);
            let json = serde_json::to_string(&text).unwrap_or_default();
            matches!(sanitize_text(&text), Cow::Borrowed(_)) && matches!(sanitize_json(&json, None), Cow::Borrowed(_))
        });
        let escapable: Vec<_> = rows.iter().filter(|row| field(row, "expect") == "allow_may_escape").collect();
        self.rate("benign allow_may_escape: byte for byte", &escapable, |row| !is_active(&text(row)));
        let all: Vec<_> = rows.iter().collect();
        self.rate("benign: no signal", &all, |row| text_signals(&text(row)).is_empty());
    }

    fn json(&self) {
        let rows = self.rows("json_parsing.jsonl");
        for expect in ["accept", "reject", "either"] {
            let rows: Vec<_> = rows.iter().filter(|row| field(row, "expect") == expect).collect();
            self.rate(&format!("json_parsing {expect}: as expected"), &rows, |row| {
                let accepted = std::str::from_utf8(&bytes(row)).is_ok_and(|json| scan(json, &BOUNDS, None).is_ok());
                expect == "either" || accepted == (expect == "accept")
            });
        }
        for name in ["proto_pollution", "nosqli"] {
            let rows = self.rows(&format!("{name}.jsonl"));
            let payloads: Vec<_> = rows.iter().filter(|row| field(row, "form") == "json").collect();
            self.rate(&format!("{name} json: hostile"), &payloads, |row| {
                matches!(scan(&text(row), &BOUNDS, None), Err(Flaw::Hostile(_)))
            });
            let texts: Vec<_> = rows.iter().filter(|row| field(row, "form") == "string").collect();
            self.rate(&format!("{name} string: any signal"), &texts, |row| !text_signals(&text(row)).is_empty());
        }
    }

    fn signals(&self) {
        for (name, signal) in [
            ("sqli", Signal::SqlInjection),
            ("path_traversal", Signal::PathTraversal),
            ("command_injection", Signal::CommandInjection),
        ] {
            let rows = self.rows(&format!("{name}.jsonl"));
            for tier in ["", "core", "hard", "fragment"] {
                let tiered: Vec<_> = rows.iter().filter(|row| field(row, "tier") == tier).collect();
                if !tiered.is_empty() {
                    self.rate(&format!("{name} {tier}: signal"), &tiered, |row| {
                        text_signals(&text(row)).contains(signal)
                    });
                }
            }
        }
        let rows = self.rows("other_injection.jsonl");
        let rows: Vec<_> = rows.iter().collect();
        self.rate("other_injection: any signal", &rows, |row| !text_signals(&text(row)).is_empty());
    }
}

fn is_settled(text: &str) -> bool {
    let once = sanitize_text(text);
    !is_active(&once) && sanitize_text(&once) == once
}

fn field<'a>(row: &'a Value, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn text(row: &Value) -> String {
    match row.get("payload").and_then(Value::as_str) {
        Some(payload) => payload.to_owned(),
        None => String::from_utf8_lossy(&bytes(row)).into_owned(),
    }
}

fn bytes(row: &Value) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(field(row, "b64")).unwrap_or_default()
}

fn timings() {
    let chat = r#"{"event":"chat.message","data":{"room":"general","text":"hello there, how are you doing today? I am fine","seq":12345}}"#;
    println!("\n{:<44} {:>12}", "cost", "per call");
    time("scan, 120 bytes of chat", || scan(chat, &BOUNDS, None).is_ok_and(|learnt| learnt.may_act));
    time("sanitize_json, the same", || matches!(sanitize_json(chat, None), Cow::Owned(_)));
    time("signals, the same", || !signals(chat, None).is_empty());
    time("sanitize_text, 45 plain bytes", || is_active("hello there, how are you doing today? I am fine"));
    time("sanitize_text, `if (a<b && c>d)`", || is_active("if (a<b && c>d) return Vec<String>;"));
    time("sanitize_text, a small attack", || !sanitize_text("hi <b>you</b> <img src=x onerror=alert(1)>").is_empty());
    for unit in WORST_UNITS {
        let text = unit.repeat((1 << 20) / unit.len());
        time(&format!("1 MiB of {unit:.30?}"), || is_active(&text));
        time("    sanitised", || !sanitize_text(&text).is_empty());
        let texts: Vec<_> = (0..105).map(|_| unit.repeat(10_000 / unit.len())).collect();
        let json = serde_json::to_string(&texts).unwrap_or_default();
        time("    as 105 texts, sanitised", || !sanitize_json(&json, None).is_empty());
        time("    scan and signals", || scan(&json, &BOUNDS, None).is_ok() && signals(&json, None).is_empty());
    }
}

/// Strings that hurt naive parsers when repeated.
const WORST_UNITS: &[&str] = &[
    "<",
    "<a ",
    "<a b=c ",
    "<a b='",
    "<a b=\"<",
    "<b>",
    "<b x=1>",
    "<b onx=1>",
    "<script>",
    "<style>",
    "</",
    "<!--",
    "<svg><style>",
    "&lt;",
    "&#106;",
    "%3c",
    "%253cscript%253e",
    "\\x3c",
    "\\u003c",
    "＜",
    "](javascript:",
    "](data:",
    "javascript:",
    "feed:",
    "\"onx=",
    "/*",
    "' or ",
    "../",
    "\u{0}",
    "<title>",
    "<a x='<b y=\"<c z=",
    "a ",
    "onx=(",
    "union select ",
    "<x style='\\65'>",
    "(select ",
    "\u{1d42c}<",
];

/// Times a call, with as many repetitions as fit into a moment.
fn time(title: &str, call: impl Fn() -> bool) {
    let start = Instant::now();
    let mut calls = 0_u32;
    while calls == 0 || (calls < 1_000_000 && start.elapsed() < Duration::from_millis(60)) {
        std::hint::black_box(call());
        calls += 1;
    }
    println!("{title:<44} {:>12?}", start.elapsed() / calls);
}
