//! Every drill against a real Picket, and against what protects nobody.
//!
//! They need the `picket` executable, which `cargo test --workspace` builds, and `redis-server`. The machine may be busy, so only
//! tests that are about a time look at times, generously.

use clap::Parser;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;

use super::verdict::{Outcome, Verdict};
use super::{Drill, run};
use crate::bare;
use crate::dialect::Dialect;
use crate::echo;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    drill: Drill,
}

/// beyond whatever a busy machine adds
const ANY_RATIO: [&str; 2] = ["--p99-ratio", "1000000"];

async fn drill(line: &[&str]) -> Verdict {
    let short = ["--before", "2", "--after", "1", "--clients", "8"];
    let line = Line::parse_from([&["drill"], line, &short].concat());
    run(&line.drill).await.unwrap()
}

/// on a Picket of the drill's own
async fn practise(line: &[&str]) -> Verdict {
    let picket = picket();
    drill(&[line, &["--practice", "--picket", picket.to_str().unwrap()]].concat()).await
}

/// built beside this test's folder
fn picket() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("picket")
}

fn passes(verdict: &Verdict) {
    assert!(verdict.passed, "{}", verdict.table());
}

fn outcome(verdict: &Verdict, name: &str) -> Outcome {
    let check = verdict.checks.iter().find(|check| check.name == name);
    check.unwrap_or_else(|| panic!("no check {name}:\n{}", verdict.table())).outcome
}

fn figure(verdict: &Verdict, name: &str) -> f64 {
    verdict.figures.iter().find(|figure| figure.name == name).unwrap().value
}

/// a proxy that looks at nothing, before an application that echoes
async fn bare_proxy() -> SocketAddr {
    let application = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = application.local_addr().unwrap();
    tokio::spawn(echo::serve(application, Dialect::Json));
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    tokio::spawn(bare::serve(proxy, upstream, bare::Manner::default()));
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_meets_refusals_and_nobody_else_is_disconnected() {
    let verdict = practise(&[&["flood", "--seconds", "2", "--connections", "10"], &ANY_RATIO[..]].concat()).await;
    passes(&verdict);
    assert!(figure(&verdict, "attackers disconnected") > 0.0);
    assert!(verdict.well_behaved.during.round_trips > 0);
}

/// attackers that are never cut off: without a pause for each refusal, others wait for seconds
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_that_nothing_cuts_off_waits_in_its_senders_buffers() {
    let stay = ["--practice-policy", r#"{"security":{"violationsBeforeClose":4294967295}}"#];
    let line = ["flood", "--seconds", "3", "--connections", "10"];
    let verdict = practise(&[&line, &stay[..], &ANY_RATIO].concat()).await;
    passes(&verdict);
    assert_eq!(figure(&verdict, "attackers disconnected"), 0.0);
    // Fifty a second of each, and as many again for a clock that is not to be relied on.
    let read = figure(&verdict, "refusals that attackers read");
    assert!(read < 10.0 * 3.0 * 50.0 * 2.0, "{read} refusals");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_socketio_meets_refusals_too() {
    let line = ["flood", "--protocol", "socketio", "--seconds", "2", "--connections", "10"];
    passes(&practise(&[&line, &ANY_RATIO[..]].concat()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_origin_but_the_allowed_one_gets_in() {
    let verdict = practise(&["origin", "--seconds", "5"]).await;
    passes(&verdict);
    assert!(verdict.checks.len() > 19);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_hostile_comes_back_through_a_json_route() {
    passes(&practise(&["payload", "--seconds", "20"]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_hostile_comes_back_through_socketio() {
    passes(&practise(&["payload", "--protocol", "socketio", "--seconds", "20"]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h18_slow_clients_are_closed_in_time_and_bother_nobody() {
    let line = ["slow", "--seconds", "7", "--connections", "200", "--header-seconds", "8"];
    let verdict = practise(&[&line, &ANY_RATIO[..]].concat()).await;
    passes(&verdict);
    assert_eq!(outcome(&verdict, "a frame in drops"), Outcome::Skipped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_comes_back_after_a_churn() {
    let verdict = practise(&["reconnect", "--seconds", "4", "--connections", "5", "--back-within", "20"]).await;
    passes(&verdict);
    assert!(figure(&verdict, "handshakes refused") > 0.0, "a churn has to meet the connection limit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_window_holds_more_than_the_limit() {
    let policy = r#"{"rateLimiting":{"messageLimit":{"maxMessages":20,"windowMs":2000},
                     "connectionLimit":{"maxConnections":1000}},"security":{"violationsBeforeClose":1000}}"#;
    let limit = ["--limit", "20", "--window", "2", "--practice-policy", policy];
    let verdict = practise(&[&["ratelimit", "--connections", "4", "--rate", "1"], &limit[..]].concat()).await;
    passes(&verdict);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_without_protection_fails() {
    let target = format!("ws://{}/ws", bare_proxy().await);
    let at = ["--target", &target, "--seconds", "2"];

    let flood = drill(&[&["flood", "--connections", "2"], &at[..], &ANY_RATIO].concat()).await;
    assert_eq!(outcome(&flood, "the flood meets refusals"), Outcome::Failed);

    let origin = drill(&[&["origin"], &at[..]].concat()).await;
    assert_eq!(outcome(&origin, "foreign"), Outcome::Failed);

    let payload = drill(&["payload", "--target", &target, "--seconds", "30"]).await;
    assert_eq!(outcome(&payload, "an honest event comes back"), Outcome::Passed);
    for case in ["<script>", "__proto__", "text too long", "$where", "declared length of one too much"] {
        assert_eq!(outcome(&payload, case), Outcome::Failed, "{case}");
    }

    let slow = drill(&[&["slow", "--connections", "5", "--header-seconds", "1"], &at[..], &ANY_RATIO].concat()).await;
    assert_eq!(outcome(&slow, "half-open: no byte, closed within 1 s"), Outcome::Failed);

    let limit = ["--limit", "20", "--window", "1", "--seconds", "3", "--target", &target];
    let ratelimit = drill(&[&["ratelimit"], &limit[..]].concat()).await;
    assert_eq!(outcome(&ratelimit, "this address: at most 20 in any 1 s"), Outcome::Failed);

    for verdict in [flood, origin, payload, slow, ratelimit] {
        assert!(!verdict.passed, "{}", verdict.table());
    }
}

#[tokio::test]
async fn only_this_machine_is_attacked_unless_somebody_answers_for_it() {
    let line = ["drill", "flood", "--target", "ws://192.0.2.1/ws"];
    let refused = run(&Line::parse_from(line).drill).await.unwrap_err().to_string();
    assert!(refused.contains("--i-am-allowed-to-attack-this-target"), "{refused}");
}

#[test]
fn every_drill_is_bounded() {
    for line in [["flood", "--seconds", "601"], ["slow", "--connections", "20001"], ["origin", "--clients", "501"]] {
        assert!(Line::try_parse_from([&["drill"], &line[..], &["--practice"]].concat()).is_err(), "{line:?}");
    }
}
