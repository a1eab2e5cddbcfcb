//! One budget of messages and of connections, however many nodes one uses.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::meter::{all_hammer, all_say, everywhere, message_limit, says, worst_window};
use crate::harness::{Cluster, Outcome, Redis, Token};

#[tokio::test]
async fn x01_one_user_has_one_message_budget_over_sockets_on_three_nodes() {
    let redis = Redis::start().await;
    let cluster = Cluster::of(3).on(&redis).policy(message_limit(30, Duration::from_secs(60))).start().await;
    let mut alice = everywhere(&cluster, "alice").await;

    let passed = all_say(&mut alice, 20).await;

    eprintln!("x01: {passed} of 60 messages passed, the limit is 30");
    assert_eq!(passed, 30);
    assert_eq!(cluster.upstream().texts().len(), 30, "what the application saw");
    let mut bob = cluster.node(1).caller("198.51.100.2").bearing(&Token::of("bob").signed()).comes_in().await;
    assert_eq!(says(&mut bob, 1).await, 1);
}

#[tokio::test]
async fn x01_no_trailing_window_over_three_nodes_holds_more_than_the_limit() {
    const WINDOW: Duration = Duration::from_millis(1200);
    let redis = Redis::start().await;
    let cluster = Cluster::of(3).on(&redis).policy(message_limit(20, WINDOW)).start().await;
    let mut alice = everywhere(&cluster, "alice").await;

    let passages = all_hammer(&mut alice, Instant::now() + WINDOW * 4).await;

    let worst = worst_window(&passages, WINDOW);
    eprintln!("x01: the worst window of {} passages holds {worst}, the limit is 20", passages.len());
    assert!(worst <= 20, "{worst}");
    assert!(passages.len() >= 3 * 20, "four windows let through {} only", passages.len());
}

#[tokio::test]
async fn h29_connections_of_one_address_are_counted_over_three_nodes() {
    let redis = Redis::start().await;
    let limit = json!({ "rateLimiting": { "connectionLimit": { "maxConnections": 6, "windowMs": 60_000 } } });
    let cluster = Cluster::of(3).on(&redis).policy(limit).start().await;

    let outcomes = join_all((0..12).map(|n| cluster.node(n % 3).caller("198.51.100.7").connects())).await;

    assert_eq!(admitted_past("connection_rate", outcomes), 6);
    for node in cluster.nodes() {
        node.caller("198.51.100.8").comes_in().await;
    }
}

#[tokio::test]
async fn h23_the_addresses_of_one_64_are_one_subject_on_all_nodes() {
    let redis = Redis::start().await;
    let limit = json!({ "rateLimiting": { "connectionLimit": { "maxConnections": 6, "windowMs": 60_000 } } });
    let cluster = Cluster::of(3).on(&redis).policy(limit).start().await;

    let rotating = (0..12).map(|n| cluster.node(n % 3).caller(&format!("2001:db8:1:2:{n:x}::{}", n * n)).connects());
    let outcomes = join_all(rotating).await;

    assert_eq!(admitted_past("connection_rate", outcomes), 6);
    cluster.node(0).caller("2001:db8:1:3::1").comes_in().await;
    cluster.node(1).caller("::ffff:198.51.100.7").comes_in().await;
}

/// How many came in; everybody else is refused for that reason and told when to come again.
fn admitted_past(reason: &str, outcomes: Vec<Outcome>) -> usize {
    let mut admitted = 0;
    for outcome in outcomes {
        match outcome {
            Outcome::Admitted(_) => admitted += 1,
            refused => refused.refused_with(429, reason).may_be_retried(),
        }
    }
    admitted
}

#[tokio::test]
async fn h23_a_subscriber_that_changes_its_prefix_stays_within_four_and_sixteen_times_the_limit() {
    const LIMIT: usize = 5;
    let redis = Redis::start().await;
    let limits = json!({ "rateLimiting": { "connectionLimit": { "maxConnections": LIMIT, "windowMs": 60_000 } } });
    let cluster = Cluster::of(3).on(&redis).policy(limits).start().await;

    // One connection from each of 64 prefixes of a /56, then from each of 64 more of its /48, over all nodes.
    let mut admitted = [0, 0];
    for (round, admitted) in admitted.iter_mut().enumerate() {
        for n in 0..64 {
            let address = format!("2001:db8:23:{:x}::1", round * 0x100 + n + round * n * 0x100);
            match cluster.node(n % 3).caller(&address).connects().await {
                Outcome::Admitted(client) => {
                    *admitted += 1;
                    client.leaves().await;
                }
                refused => drop(refused.refused_with(429, "connection_rate")),
            }
        }
    }

    eprintln!(
        "h23: {} of 64 came in from one /56, {} of 64 more from its /48; the limit is {LIMIT}",
        admitted[0], admitted[1]
    );
    assert_eq!(admitted, [4 * LIMIT, 12 * LIMIT]);
    cluster.node(0).caller("2001:db8:24::1").comes_in().await;
}

#[tokio::test]
async fn h24_two_hundred_users_behind_one_address_work_undisturbed_on_three_nodes() {
    const STUDENTS: usize = 200;
    let redis = Redis::start().await;
    let campus = json!({
        "rateLimiting": {
            "handshakeLimit": { "maxHandshakes": 300, "windowMs": 60_000 },
            "connectionLimit": { "maxConnections": 1000, "windowMs": 60_000 },
            "messageLimit": { "maxMessages": 100, "windowMs": 60_000, "events": ["*"] },
        },
        "security": { "blockSuspiciousIps": true, "violationsBeforeClose": 5 },
    });
    let cluster = Cluster::of(3).on(&redis).policy(campus).start().await;

    let mut students = Vec::new();
    for first in (0..STUDENTS).step_by(20) {
        let arrivals = (first..first + 20).map(|number| {
            let token = Token::of(&format!("student-{number}")).signed();
            cluster.node(number % 3).caller("198.51.100.7").bearing(&token).comes_in()
        });
        students.extend(join_all(arrivals).await);
    }
    let passed = all_say(&mut students, 5).await;

    let admin = cluster.admin();
    let metrics = admin
        .counts("everybody connected", |metrics| {
            metrics["activeConnections"] == STUDENTS && metrics["totalConnections"] == STUDENTS
        })
        .await;
    eprintln!("h24: {passed} of {} messages passed, metrics {metrics}", STUDENTS * 5);
    assert_eq!(passed, STUDENTS * 5);
    for refusals in ["blockedAttempts", "rateLimitViolations", "suspiciousActivities"] {
        assert_eq!(metrics[refusals], 0, "{refusals}: {metrics}");
    }
    assert!(!admin.lists_block("198.51.100.7").await);

    // Any web page can make its visitors do this.
    for first in (0..60).step_by(20) {
        let strays = (first..first + 20).map(|number| {
            let page = cluster.node(number % 3).caller("198.51.100.7").origin("https://evil.example");
            page.connects()
        });
        for stray in join_all(strays).await {
            stray.refused_with(403, "origin_not_allowed");
        }
    }
    admin.audited("eventType=INVALID_ORIGIN&limit=100", 60).await;
    eprintln!("h24: 60 bad origins from their address, blocked: {}", admin.lists_block("198.51.100.7").await);
    assert!(!admin.lists_block("198.51.100.7").await);
    assert_eq!(all_say(&mut students, 1).await, STUDENTS);
}
