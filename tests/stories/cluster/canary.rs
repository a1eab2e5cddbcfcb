//! A change of the policy is tried at one node before all get it.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

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
