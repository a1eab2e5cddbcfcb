//! One policy: a change at one coordinator is in force everywhere, and a document that no coordinator wrote is not.

use std::time::Duration;

use serde_json::{Value, json};

use super::meter::everywhere;
use crate::harness::{Cluster, Pager, Redis, eventually, soon};

#[tokio::test]
async fn a_change_through_one_coordinator_reaches_open_sessions_on_all_nodes() {
    let redis = Redis::start().await;
    let cluster = Cluster::of(3).on(&redis).coordinators(2).start().await;
    let mut alice = everywhere(&cluster, "alice").await;
    let message = json!({ "type": "chat:say", "text": "eleven char" });

    let changed =
        cluster.coordinator(1).admin().changes_policy(json!({ "validation": { "maxMessageLength": 10 } })).await.data();

    for session in &mut alice {
        soon("the shorter limit in an open session", Duration::from_secs(1), async || {
            session.sends(message.clone()).await;
            session.receives_text(|text| text.contains("chat:say")).await.contains("text_too_long").then_some(())
        })
        .await;
    }
    let admin = cluster.admin();
    eventually("every node's new version", async || {
        let nodes = admin.get("/nodes").await.data()["nodes"].clone();
        let nodes = nodes.as_array().unwrap();
        (nodes.len() == 3 && nodes.iter().all(|node| node["policyVersion"] == changed["version"])).then_some(())
    })
    .await;
    for coordinator in [0, 1] {
        let config = cluster.coordinator(coordinator).admin().get("/config").await.data();
        assert_eq!(config["policy"]["validation"]["maxMessageLength"], 10, "{config}");
        assert_eq!(config["version"], changed["version"], "{config}");
    }
}

#[tokio::test]
async fn x29_a_policy_with_mistakes_written_straight_to_redis_is_refused_by_every_node_and_can_be_mended() {
    is_refused_everywhere(|good| {
        vec![
            with(good, "/validation/maxDepth", json!(-1)),
            with(good, "/validation/content/mode", json!("destroy")),
            with(good, "/cors/allowedOrigins", json!(["*"])),
        ]
    })
    .await;
}

#[tokio::test]
async fn x42_what_is_no_policy_at_all_is_refused_by_every_node_and_can_be_mended() {
    is_refused_everywhere(|_| vec!["{ not json".to_owned(), "\u{0}".to_owned()]).await;
}

async fn is_refused_everywhere(documents: impl FnOnce(&Value) -> Vec<String>) {
    let redis = Redis::start().await;
    let mut pager = Pager::listens().await;
    let told = json!({ "monitoring": { "notifications": [pager.entry()] } });
    let cluster = Cluster::of(3).on(&redis).policy(told).start().await;
    let admin = cluster.admin();
    admin.changes_policy(json!({ "validation": { "maxMessageLength": 12 } })).await.succeeds();
    for node in cluster.nodes() {
        eventually("the change", async || (node.policy_version().await == 2).then_some(())).await;
    }
    let good = admin.get("/config").await.data()["policy"].clone();
    let mut alice = everywhere(&cluster, "alice").await;

    for document in documents(&good) {
        smuggle(&redis, &document).await;
    }
    let (alarm, took) = pager.rings_soon_for("stalePolicy", Duration::from_secs(5)).await;
    eprintln!("x29: after {took:?}: {alarm}");
    assert_eq!(alarm["type"], "alarm.raised");
    let everywhere = "the newest policy is not in force at edge-1, edge-2, edge-3, coordinator-1";
    assert_eq!(alarm["data"]["summary"], everywhere);

    for node in cluster.nodes() {
        soon("a node that complains of the policy", Duration::from_secs(5), async || {
            let complains =
                |line: &String| (line.contains("ERROR") || line.contains("WARN")) && line.contains("policy");
            node.log().iter().any(complains).then_some(())
        })
        .await;
        assert_eq!(node.policy_version().await, 2);
    }
    let longer = json!({ "type": "chat:say", "text": "thirteen char" });
    for session in &mut alice {
        session.sends(longer.clone()).await;
        session.is_refused("text_too_long").await;
        session.is_still_served().await;
    }
    assert_eq!(admin.get("/config").await.data()["policy"], good, "what the coordinator says is in force");
    let (_, alarm) = soon("an alarm in health", Duration::from_secs(5), async || {
        (admin.get("/health").await.json()["status"] != "healthy").then_some(())
    })
    .await;
    eprintln!("x29: health says so after {alarm:?}");

    admin.changes_policy(json!({ "validation": { "maxMessageLength": 20 } })).await.succeeds();
    for session in &mut alice {
        eventually("the mended policy", async || {
            session.sends(longer.clone()).await;
            let answer = session.receives_text(|text| text.contains("chat:say")).await;
            (!answer.contains("text_too_long")).then_some(())
        })
        .await;
    }
}

fn with(policy: &Value, pointer: &str, value: Value) -> String {
    let mut policy = policy.clone();
    *policy.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} in the policy")) = value;
    policy.to_string()
}

/// Puts a document in force as the next version, in the way a good one stands there, and gives everybody the hint.
async fn smuggle(redis: &Redis, document: &str) {
    let key = redis
        .keys()
        .await
        .into_iter()
        .map(|key| String::from_utf8(key).unwrap())
        .find(|key| key.contains("policy"))
        .expect("a key of the policy");
    let fields: Vec<String> =
        redis.does(&["HGETALL", &key]).await.list().into_iter().map(|field| field.text()).collect();
    let (version, next) = {
        let newest =
            fields.chunks(2).filter_map(|field| field[0].rsplit(':').next()?.parse::<u64>().ok()).max().unwrap();
        (newest.to_string(), (newest + 1).to_string())
    };
    for field in fields.chunks(2) {
        let (name, value) = (field[0].as_str(), field[1].as_str());
        let next_name = name.strip_suffix(&format!(":{version}")).map(|kind| format!("{kind}:{next}"));
        match next_name {
            Some(name) if name.starts_with("document") => redis.does(&["HSET", &key, &name, document]).await,
            Some(name) => redis.does(&["HSET", &key, &name, value]).await,
            None => continue,
        };
    }
    redis.does(&["HSET", &key, "version", &next]).await;
    for channel in redis.does(&["PUBSUB", "CHANNELS", "*"]).await.list() {
        redis.does(&["PUBLISH", &channel.text(), &next]).await;
    }
}
