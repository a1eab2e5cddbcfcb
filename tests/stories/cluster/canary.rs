//! A change of the policy is tried at one node before all get it.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Admin, Client, Cluster, Redis, Reply, eventually, soon};

async fn tries(admin: &Admin, node: &str, seconds: u32, patch: Value) -> Reply {
    admin.asks(Method::PUT, &format!("/config?canary={node}&seconds={seconds}"), |request| request.json(&patch)).await
}

/// Says so much, and takes whatever is answered.
async fn talks(client: &mut Client, times: usize) {
    for number in 0..times {
        client.sends(json!({ "type": "chat:say", "text": "eleven char", "number": number })).await;
        client.receives_text(|text| text.contains("chat:say")).await;
    }
}

async fn on_trial(admin: &Admin) -> bool {
    !admin.get("/config").await.data()["canary"].is_null()
}

#[tokio::test]
async fn x30_a_harmful_change_is_taken_back_from_the_one_node_that_had_it() {
    let redis = Redis::start().await;
    let cluster = Cluster::of(2).on(&redis).start().await;
    let admin = cluster.admin();
    let mut at_canary = cluster.node(0).caller("198.51.100.7").comes_in().await;
    let mut elsewhere = cluster.node(1).caller("198.51.100.8").comes_in().await;
    talks(&mut at_canary, 30).await;
    talks(&mut elsewhere, 30).await;
    let version = admin.policy_version().await;

    let start = Instant::now();
    let shown = tries(&admin, "edge-1", 30, json!({ "validation": { "maxMessageLength": 5 } })).await.data();
    assert_eq!(
        (&shown["canary"]["node"], &shown["policy"]["validation"]["maxMessageLength"]),
        (&json!("edge-1"), &json!(10_000))
    );
    tries(&admin, "edge-2", 30, json!({})).await.fails_with(409);
    eventually("the change at its node", async || {
        at_canary.sends(json!({ "type": "chat:say", "text": "eleven char" })).await;
        at_canary.receives_text(|text| text.contains("chat:say")).await.contains("text_too_long").then_some(())
    })
    .await;
    let (_, took) = soon("the change taken back", Duration::from_secs(60), async || {
        talks(&mut at_canary, 5).await;
        (!on_trial(&admin).await).then_some(())
    })
    .await;
    eprintln!(
        "x30: a harmful policy was taken back {took:?} after it was refused, {:?} after it began",
        start.elapsed()
    );
    eventually("the policy of before", async || {
        at_canary.sends(json!({ "type": "chat:say", "text": "eleven char" })).await;
        let answer = at_canary.receives_text(|text| text.contains("chat:say")).await;
        (!answer.contains("text_too_long")).then_some(())
    })
    .await;
    talks(&mut elsewhere, 1).await;
    assert_eq!(admin.policy_version().await, version, "nothing was published");
    let record = admin.audited("eventType=POLICY_CHANGED&text=taken", 1).await.remove(0);
    assert!(record["metadata"]["why"].as_str().is_some_and(|why| why.contains("refused")), "{record}");
}

#[tokio::test]
async fn x30_a_change_that_refuses_all_newcomers_is_taken_back_however_much_open_sockets_talk() {
    let redis = Redis::start().await;
    let many = json!({ "rateLimiting": { "connectionLimit": { "maxConnections": 10_000, "windowMs": 60_000 } } });
    let cluster = Cluster::of(2).on(&redis).policy(many).start().await;
    let admin = cluster.admin();
    let mut open = Vec::new();
    for number in 7..10 {
        open.push(cluster.node(0).caller(&format!("198.51.100.{number}")).comes_in().await);
    }
    let version = admin.policy_version().await;

    tries(&admin, "edge-1", 45, json!({ "security": { "maxAnonymousConnections": 1 } })).await.succeeds();
    let refusal = cluster.node(0).caller("198.51.100.66").gets_refused_eventually().await;
    assert!(refusal.body.contains("anonymous_limit"), "{refusal:?}");
    soon("the change taken back", Duration::from_secs(40), async || {
        for client in &mut open {
            talks(client, 25).await;
        }
        let _ = cluster.node(0).caller("198.51.100.66").connects().await;
        (!on_trial(&admin).await).then_some(())
    })
    .await;
    cluster.node(0).caller("198.51.100.67").comes_in_eventually().await;
    assert_eq!(admin.policy_version().await, version, "nothing was published");
    let record = admin.audited("eventType=POLICY_CHANGED&text=taken", 1).await.remove(0);
    assert!(record["metadata"]["why"].as_str().is_some_and(|why| why.contains("connections refused")), "{record}");
}

#[tokio::test]
async fn x30_a_node_that_is_switched_off_tries_nothing_and_one_that_is_switched_off_meanwhile_shows_nothing() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("enforce");
    std::fs::write(&file, "off").unwrap();
    let redis = Redis::start().await;
    let cluster = Cluster::of(1).on(&redis).with(json!({ "node": { "enforceFile": file } })).start().await;
    let admin = cluster.admin();
    let version = admin.policy_version().await;
    let patch = json!({ "cors": { "allowedOrigins": [] } });
    tries(&admin, "edge-1", 45, patch.clone()).await.fails_with(409);

    std::fs::remove_file(&file).unwrap();
    eventually("a node that refuses again", async || {
        (tries(&admin, "edge-1", 45, patch.clone()).await.status == 200).then_some(())
    })
    .await;
    std::fs::write(&file, "shadow").unwrap();
    let record = admin.audited("eventType=POLICY_CHANGED&text=taken", 1).await.remove(0);
    assert!(record["metadata"]["why"].as_str().is_some_and(|why| why.contains("`shadow`")), "{record}");
    assert_eq!(admin.policy_version().await, version, "nothing was published");
}

#[tokio::test]
async fn x30_a_harmless_change_is_published_when_its_time_is_over() {
    let redis = Redis::start().await;
    let cluster = Cluster::of(2).on(&redis).start().await;
    let admin = cluster.admin();
    tries(&admin, "nobody", 5, json!({})).await.fails_with(404);

    tries(&admin, "edge-1", 5, json!({ "validation": { "maxMessageLength": 77 } })).await.succeeds();
    eventually("the node on trial", async || {
        let nodes = admin.get("/nodes").await.data()["nodes"].clone();
        (nodes[0]["onTrial"] == true && nodes[1]["onTrial"] == false).then_some(())
    })
    .await;
    soon("the change at all nodes", Duration::from_secs(20), async || {
        let config = admin.get("/config").await.data();
        (config["policy"]["validation"]["maxMessageLength"] == 77 && config["applied"] == true).then_some(())
    })
    .await;
    assert!(!on_trial(&admin).await);
}

#[tokio::test]
async fn x30_a_trial_lapses_by_itself_when_its_coordinator_dies() {
    let redis = Redis::start().await;
    let mut cluster = Cluster::of(1).on(&redis).start().await;
    let admin = cluster.admin();
    tries(&admin, "edge-1", 5, json!({ "cors": { "allowedOrigins": [] } })).await.succeeds();
    cluster.node(0).caller("198.51.100.7").gets_refused_eventually().await;

    cluster.takes_out_coordinator(0).dies();
    let node = cluster.node(0);
    node.caller("198.51.100.7").comes_in_within(Duration::from_secs(25)).await;
    assert_eq!(node.policy_version().await, 1);
}
