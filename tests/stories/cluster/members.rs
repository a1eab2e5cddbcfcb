//! A node that goes: by SIGKILL it takes only its own sockets with it, by SIGTERM it says goodbye and gives everything back.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Cluster, Redis, Token};

/// Ten seconds, and one for those who ask.
const FREE_WITHIN: Duration = Duration::from_secs(11);

fn places() -> serde_json::Value {
    json!({
        "security": { "maxAnonymousConnections": 3 },
        "rateLimiting": { "concurrentConnections": { "perAddress": 100, "perUser": 2 } },
    })
}

#[tokio::test]
async fn x24_the_places_of_a_killed_node_are_free_within_ten_seconds_and_nobody_is_locked_out() {
    let redis = Redis::start().await;
    let mut cluster = Cluster::of(3).on(&redis).policy(places()).start().await;
    let (alice, bob, carol) = (Token::of("alice").signed(), Token::of("bob").signed(), Token::of("carol").signed());
    let mut bobs = cluster.node(0).caller("198.51.100.1").bearing(&bob).comes_in().await;
    let mut doomed = cluster.takes_out_node(2);
    let mut lost = Vec::new();
    for n in 0..3 {
        lost.push(doomed.caller(&format!("198.51.100.1{n}")).comes_in().await);
    }
    for _ in 0..2 {
        lost.push(doomed.caller("198.51.100.20").bearing(&alice).comes_in().await);
    }
    let node = cluster.node(0);
    node.caller("198.51.100.20").bearing(&alice).connects().await.refused_with(429, "too_many_connections");
    node.caller("198.51.100.30").connects().await.refused_with(503, "anonymous_limit");

    doomed.dies();

    cluster.node(1).caller("198.51.100.40").bearing(&carol).comes_in().await.leaves().await;
    bobs.is_still_served().await;
    let ((_alices, alice_took), (_stranger, stranger_took)) = tokio::join!(
        cluster.node(0).caller("198.51.100.20").bearing(&alice).comes_in_within(FREE_WITHIN),
        cluster.node(1).caller("198.51.100.30").comes_in_within(FREE_WITHIN),
    );
    eprintln!("x24: the dead node's places were free after {alice_took:?} (user) and {stranger_took:?} (anonymous)");
    bobs.is_still_served().await;

    let _second = cluster.node(0).caller("198.51.100.31").comes_in_eventually().await;
    let _third = cluster.node(1).caller("198.51.100.32").comes_in_eventually().await;
    cluster.node(0).caller("198.51.100.33").connects().await.refused_with(503, "anonymous_limit");
    let metrics = cluster.admin().counts("the living's connections", |metrics| metrics["activeConnections"] == 5).await;
    assert_eq!((&metrics["anonymousConnections"], &metrics["authenticatedConnections"]), (&json!(3), &json!(2)));
}

#[tokio::test]
async fn x24_the_places_of_a_thousand_sockets_on_a_killed_node_are_counted_right_within_ten_seconds() {
    const SOCKETS: usize = 1000;
    const AT_ONCE: usize = 50;
    let redis = Redis::start().await;
    let cap = json!({ "security": { "maxAnonymousConnections": SOCKETS } });
    let mut cluster = Cluster::of(2).on(&redis).policy(cap).start().await;
    let mut doomed = cluster.takes_out_node(1);
    let mut lost = Vec::new();
    for first in (0..SOCKETS).step_by(AT_ONCE) {
        let arrivals =
            (first..first + AT_ONCE).map(|n| doomed.caller(&format!("10.24.{}.{}", n / 250, n % 250)).comes_in());
        lost.extend(join_all(arrivals).await);
    }
    let node = cluster.node(0);
    node.caller("198.51.100.30").connects().await.refused_with(503, "anonymous_limit");

    doomed.dies();

    let (_first, took) = node.caller("198.51.100.30").comes_in_within(FREE_WITHIN).await;
    eprintln!("x24: a place among {} of the dead was free after {took:?}", lost.len());
    cluster.admin().counts("the living's connections", |metrics| metrics["activeConnections"] == 1).await;
    for key in redis.keys().await.into_iter().filter(|key| key.ends_with(b"{anonymous}:l")) {
        let counts = redis.answers(&[b"HVALS", &key]).await.list();
        let sum: i64 =
            counts.into_iter().map(|one| one.text().split(':').next().unwrap().parse::<i64>().unwrap()).sum();
        eprintln!("x24: Redis counts {sum}");
        assert_eq!(sum, 1, "neither the dead nor less than none");
    }
}

#[tokio::test]
async fn a_terminated_node_closes_its_sockets_with_1012_and_its_places_are_free_at_once() {
    let redis = Redis::start().await;
    let mut cluster = Cluster::of(3).on(&redis).policy(places()).start().await;
    let bob = Token::of("bob").signed();
    let mut bobs = cluster.node(0).caller("198.51.100.1").bearing(&bob).comes_in().await;
    let mut leaving = cluster.takes_out_node(2);
    let mut sockets = Vec::new();
    for n in 0..3 {
        sockets.push(leaving.caller(&format!("198.51.100.1{n}")).comes_in().await);
    }
    cluster.node(0).caller("198.51.100.30").connects().await.refused_with(503, "anonymous_limit");

    leaving.terminates();
    for socket in &mut sockets {
        socket.closes_with(1012, "draining").await;
    }

    let (mut again, took) = cluster.node(1).caller("198.51.100.10").comes_in_within(Duration::from_secs(2)).await;
    eprintln!("a draining node's places were free {took:?} after its last goodbye");
    again.is_still_served().await;
    bobs.is_still_served().await;
    assert_eq!(leaving.exit_code().await, Some(0));
    cluster.admin().counts("the others' connections", |metrics| metrics["activeConnections"] == 2).await;
    cluster.is_in_mode("normal", Duration::from_secs(1)).await;
}
