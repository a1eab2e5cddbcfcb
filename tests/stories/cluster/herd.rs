//! Everybody comes back at once, and the office searches its whole trail: what others notice of it.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::sleep;

use super::meter::says;
use crate::harness::{Caller, Client, Cluster, Outcome, Redis};

/// A client that does as it is told; how often it was sent away.
async fn comes_back(caller: Caller) -> (Client, usize) {
    let mut sent_away = 0;
    loop {
        match caller.clone().connects().await {
            Outcome::Admitted(client) => return (*client, sent_away),
            Outcome::Refused(refusal) => {
                let refusal = Outcome::Refused(refusal).refused_with(503, "overload");
                let wait = refusal.head.first("retry-after").and_then(|seconds| seconds.parse().ok());
                sleep(Duration::from_secs(wait.expect("a time to come back"))).await;
                sent_away += 1;
            }
        }
    }
}

/// `picket-bench herd` does the same with ten thousand.
#[tokio::test]
async fn x39_a_herd_that_comes_back_after_an_outage_is_let_in_by_and_by() {
    const HERD: usize = 60;
    let redis = Redis::start().await;
    let limits = json!({ "node": { "limits": { "upgradesPerSecondMax": 10 } } });
    let cluster = Cluster::of(1).on(&redis).with(limits).start().await;
    redis.pauses();
    cluster.is_in_mode("degraded", Duration::from_secs(10)).await;
    redis.resumes();
    cluster.is_in_mode("normal", Duration::from_secs(10)).await;

    let start = Instant::now();
    let herd = (0..HERD).map(|number| comes_back(cluster.node(0).caller(&format!("198.51.100.{}", number + 1))));
    let back = join_all(herd).await;

    let sent_away: usize = back.iter().map(|(_, sent_away)| sent_away).sum();
    eprintln!("x39: {HERD} were back after {:?}, sent away {sent_away} times; 10 come in per second", start.elapsed());
    assert!(start.elapsed() <= Duration::from_secs(60));
    assert!(sent_away >= HERD - 20, "{sent_away}");
    for (mut client, _) in back.into_iter().take(5) {
        client.is_still_served().await;
    }
}

/// `picket-bench queries` does the same over a million records.
#[tokio::test]
async fn x37_searches_of_the_trail_answer_a_thousand_at_most_and_walk_over_no_keys() {
    let redis = Redis::start().await;
    let cluster = Cluster::of(1).on(&redis).start().await;
    let strangers = (0..200).map(|number| {
        let stranger = cluster.node(0).caller(&format!("203.0.113.{}", number + 1));
        stranger.origin("https://evil.example").connects()
    });
    join_all(strangers).await;
    let admin = cluster.admin();
    admin.audited("eventType=INVALID_ORIGIN&limit=1000", 200).await;
    redis.does(&["CONFIG", "RESETSTAT"]).await;

    let mut alice = cluster.node(0).caller("198.51.100.7").comes_in().await;
    let searches = async {
        let mut done = 0;
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            for path in
                ["/audit-logs?limit=1000&text=nothing", "/audit-logs/export", "/dashboard", "/report?period=30d"]
            {
                admin.get(path).await;
                done += 1;
            }
        }
        done
    };
    let speaks = async {
        let mut passed = 0;
        for _ in 0..30 {
            passed += says(&mut alice, 1).await;
            sleep(Duration::from_millis(80)).await;
        }
        passed
    };
    let (done, passed) = tokio::join!(searches, speaks);

    admin.get("/audit-logs?limit=1001").await.fails_with(422);
    let used = String::from_utf8(redis.does(&["INFO", "commandstats"]).await.bytes()).unwrap();
    eprintln!("x37: {passed} of 30 messages passed while {done} searches ran");
    assert_eq!(passed, 30);
    assert!(done > 0);
    for walk in ["cmdstat_keys:", "cmdstat_scan:"] {
        assert!(!used.contains(walk), "{walk} in {used}");
    }
}
