//! A short history of real processes on every run of the tests: no limit is broken while Redis stands still, dies, and comes back
//! empty, and the checker would have seen it.

#![expect(clippy::unwrap_used, reason = "a test says what it expects and fails loudly")]
#![expect(clippy::print_stderr, reason = "the verdict says how close it was")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

const BENCH: &str = env!("CARGO_BIN_EXE_picket-bench");

fn picket() -> String {
    let path = Path::new(BENCH).with_file_name("picket");
    assert!(path.exists(), "no {}: `cargo build`, or test the whole workspace", path.display());
    path.display().to_string()
}

fn history(phases: &str, seed: Option<u64>, directory: &Path) -> String {
    let mut command = Command::new(BENCH);
    command.args(["history", "--subjects", "120", "--seconds", "9", "--phases", phases, "--picket", &picket()]);
    // Other tests keep the machine busy.
    command.args(["--timeout", "500"]);
    command.args(seed.map(|seed| format!("--seed={seed}")));
    let output = command.arg("--keep").arg(directory).output().unwrap();
    let said = said(&output);
    eprintln!("{said}");
    assert!(output.status.success(), "{said}");
    said
}

fn check(directory: &Path) -> Output {
    Command::new(BENCH).args(["history", "check"]).arg(directory).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stderr[..], &output.stdout[..]].concat()).into_owned()
}

/// A line of the records that nobody else wrote.
fn adds(directory: &Path, records: &[Value]) {
    let path = directory.join("clients.ndjson");
    let mut all = std::fs::read_to_string(&path).unwrap();
    records.iter().for_each(|record| all.push_str(&format!("{record}\n")));
    std::fs::write(path, all).unwrap();
}

/// A user that came when all others had left, and so many messages of hers, that came back.
fn mallory(messages: std::ops::Range<u64>) -> Vec<Value> {
    const LATER: u64 = 3_600_000_000;
    const NEW: u64 = 1_000_000_000;
    let comes = json!({
        "kind": "connect", "connection": NEW, "person": 0, "user": "mallory", "role": "member", "address": "192.0.2.66",
        "node": 0, "load": "aligned", "sent": LATER, "done": LATER + 1000, "outcome": "admitted",
    });
    let said = messages.flat_map(|number| {
        let (number, at) = (NEW + number, LATER + 2000 + 100 * number);
        [
            json!({ "kind": "send", "connection": NEW, "number": number, "event": "chat:say", "at": at }),
            json!({ "kind": "echo", "number": number, "at": at + 1500 }),
        ]
    });
    std::iter::once(comes).chain(said).collect()
}

#[test]
fn x01_x02_x03_x05_no_limit_is_broken_in_a_history_and_the_checker_sees_one_message_more() {
    let directory = TempDir::new().unwrap();
    history("calm,killed", Some(1), directory.path());
    assert!(check(directory.path()).status.success(), "what was kept is judged as it was at once");

    adds(directory.path(), &mallory(0..20));
    assert!(check(directory.path()).status.success(), "{}", said(&check(directory.path())));
    adds(directory.path(), &mallory(20..21)[1..]);
    let output = check(directory.path());
    let verdict = said(&output);
    assert!(!output.status.success(), "{verdict}");
    assert!(verdict.contains("VIOLATION: messageLimit (user, else address) of mallory, calm: 21 "), "{verdict}");

    // Another one each time; it is printed, so that a failure can be looked into.
    history("paused", None, TempDir::new().unwrap().path());
}
