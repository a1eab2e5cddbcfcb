//! What the content checks cost at worst: a mebibyte of every text that an attacker would think of, and of many that a
//! generator does. `cargo test --release -p picket-node --lib content::cost -- --nocapture` prints the figures that count.

use picket_shared::clock::thread_time;
use std::time::Duration;

use super::*;

const MIB: usize = 1 << 20;
/// the default bound of one text
const TEXT_BYTES: usize = 10_000;
/// the goal on one core of a release build; a debug build, and a machine that does other things too, only show the order
const PER_MIB_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 5000 } else { 60 });
const BOUNDS: Bounds = Bounds { max_depth: 64, max_keys: 10_000, max_text_chars: MIB };

/// what is repeated until a payload is full
const UNITS: [&str; 40] = [
    "<",
    "&",
    "&#",
    "&#x",
    "&l",
    "&#0",
    r"\u003c",
    r"\\",
    r"\\u003c",
    "%3c",
    "%253c",
    "<<<a",
    "<a",
    "<a ",
    "<a/x=",
    "<a x=<b/",
    "<a x='<a y=\\\"",
    "<a title=&lt;",
    "<a title='&lt;b x=&amp;",
    "<b a=1 b=2 c=3 d=4 e=5 f=6 g=7 h=8 ",
    "<b x",
    " x=y",
    "<!--",
    "<!-- <!-- -->",
    "<!",
    "<![CDATA[",
    "</",
    "<style>{",
    "<p style='/*",
    "<p style='\\\\65 ",
    "<svg><math><title>",
    "<script>",
    "<b onclick=f()>",
    "<img src=x>",
    "<title><textarea>",
    "javascript:f()",
    "[a](javascript:",
    "feed:feed:",
    "/* ' or 1=1 ",
    "＜a ",
];

/// how the same text comes
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// all of it one text
    One,
    /// texts as long as the default allows
    Texts,
    /// each repetition a text of its own
    Units,
}

const SHAPES: [Shape; 3] = [Shape::One, Shape::Texts, Shape::Units];

fn payload(unit: &str, shape: Shape, bytes: usize) -> String {
    let text_bytes = match shape {
        Shape::One => bytes,
        Shape::Texts => TEXT_BYTES,
        Shape::Units => unit.len(),
    };
    let text = unit.repeat((text_bytes / unit.len()).max(1));
    let texts = vec![format!("\"{text}\""); (bytes / (text.len() + 3)).max(1)];
    format!("[{}]", texts.join(","))
}

/// the whole of what a node does with the content of one payload
fn inspect(json: &str) -> Duration {
    let start = thread_time();
    if scan(json, &BOUNDS, None).is_ok_and(|scan| scan.may_act) {
        std::hint::black_box(sanitize_json(json, None));
        std::hint::black_box(signals(json, None));
    }
    thread_time() - start
}

/// the fastest of three: what else the machine does is not the text's cost
fn cost(json: &str) -> Duration {
    (0..3).map(|_| inspect(json)).min().unwrap()
}

/// what an attacker who reads the source would try: pieces of syntax in any order
fn generated(seed: u64) -> String {
    const PIECES: [&str; 24] = [
        "<",
        "a",
        "/",
        ">",
        "=",
        "'",
        "\\\"",
        " ",
        "&",
        "&lt;",
        "&#60;",
        "x",
        "on",
        "%3c",
        "\\\\",
        "!--",
        "style",
        "svg",
        ":",
        "javascript",
        "(",
        "{",
        "＜",
        "*/",
    ];
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize
    };
    let length = 1 + next() % 12;
    (0..length).map(|_| PIECES[next() % PIECES.len()]).collect()
}

fn worst(units: impl Iterator<Item = String>, bytes: usize) -> Vec<(Duration, String, Shape)> {
    let mut costs: Vec<_> =
        units.flat_map(|unit| SHAPES.map(|shape| (cost(&payload(&unit, shape, bytes)), unit.clone(), shape))).collect();
    costs.sort_by_key(|(cost, ..)| std::cmp::Reverse(*cost));
    costs
}

#[test]
fn p15_a_mebibyte_of_any_text_is_inspected_in_milliseconds() {
    let costs = worst(UNITS.into_iter().map(str::to_owned), MIB);
    for (cost, unit, shape) in costs.iter().take(12) {
        println!("p15: {:>7.1} ms per MiB of {unit:?} as {shape:?}", cost.as_secs_f64() * 1000.0);
    }
    assert!(costs[0].0 <= PER_MIB_MAX, "{:?}", costs[0]);
}

#[test]
fn p15_no_text_of_a_generator_costs_more() {
    // A debug build takes a part of the work.
    let (seeds, bytes) = if cfg!(debug_assertions) { (40, MIB / 4) } else { (400, MIB) };
    let costs = worst((0..seeds).map(generated), bytes);
    for (cost, unit, shape) in costs.iter().take(8) {
        println!("p15: {:>7.1} ms per {bytes} B of {unit:?} as {shape:?}", cost.as_secs_f64() * 1000.0);
    }
    assert!(costs[0].0 <= PER_MIB_MAX, "{:?}", costs[0]);
}

#[test]
fn p15_the_cost_grows_with_the_text_and_not_faster() {
    for unit in UNITS {
        for shape in SHAPES {
            let (quarter, whole) = (cost(&payload(unit, shape, MIB / 8)), cost(&payload(unit, shape, MIB / 2)));
            // Four times the text; quadratic would be sixteen. Short times are mostly noise.
            let bound = quarter.max(Duration::from_millis(4)) * 10;
            assert!(whole <= bound, "{unit:?} as {shape:?}: {quarter:?}, four times as much {whole:?}");
        }
    }
}
