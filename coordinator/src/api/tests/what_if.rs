//! What a policy would have done: asked over the API, by whom may read trail and policy, one at a time.

use picket_shared::audit::{AuditRecord, EventType, Severity};
use serde_json::{Value, json};
use std::time::Duration;

use super::office::Office;
use crate::api_keys;
use crate::config::Scope;

fn came_in(office: &Office, ip: &str, origin: &str) {
    use picket_shared::clock::Clock;
    let kind = EventType::ConnectionAttempt;
    let record = AuditRecord::new(kind, Severity::Low, ip.parse().unwrap(), "came in", office.clock.now());
    office.hears(record.with("stage", "admission").with("origin", origin));
}

fn of<'a>(answer: &'a Value, rule: &str) -> &'a Value {
    answer["rules"].as_array().unwrap().iter().find(|one| one["rule"] == rule).unwrap()
}

#[tokio::test]
async fn a_change_is_replayed_over_the_trail_and_not_made() {
    let office = Office::open().await;
    came_in(&office, "192.0.2.1", "https://app.example.com");
    came_in(&office, "192.0.2.2", "https://shop.example.com");
    office.audited("eventType=CONNECTION_ATTEMPT", 2).await;
    office.clock.advance(Duration::from_secs(3600));
    let patch = json!({
        "cors": { "allowedOrigins": ["https://app.example.com"] },
        "rateLimiting": { "messageLimit": { "maxMessages": 5 } },
    });
    let answer = office.admin().post("/config/what-if", patch.clone()).await.data();
    assert_eq!((&answer["version"], &answer["complete"]), (&json!(1), &json!(true)), "{answer}");
    let origin = of(&answer, "origin");
    assert_eq!((&origin["changed"], &origin["refused"]["count"]), (&json!(true), &json!(1)), "{origin}");
    assert_eq!(origin["refused"]["addresses"]["top"][0]["ip"], "192.0.2.2");
    assert_eq!(
        (&of(&answer, "messageRate")["refused"], answer["notJudged"][0]["rule"].as_str()),
        (&Value::Null, Some("messageRate"))
    );
    assert_eq!(office.admin().get("/config").await.data()["policy"]["cors"]["allowedOrigins"], json!([]));

    office.clock.advance(Duration::from_secs(3600));
    let recent = office.admin().post("/config/what-if?hours=1", patch).await.data();
    assert_eq!(of(&recent, "origin")["refused"]["count"], 0, "who came in before that hour is not in it: {recent}");
}

#[tokio::test]
async fn what_would_be_no_policy_is_answered_as_a_change_is() {
    let office = Office::open().await;
    let patch = json!({ "cors": { "allowedOrigins": ["*"] }, "validation": { "maxDepth": 0 } });
    let (asked, changed) =
        (office.admin().post("/config/what-if", patch.clone()).await, office.admin().put("/config", patch).await);
    assert_eq!(asked.mistakes(), changed.mistakes());
    assert_eq!(office.admin().post("/config/what-if?hours=169", json!({})).await.mistakes(), ["hours"]);
    office.admin().post("/config/what-if", json!([])).await.fails_with(422);
}

#[tokio::test]
async fn it_needs_to_read_trail_and_policy_both() {
    let keys = [vec![Scope::AuditRead], vec![Scope::ConfigRead], vec![Scope::AuditRead, Scope::ConfigRead]];
    let keys: Vec<_> = keys.into_iter().map(|scopes| (api_keys::generate(), scopes)).collect();
    let named = keys.iter().enumerate();
    let builder =
        named.fold(Office::builder(), |office, (n, (key, scopes))| office.with_key(&format!("key-{n}"), key, scopes));
    let office = builder.start().await;
    for ((key, _), missing) in keys.iter().zip(["config:read", "audit:read"]) {
        let problem = office.with_key(key).post("/config/what-if", json!({})).await.fails_with(403);
        assert!(problem["detail"].as_str().unwrap().contains(missing), "{problem}");
    }
    office.with_key(&keys[2].0).post("/config/what-if", json!({})).await.data();
}
