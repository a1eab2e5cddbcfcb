//! The kill switch: a word in a file, when a policy does harm and nothing else works.

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Cluster, Redis, eventually};

#[tokio::test]
async fn x30_a_word_in_a_file_ends_all_refusals_while_redis_is_down_and_is_told_when_it_is_back() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("enforce");
    let mut redis = Redis::start().await;
    let harm = json!({
        "cors": { "allowedOrigins": ["https://nobody.example.com"] },
        "rateLimiting": { "handshakeLimit": { "maxHandshakes": 1, "windowMs": 86_400_000 } },
    });
    let cluster = Cluster::of(1)
        .on(&redis)
        .with(json!({ "node": { "enforceFile": file, "onOutage": "closed" } }))
        .policy(harm)
        .start()
        .await;
    let node = cluster.node(0);
    node.caller("198.51.100.7").connects().await.refused_with(403, "origin_not_allowed");
    node.caller("198.51.100.7").connects().await.refused_with(429, "too_many_handshakes");
    redis.dies();

    std::fs::write(&file, "off\n").unwrap();
    let mut alice = node.caller("198.51.100.7").comes_in_eventually().await;
    alice.is_still_served().await;
    assert_eq!(node.ops("/readyz").await.json()["enforce"], "off");
    let gauge = node.ops("/metrics").await.text;
    assert!(
        gauge
            .lines()
            .any(|line| line.contains("picket_enforcement") && line.contains("\"off\"") && line.ends_with(" 1"))
    );

    redis.returns().await;
    let admin = cluster.admin();
    eventually("health says so", async || {
        let health = admin.get("/health").await.json();
        let issues = health["issues"].as_array()?.clone();
        issues.iter().any(|issue| issue["kind"] == "enforcement").then_some(())
    })
    .await;
    let record = admin.audited("eventType=POLICY_CHANGED&text=enforceFile", 1).await.remove(0);
    assert_eq!((&record["metadata"]["enforce"], &record["node"]), (&json!("off"), &json!("edge-1")), "{record}");
    let nodes = admin.get("/nodes").await.data()["nodes"].clone();
    assert_eq!((&nodes[0]["enforce"], &nodes[0]["isSwitched"]), (&json!("off"), &json!(true)), "{nodes}");

    std::fs::remove_file(&file).unwrap();
    alice.closes_with(1008, "origin_not_allowed").await;
}
