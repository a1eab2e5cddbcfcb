//! Audit while Redis is away for longer than the queue of a node lasts: what is lost is known to the unit, and is the least.

use std::time::Duration;

use serde_json::{Value, json};

use super::outage::NOTICED_WITHIN;
use crate::harness::{Admin, Cluster, Redis, eventually, soon};

const QUEUE: usize = 60;
/// Those of a kind beyond the first hundred are told after ten seconds.
const SAMPLED_WITHIN: Duration = Duration::from_secs(30);
const SPEAKER: &str = "198.51.100.7";

async fn how_many(admin: &Admin, query: &str) -> u64 {
    admin.get(&format!("/audit-logs?limit=1&{query}")).await.data()["total"].as_u64().unwrap()
}

/// How many there were, those included that were not recorded one by one.
async fn stands_for(admin: &Admin, query: &str) -> u64 {
    let records = admin.audit(query).await;
    records.iter().map(|record| 1 + record["metadata"]["suppressed"].as_u64().unwrap_or(0)).sum()
}

#[tokio::test]
async fn x22_what_was_emitted_is_stored_or_counted_as_dropped_to_the_unit() {
    const LOW: u64 = 2000;
    const HIGH: u64 = 50;
    let mut redis = Redis::start().await;
    let policy = json!({ "validation": { "maxMessageLength": 10, "content": { "mode": "reject" } } });
    let cluster = Cluster::of(1).on(&redis).policy(policy).start().await;
    let queue = QUEUE.to_string();
    let node = cluster.another_node("edge-2").environment("PICKET_TEST_AUDIT_QUEUE", &queue).start().await;
    eventually("the policy", async || (node.policy_version().await > 0).then_some(())).await;
    let mut speaker = node.caller(SPEAKER).comes_in().await;
    let admin = cluster.admin();
    let too_long = json!({ "type": "chat:say", "text": "longer than ten" });
    speaker.sends(too_long.clone()).await;
    speaker.is_refused("text_too_long").await;
    // What Redis holds when it dies, and nobody has read, is lost with it: that is another story.
    eventually("its admission and its first offence stored", async || {
        (how_many(&admin, &format!("ip={SPEAKER}")).await == 2).then_some(())
    })
    .await;

    redis.dies();
    for number in 0..LOW - 1 {
        speaker.sends(too_long.clone()).await;
        speaker.is_refused("text_too_long").await;
        if number % (LOW / HIGH) == 0 {
            speaker.sends(json!({ "type": "chat:say", "text": "<script>" })).await;
            speaker.is_refused("hostile_content").await;
        }
    }
    cluster.is_in_mode("degraded", NOTICED_WITHIN).await;
    redis.returns().await;

    let stored = async || {
        let low = stands_for(&admin, &format!("ip={SPEAKER}&eventType=VALIDATION_ERROR&limit=1000")).await;
        let high = stands_for(&admin, &format!("ip={SPEAKER}&eventType=SUSPICIOUS_ACTIVITY&limit=1000")).await;
        let notices: Vec<Value> = admin.audit("eventType=AUDIT_DROPPED&limit=1000").await;
        let told: u64 = notices.iter().map(|notice| notice["metadata"]["dropped"].as_u64().unwrap()).sum();
        (low, high, told)
    };
    let ((low, high, told), _) = soon("a trail that adds up", SAMPLED_WITHIN, async || {
        let (low, high, told) = stored().await;
        (low + high + told == LOW + HIGH).then_some((low, high, told))
    })
    .await;
    let counted = node.metric("picket_audit_dropped_total").await;
    eprintln!(
        "x22: of {LOW} low and {HIGH} high records {low} and {high} are stored, {told} told as dropped, {counted} counted; the queue holds {QUEUE}"
    );
    assert_eq!((high, counted), (HIGH, told as f64), "the lowest go first, and each is counted");
    assert!(told >= 100 - QUEUE as u64, "{told}");
}
