//! The policy while sockets are open: changes reach them, mistakes change nothing.

use serde_json::json;

use crate::harness::{Picket, Upstream, eventually};

#[tokio::test]
async fn a_policy_change_reaches_an_open_session() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).patient().start().await;
    let admin = picket.admin();
    let mut alice = picket.caller("198.51.100.7").comes_in().await;
    let message = json!({ "type": "chat:say", "text": "eleven char" });
    alice.sends(message.clone()).await;
    alice.receives(message.clone()).await;
    let before = admin.policy_version().await;

    admin.changes_policy(json!({ "validation": { "maxMessageLength": 10 } })).await.succeeds();

    eventually("the shorter limit in the open session", async || {
        alice.sends(message.clone()).await;
        alice.receives_text(|text| text.contains("chat:say")).await.contains("text_too_long").then_some(())
    })
    .await;
    assert_ne!(admin.policy_version().await, before);
    let config = admin.get("/config").await.data();
    assert_eq!(config["policy"]["validation"]["maxMessageLength"], 10, "{config}");
    assert_eq!(config["policy"]["validation"]["maxDepth"], 64, "what was not named stays: {config}");
    assert!(config["nodes"].is_array() || config["nodes"].is_object(), "{config}");
}

#[tokio::test]
async fn an_origin_allowed_at_run_time_comes_in() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    picket
        .caller("198.51.100.7")
        .origin("https://new.example.net")
        .connects()
        .await
        .refused_with(403, "origin_not_allowed");

    picket
        .admin()
        .changes_policy(json!({ "cors": { "allowedOrigins": ["https://new.example.net"] } }))
        .await
        .succeeds();

    picket.caller("198.51.100.7").origin("https://new.example.net").comes_in_eventually().await;
    picket.caller("198.51.100.7").connects().await.refused_with(403, "origin_not_allowed");
}

#[tokio::test]
async fn a_bad_policy_is_422_with_every_mistake_and_changes_nothing() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let admin = picket.admin();
    let before = admin.get("/config").await.data();

    let reply = admin
        .changes_policy(json!({
            "validation": { "maxMessageLength": 10, "maxDepth": -1, "content": { "mode": "destroy" } },
            "rateLimiting": { "burstLimit": { "maxEvents": "many" } },
            "cors": { "allowedOrigin": ["https://typo.example"] },
        }))
        .await;

    let problem = reply.fails_with(422);
    let paths: Vec<_> =
        problem["errors"].as_array().unwrap().iter().filter_map(|error| error["path"].as_str()).collect();
    for wrong in ["maxDepth", "mode", "maxEvents", "allowedOrigin"] {
        assert!(paths.iter().any(|path| path.contains(wrong)), "{wrong} in {paths:?}");
    }
    assert!(!paths.iter().any(|path| path.contains("maxMessageLength")), "{paths:?}");
    let after = admin.get("/config").await.data();
    assert_eq!((&after["version"], &after["policy"]), (&before["version"], &before["policy"]));
    let mut alice = picket.caller("198.51.100.7").comes_in().await;
    alice.sends(json!({ "type": "chat:say", "text": "longer than ten" })).await;
    alice.receives(json!({ "type": "chat:say" })).await;
}

#[tokio::test]
async fn a_change_on_top_of_another_version_is_412() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let admin = picket.admin();
    let first = admin.policy_version().await;

    admin.changes_policy_if(&first, json!({ "validation": { "maxDepth": 40 } })).await.succeeds();
    admin.changes_policy_if(&first, json!({ "validation": { "maxDepth": 30 } })).await.fails_with(412);

    assert_eq!(admin.get("/config").await.data()["policy"]["validation"]["maxDepth"], 40);
    admin
        .changes_policy_if(&admin.policy_version().await, json!({ "validation": { "maxDepth": 30 } }))
        .await
        .succeeds();
}

#[tokio::test]
async fn the_history_says_who_changed_what_and_a_rollback_goes_back() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let admin = picket.admin();
    let original = admin.get("/config").await.data();
    admin.changes_policy(json!({ "validation": { "maxDepth": 40 } })).await.succeeds();

    let history = admin.get("/config/history").await;
    history.succeeds();
    assert!(history.text.contains("warden"), "{}", history.text);

    admin.post("/config/rollback", json!({ "version": original["version"] })).await.succeeds();
    let back = admin.get("/config").await.data();
    assert_eq!(back["policy"], original["policy"]);
    assert_ne!(back["version"], original["version"], "a rollback is a change of its own");
}

#[tokio::test]
async fn a_changed_payload_bound_reaches_an_open_session_in_both_directions() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).policy(json!({ "validation": { "maxPayloadSize": 1000 } })).start().await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;
    let long = json!({ "type": "chat:say", "text": "x".repeat(2000) });

    picket.admin().changes_policy(json!({ "validation": { "maxPayloadSize": 100_000 } })).await.succeeds();
    eventually("the new bound", async || (picket.ops("/readyz").await.json()["policyVersion"] == 2).then_some(()))
        .await;
    alice.sends(long.clone()).await;
    alice.receives(long.clone()).await;

    picket.admin().changes_policy(json!({ "validation": { "maxPayloadSize": 1000 } })).await.succeeds();
    eventually("the old bound", async || (picket.ops("/readyz").await.json()["policyVersion"] == 3).then_some(()))
        .await;
    alice.sends(long).await;
    alice.closes_with(1009, "payload_too_large").await;
}
