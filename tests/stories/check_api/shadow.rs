//! Rules in shadow, as an application that asks sees them: everything may pass, unchanged, and what would not have is counted.

use serde_json::json;

use super::{ALICE, MALLORY, allowed, authorizes, both_doors, is_refused};
use crate::harness::eventually;

const SCRIPT: &str = "<script>alert(1)</script>";
const EVENTS: usize = 150;
/// of one connection: the first for each reason, and as many more
const NOTES_MAX: usize = 100;

fn harsh() -> serde_json::Value {
    json!({
        "rateLimiting": {
            "burstLimit": { "maxEvents": 1, "windowMs": 60_000 },
            "messageLimit": { "maxMessages": 10_000, "windowMs": 60_000 },
        },
        "validation": { "maxMessageLength": 5, "allowedEventTypes": ["nothing"] },
        "security": { "violationsBeforeClose": 1, "suspiciousActivityThreshold": 1, "blockSuspiciousIps": true },
    })
}

#[tokio::test]
async fn in_shadow_each_answer_is_yes_and_of_a_connection_so_much_is_recorded_and_all_is_counted() {
    let (_upstream, builder) = both_doors().await;
    let picket = builder.policy(harsh()).policy(json!({ "enforce": "shadow" })).start().await;
    let (admin, application) = (picket.admin(), picket.application());
    admin.blocks(MALLORY).await;

    let connected = application.connects_with("mallory", MALLORY, json!({ "origin": "https://evil.example" })).await;
    assert_eq!(connected["allowed"], true, "{connected}");
    assert_eq!(authorizes(&application, MALLORY, &[("Origin", "https://evil.example")]).await.0, 200);
    for _ in 0..EVENTS {
        assert_eq!(
            application.says("mallory", MALLORY, "chat:say", json!({ "text": SCRIPT })).await,
            allowed(),
            "as it came"
        );
    }
    // Whom nobody has introduced, too.
    assert_eq!(application.says("unknown", ALICE, "chat:say", json!({ "text": SCRIPT })).await, allowed());

    let reasons = ["burst", "text_too_long", "unknown_event", "active_content"];
    // The first event is within the burst.
    let told = reasons.len() + NOTES_MAX;
    let records = eventually("what is recorded of the connection", async || {
        let all = admin.audit(&format!("ip={MALLORY}&limit=1000")).await;
        let events: Vec<_> = all.into_iter().filter(|record| record["eventName"] == "chat:say").collect();
        (events.len() >= told).then_some(events)
    })
    .await;
    assert_eq!(records.len(), told);
    assert!(records.iter().all(|record| record["metadata"]["shadow"] == true && record["reason"].is_null()));
    for reason in reasons {
        assert!(records.iter().any(|record| record["metadata"]["refusedFor"] == reason), "{reason}");
    }
    // And who was not introduced.
    let expected = (EVENTS * reasons.len() - 1 + reasons.len() - 1) as f64;
    let counted = eventually("all are counted", async || {
        let metrics = picket.ops("/metrics").await.text;
        let shadows = metrics.lines().filter(|line| {
            line.starts_with("picket_decisions_total") && line.contains("\"shadow\"") && line.contains("\"inspection\"")
        });
        let count: f64 = shadows.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        (count >= expected).then_some(count)
    })
    .await;
    assert_eq!(counted, expected);
    assert!(!admin.lists_block(ALICE).await);
}

#[tokio::test]
async fn a_rule_in_shadow_says_yes_and_the_others_say_no() {
    let (_upstream, builder) = both_doors().await;
    let rules = json!({ "shadow": ["origin", "form"], "validation": { "maxMessageLength": 5, "allowedEventTypes": ["chat:*"] } });
    let picket = builder.policy(rules).start().await;
    let application = picket.application();

    let elsewhere = json!({ "origin": "https://evil.example" });
    assert_eq!(application.connects_with("alice", ALICE, elsewhere).await["allowed"], true);
    assert_eq!(application.says("alice", ALICE, "chat:say", json!({ "text": "longer than five" })).await, allowed());
    is_refused(&application.says("alice", ALICE, "other:say", json!({ "text": "hi" })).await, "unknown_event");
    picket.admin().changes_policy(json!({ "shadow": [] })).await.succeeds();
    eventually("the rules are enforced", async || {
        let verdict = application.says("alice", ALICE, "chat:say", json!({ "text": "longer than five" })).await;
        (verdict["allowed"] == false).then_some(())
    })
    .await;
}
