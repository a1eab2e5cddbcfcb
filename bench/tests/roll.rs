//! A short rolling restart of real nodes behind a real HAProxy on every run of the tests.

use std::path::Path;
use std::process::Command;

const BENCH: &str = env!("CARGO_BIN_EXE_picket-bench");

#[test]
fn x25_a_rolling_restart_is_hardly_noticed() {
    let picket = Path::new(BENCH).with_file_name("picket");
    assert!(picket.exists(), "no {}: `cargo build`, or test the whole workspace", picket.display());
    let mut command = Command::new(BENCH);
    command.args(["roll", "--connections", "300", "--grace-ms", "1000", "--spread-ms", "4000", "--pause-ms", "500"]);
    let output = command.arg("--picket").arg(picket).output().unwrap();
    let said = String::from_utf8_lossy(&[&output.stderr[..], &output.stdout[..]].concat()).into_owned();
    eprintln!("{said}");
    assert!(output.status.success(), "{said}");
}
