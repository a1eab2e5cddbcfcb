//! What a node remembers on its own disk, for a start while Redis is away.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::meter::{message_limit, says};
use crate::harness::{Cluster, Picket, Redis, Token, eventually, soon};

const MALLORY: &str = "203.0.113.66";

#[tokio::test]
async fn x31_a_node_that_boots_without_redis_keeps_blocks_and_policy_from_its_snapshot() {
    let mut redis = Redis::start().await;
    let mut cluster = Cluster::of(1).on(&redis).start().await;
    let admin = cluster.admin();
    admin.changes_policy(json!({ "validation": { "maxMessageLength": 12 } })).await.succeeds();
    let node = cluster.node(0);
    eventually("the change", async || (node.policy_version().await == 2).then_some(())).await;
    let asked = SystemTime::now();
    admin.blocks(MALLORY).await;
    admin.blocks("2001:db8:bad::/48").await;
    node.caller("2001:db8:bad::1").gets_refused_eventually().await;
    let (_, written) =
        soon("a snapshot", Duration::from_secs(10), async || newest_file(node).filter(|at| *at > asked)).await;
    eprintln!("x31: a snapshot was there {written:?} after the block");

    let mut dead = cluster.takes_out_node(0);
    dead.dies();
    redis.dies();
    let reborn = cluster.another_node("edge-1").after(&dead).start_unready().await;
    let (_, took) =
        soon("readiness", Duration::from_secs(5), async || (reborn.ops("/readyz").await.status == 200).then_some(()))
            .await;
    eprintln!("x31: ready {took:?} after its listeners opened");

    assert_eq!((reborn.mode().await.as_str(), reborn.policy_version().await), ("degraded", 2));
    for blocked in [MALLORY, "2001:db8:bad::1"] {
        reborn.caller(blocked).connects().await.refused_with(403, "address_blocked");
    }
    let mut alice = reborn.caller("198.51.100.7").comes_in().await;
    alice.sends(json!({ "type": "chat:say", "text": "thirteen char" })).await;
    alice.is_refused("text_too_long").await;
    alice.is_still_served().await;

    redis.returns().await;
    soon("the normal mode", Duration::from_secs(5), async || (reborn.mode().await == "normal").then_some(())).await;
    reborn.caller(MALLORY).connects().await.refused_with(403, "address_blocked");
    alice.is_still_served().await;
}

#[tokio::test]
async fn x31_a_node_that_boots_without_redis_remembers_how_many_share_a_limit() {
    const LIMIT: usize = 30;
    let mut redis = Redis::start().await;
    let limit = message_limit(LIMIT, Duration::from_secs(60));
    let mut cluster = Cluster::of(3).on(&redis).policy(limit).start().await;
    cluster.knows_its_size().await;
    let asked = SystemTime::now();
    cluster.admin().blocks(MALLORY).await;
    let node = cluster.node(2);
    soon("a snapshot", Duration::from_secs(10), async || newest_file(node).filter(|at| *at > asked)).await;

    let mut dead = cluster.takes_out_node(2);
    dead.dies();
    redis.dies();
    let reborn = cluster.another_node("edge-3").after(&dead).start().await;
    let mut alice = reborn.caller("198.51.100.1").bearing(&Token::of("alice").signed()).comes_in().await;
    let passed = says(&mut alice, LIMIT).await;
    eprintln!("x31: the reborn one of three lets {passed} messages through, the limit is {LIMIT}");
    assert_eq!(passed, LIMIT / 3);
}

#[tokio::test]
async fn x31_a_damaged_snapshot_is_none() {
    let mut redis = Redis::start().await;
    let mut cluster = Cluster::of(1).on(&redis).start().await;
    let node = cluster.node(0);
    let asked = SystemTime::now();
    cluster.admin().blocks(MALLORY).await;
    node.caller(MALLORY).gets_refused_eventually().await;
    soon("a snapshot", Duration::from_secs(10), async || newest_file(node).filter(|at| *at > asked)).await;
    let mut dead = cluster.takes_out_node(0);
    dead.dies();
    redis.dies();

    for entry in std::fs::read_dir(dead.data_directory()).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x20;
        std::fs::write(&path, bytes).unwrap();
    }
    let reborn = cluster.another_node("edge-1").after(&dead).start_unready().await;
    // As long as a good one may take to be believed.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(reborn.ops("/readyz").await.status, 503);
    redis.returns().await;
    soon("readiness", Duration::from_secs(5), async || (reborn.ops("/readyz").await.status == 200).then_some(())).await;
}

/// When a file of the node's data directory was last written.
fn newest_file(node: &Picket) -> Option<SystemTime> {
    let files = std::fs::read_dir(node.data_directory()).unwrap();
    files.filter_map(|file| file.ok()?.metadata().ok()?.modified().ok()).max()
}
