//! Places that are counted over all nodes: the cap holds however many ask at once, and a place that is left is free everywhere.

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Cluster, Outcome, Redis, Token};

#[tokio::test]
async fn h30_the_anonymous_cap_raced_from_three_nodes_lets_in_exactly_so_many() {
    const CAP: usize = 25;
    let redis = Redis::start().await;
    let cap = json!({ "security": { "maxAnonymousConnections": CAP } });
    let cluster = Cluster::of(3).on(&redis).policy(cap).start().await;

    let racers = (0..90).map(|n| cluster.node(n % 3).caller(&format!("10.30.0.{n}")).connects());
    let mut inside = Vec::new();
    for outcome in join_all(racers).await {
        match outcome {
            Outcome::Admitted(client) => inside.push(*client),
            refused => refused.refused_with(503, "anonymous_limit").may_be_retried(),
        }
    }

    eprintln!("h30: {} of 90 came in, the cap is {CAP}", inside.len());
    assert_eq!(inside.len(), CAP);
    let token = Token::of("alice").signed();
    cluster.node(0).caller("10.30.1.1").bearing(&token).comes_in().await;
    inside.pop().unwrap().leaves().await;
    for node in cluster.nodes() {
        node.caller("10.30.1.2").comes_in_eventually().await.leaves().await;
    }
}

#[tokio::test]
async fn a_user_has_so_many_places_over_all_nodes() {
    let redis = Redis::start().await;
    let limit = json!({ "rateLimiting": { "concurrentConnections": { "perAddress": 100, "perUser": 4 } } });
    let cluster = Cluster::of(3).on(&redis).policy(limit).start().await;
    let alice = Token::of("alice").signed();

    let racers = (0..15).map(|n| cluster.node(n % 3).caller(&format!("10.30.0.{n}")).bearing(&alice).connects());
    let mut inside = Vec::new();
    for outcome in join_all(racers).await {
        match outcome {
            Outcome::Admitted(client) => inside.push(*client),
            refused => drop(refused.refused_with(429, "too_many_connections")),
        }
    }

    assert_eq!(inside.len(), 4);
    cluster.node(1).caller("10.30.0.1").bearing(&Token::of("bob").signed()).comes_in().await;
}
