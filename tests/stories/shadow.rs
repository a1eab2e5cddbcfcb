//! Rules in shadow: what they would refuse is recorded and passes. And no rules at all.

use serde_json::{Value, json};

use crate::harness::{Picket, SocketIo, Upstream, eventually, issuer};

const SCRIPT: &str = "<script>alert(1)</script>";

/// A policy that refuses nearly everything.
fn harsh() -> Value {
    json!({
        "cors": { "allowedOrigins": ["https://nobody.example.com"] },
        "rateLimiting": {
            "connectionLimit": { "maxConnections": 1, "windowMs": 60_000 },
            "messageLimit": { "maxMessages": 1, "windowMs": 60_000 },
            "burstLimit": { "maxEvents": 1, "windowMs": 60_000 },
            "concurrentConnections": { "perAddress": 1 },
        },
        "validation": {
            "maxMessageLength": 5, "maxDepth": 2, "allowedEventTypes": ["nothing"], "eventRoles": { "chat:say": ["admin"] },
        },
        "security": { "violationsBeforeClose": 1, "suspiciousActivityThreshold": 1, "blockSuspiciousIps": true },
    })
}

#[tokio::test]
async fn in_shadow_everything_passes_as_it_came_and_what_would_have_been_refused_is_told() {
    let (upstream, engine) = (Upstream::echo().await, Upstream::engine_io().await);
    let route = json!({ "path": "/socket.io/", "upstream": engine.http_url(), "protocol": "socketio" });
    let plan = Picket::guarding(&upstream).route(route).issuer(issuer()).policy(harsh());
    let picket = plan.policy(json!({ "enforce": "shadow" })).start().await;
    let admin = picket.admin();
    admin.blocks("198.51.100.9").await;

    let mut sockets = Vec::new();
    for address in ["198.51.100.7", "198.51.100.7", "198.51.100.9"] {
        sockets.push(picket.caller(address).bearing("nonsense").comes_in().await);
    }
    let said = json!({ "type": "chat:say", "text": SCRIPT, "deep": [[[1]]] });
    for socket in &mut sockets {
        for _ in 0..5 {
            socket.sends(said.clone()).await;
            socket.receives(said.clone()).await;
        }
    }
    let mut alice = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;
    alice.says(&format!("427[\"chat:send\",\"{SCRIPT}\"]")).await;
    assert_eq!(alice.hears("437").await, r#"437["ok"]"#);

    assert!(upstream.texts().iter().all(|text| text.contains(SCRIPT)), "not sanitised");
    for reason in [
        "address_blocked",
        "origin_not_allowed",
        "connection_rate",
        "token_invalid",
        "too_many_connections",
        "burst",
        "message_rate",
        "text_too_long",
        "unknown_event",
        "login_required",
        "active_content",
    ] {
        eventually(reason, async || {
            let told = picket.ops("/metrics").await.text;
            let counted = |line: &&str| {
                line.contains("picket_decisions_total")
                    && line.contains("\"shadow\"")
                    && line.contains(&format!("\"{reason}\""))
            };
            told.lines().find(counted).map(drop)
        })
        .await;
    }
    let refused = picket.ops("/metrics").await.text;
    assert!(!refused.lines().any(|line| line.contains("picket_outcome=\"refused\"")), "{refused}");
    let records = admin.audited("eventType=INVALID_ORIGIN", 1).await;
    let record = &records[0];
    assert_eq!(
        (&record["metadata"]["shadow"], &record["metadata"]["refusedFor"]),
        (&json!(true), &json!("origin_not_allowed")),
        "{record}"
    );
    assert!(record["reason"].is_null(), "nobody is scored for it: {record}");
    let standing = admin.get("/reputation/198.51.100.7").await.data();
    assert!(!admin.lists_block("198.51.100.7").await, "{standing}");
}

#[tokio::test]
async fn a_rule_in_shadow_passes_and_the_others_are_enforced() {
    let upstream = Upstream::echo().await;
    let policy = json!({
        "shadow": ["origin", "form", "eventTypes"],
        "validation": { "maxMessageLength": 5, "allowedEventTypes": ["chat:*"], "maxDepth": 2 },
    });
    let picket = Picket::guarding(&upstream).patient().policy(policy).start().await;

    let mut alice = picket.caller("198.51.100.7").origin("https://evil.example.com").comes_in().await;
    alice.sends(json!({ "type": "other:say", "text": "longer than five" })).await;
    alice.receives(json!({ "type": "other:say", "text": "longer than five" })).await;
    // Lengths do not matter, what stands in the texts does.
    alice.sends(json!({ "type": "chat:say", "text": SCRIPT })).await;
    let heard = alice.receives_text(|text| text.contains("chat:say")).await;
    assert!(!heard.contains("<script"), "{heard}");
    alice.sends_text(r#"{"type":"chat:say","deep":[[[{"__proto__":1}]]]}"#).await;
    alice.is_refused("hostile_content").await;
    picket.caller("198.51.100.7").bearing("nonsense").comes_in().await;
}

#[tokio::test]
async fn switched_off_nothing_is_looked_at_and_switched_on_again_open_sockets_are() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).policy(harsh()).policy(json!({ "enforce": "off" })).start().await;

    let mut mallory = picket.caller("198.51.100.7").comes_in().await;
    mallory.sends_text("not even json").await;
    mallory.receives_text(|text| text == "not even json").await;
    let told = picket.ops("/metrics").await.text;
    assert!(!told.lines().any(|line| line.contains("picket_outcome=\"shadow\"")), "{told}");

    picket.admin().changes_policy(json!({ "enforce": "on" })).await.succeeds();
    mallory.closes_with(1008, "origin_not_allowed").await;
}
