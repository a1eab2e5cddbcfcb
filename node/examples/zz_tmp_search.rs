//! temporary
#![allow(clippy::all, clippy::print_stdout, clippy::disallowed_methods, reason = "temporary")]
use picket_node::content::*;
use std::time::Instant;
fn main() {
    let src = std::fs::read_to_string("node/src/content/properties.rs").unwrap();
    let start = src.find("const FRAGMENTS").unwrap();
    let body = &src[src[start..].find("&[\n").unwrap() + start + 2..];
    let body = &body[..body.find("];").unwrap()];
    // string literals
    let mut frags = vec![];
    let mut rest = body;
    while let Some(i) = rest.find('"') {
        let mut j = i + 1; let b = rest.as_bytes();
        while b[j] != b'"' { if b[j] == b'\\' { j += 1 } j += 1 }
        let raw = &rest[i + 1..j];
        let f = raw.replace("\\n", "\n").replace("\\t", "\t").replace("\\0", "\0").replace("\\u{200b}", "\u{200b}").replace("\\u{feff}", "\u{feff}").replace("\\\"", "\"").replace("\\\\", "\\");
        frags.push(f); rest = &rest[j + 1..];
    }
    frags.push("a".into()); frags.push("x=1 ".into()); frags.push("$(".into()); frags.push("or ".into()); frags.push("select ".into()); frags.push("..".into());
    let mut seed = 88172645463325252u64;
    let mut rnd = move || { seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17; seed as usize };
    let mut slow: Vec<(f64, String)> = vec![];
    let t0 = Instant::now();
    while t0.elapsed().as_secs() < 150 {
        let n = 1 + rnd() % 5;
        let prefix = if rnd() % 3 == 0 { frags[rnd() % frags.len()].clone() } else { String::new() };
        let unit: String = (0..n).map(|_| frags[rnd() % frags.len()].clone()).collect();
        for (kind, size, count) in [("one", 1 << 20, 1), ("many", 10_000, 105), ("short", 2000, 520)] {
            let text = format!("{prefix}{}", unit.repeat(size / unit.len()));
            let texts = vec![text; count];
            let json = serde_json::to_string(&texts).unwrap();
            if json.len() > 3 << 20 { continue }
            let t = Instant::now(); let out = sanitize_json(&json, None); let e = t.elapsed().as_secs_f64() * 1e3;
            slow.push((e / (json.len() as f64 / 1048576.0).max(1.0), format!("sanitize {kind} {prefix:?} {unit:?}")));
            let _ = out;
            let t = Instant::now(); let _ = signals(&json, None); let e = t.elapsed().as_secs_f64() * 1e3;
            slow.push((e, format!("signals {kind} {prefix:?} {unit:?}")));
            let t = Instant::now(); let _ = scan(&json, &Bounds { max_depth: 64, max_keys: 10000, max_text_chars: 1 << 21 }); let e = t.elapsed().as_secs_f64() * 1e3;
            slow.push((e, format!("scan {kind} {prefix:?} {unit:?}")));
        }
        slow.sort_by(|a, b| b.0.total_cmp(&a.0)); slow.truncate(25);
    }
    for (ms, what) in slow { println!("{ms:8.1} ms {what}") }
}
