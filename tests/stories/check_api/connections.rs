//! Connections that the application tells of: renewed, ended, forgotten.

use std::time::Duration;

use serde_json::{Value, json};

use super::{ALICE, MALLORY, allowed, authorizes, both_doors, is_refused};
use crate::harness::{Token, eventually, issuer};

#[tokio::test]
async fn a_blocked_address_is_refused_at_every_question() {
    let (_upstream, builder) = both_doors().await;
    let picket = builder.start().await;
    let application = picket.application();
    assert_eq!(application.connects("open", MALLORY).await, allowed());
    assert_eq!(application.says("open", MALLORY, "chat:say", json!({})).await, allowed());

    picket.admin().blocks(MALLORY).await;
    let refused = eventually("a block at the check API", async || {
        let verdict = application.connects("new", MALLORY).await;
        (verdict["allowed"] == false).then_some(verdict)
    })
    .await;
    is_refused(&refused, "address_blocked");
    let event = application.says("open", MALLORY, "chat:say", json!({})).await;
    is_refused(&event, "address_blocked");
    assert_eq!(event["close"], 1008, "{event}");
    is_refused(&application.says("stranger", MALLORY, "chat:say", json!({})).await, "address_blocked");
    assert_eq!(authorizes(&application, MALLORY, &[]).await, (403, "address_blocked".to_owned()));

    let agent = json!({ "userAgent": "a/1 \u{1b}" });
    is_refused(&application.connects_with("agent", MALLORY, agent).await, "address_blocked");
    let record = picket.admin().audited(&format!("eventType=CONNECTION_BLOCKED&ip={MALLORY}&socketId=agent"), 1).await;
    assert_eq!(record[0]["route"], "/v1/check", "{}", record[0]);
    assert!(record[0]["metadata"]["userAgent"].as_str().is_some_and(|agent| agent.starts_with("a/1")), "{}", record[0]);
    let refused = picket.metric("picket_decisions_total").await;
    assert!(refused >= 5.0, "{refused} decisions");

    picket.admin().unblocks(MALLORY).await;
    is_refused(&application.says("open", MALLORY, "chat:say", json!({})).await, "address_blocked");
    eventually("a connection after the block", async || {
        (application.connects("open", MALLORY).await == allowed()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_connection_has_to_end_after_its_last_violation_and_stays_ended() {
    let (_upstream, builder) = both_doors().await;
    let policy = json!({
        "validation": { "allowedEventTypes": ["chat:*"] },
        "security": { "violationsBeforeClose": 3 },
    });
    let picket = builder.policy(policy).start().await;
    let application = picket.application();
    assert_eq!(application.connects("c1", ALICE).await, allowed());

    for close in [Value::Null, Value::Null, json!(1008)] {
        let refused = application.says("c1", ALICE, "admin:drop", json!({})).await;
        is_refused(&refused, "unknown_event");
        assert_eq!(refused["close"], close, "{refused}");
    }
    let after = application.says("c1", ALICE, "chat:say", json!({})).await;
    assert_eq!((&after["allowed"], &after["close"]), (&json!(false), &json!(1008)), "{after}");

    let large = json!({ "payload": {}, "size": 1_048_577 });
    let large = application.says_with("c2", ALICE, "chat:say", large).await;
    is_refused(&large, "payload_too_large");
    assert_eq!(large["close"], 1009, "{large}");
}

#[tokio::test]
async fn a_slot_comes_back_when_nobody_asks_about_its_connection() {
    let (_upstream, builder) = both_doors().await;
    let picket = builder
        .issuer(issuer())
        .node(json!({ "limits": { "checkIdleMs": 2000, "checkConnectionsMax": 2 } }))
        .policy(json!({ "rateLimiting": { "concurrentConnections": { "perUser": 1 } } }))
        .start()
        .await;
    let application = picket.application();
    let alice = json!({ "token": Token::of("alice").signed() });
    assert_eq!(application.connects_with("c1", ALICE, alice.clone()).await, allowed());
    is_refused(&application.connects_with("c2", ALICE, alice.clone()).await, "too_many_connections");
    assert!(picket.metric("picket_connections_active").await >= 1.0);

    eventually("a slot that came back", async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        (application.connects_with("c2", ALICE, alice.clone()).await == allowed()).then_some(())
    })
    .await;

    // The table is bounded, and who is in it stays in it.
    assert_eq!(application.connects("c3", ALICE).await, allowed());
    is_refused(&application.connects("c4", ALICE).await, "overload");
    is_refused(&application.says("c5", ALICE, "chat:say", json!({})).await, "overload");
    assert_eq!(application.says("c3", ALICE, "chat:say", json!({})).await, allowed());
}

#[tokio::test]
async fn a_node_that_leaves_does_not_wait_for_the_connections_of_others() {
    let (_upstream, builder) = both_doors().await;
    let mut picket = builder.start().await;
    assert_eq!(picket.application().connects("c1", ALICE).await, allowed());
    picket.terminates();
    assert_eq!(picket.exit_code().await, Some(0));
    let said = picket.everything_it_said();
    assert!(said.contains("\"drained\"") && !said.contains("drain ended with sessions open"), "{said}");
}

#[tokio::test]
async fn a_token_that_comes_later_completes_the_connection_and_its_end_ends_it() {
    let (_upstream, builder) = both_doors().await;
    let picket = builder
        .issuer(issuer())
        .policy(json!({
            "validation": { "requireAuthentication": ["order"], "eventRoles": { "kick": ["moderator"] } },
            "rateLimiting": { "concurrentConnections": { "perUser": 1 } },
        }))
        .start()
        .await;
    let application = picket.application();
    let member = json!({ "token": Token::of("alice").signed() });
    assert_eq!(application.connects("c1", ALICE).await, allowed());
    is_refused(&application.says("c1", ALICE, "order", json!({})).await, "login_required");
    assert_eq!(application.connects_with("c1", ALICE, member.clone()).await, allowed());
    assert_eq!(application.connects_with("c1", ALICE, member.clone()).await, allowed(), "its own slot is its own");
    assert_eq!(application.says("c1", ALICE, "order", json!({})).await, allowed());
    is_refused(&application.says("c1", ALICE, "kick", json!({})).await, "role_required");
    let as_moderator = json!({ "user": "carol", "roles": ["moderator"] });
    assert_eq!(application.says_with("c1", ALICE, "kick", as_moderator).await, allowed());

    let forged = json!({ "token": Token::of("alice").signed_with(b"another secret of enough bytes, really") });
    is_refused(&application.connects_with("c1", ALICE, forged.clone()).await, "token_invalid");
    is_refused(&application.connects_with("c7", ALICE, forged).await, "token_invalid");
    assert_eq!(application.connects_with("c8", ALICE, member).await, allowed(), "the slot came back");
    let elsewhere = json!({ "origin": "https://evil.example" });
    is_refused(&application.connects_with("c9", MALLORY, elsewhere).await, "origin_not_allowed");
}

#[tokio::test]
async fn a_token_that_comes_later_takes_the_time_of_an_admission() {
    let (_upstream, builder) = both_doors().await;
    let picket = builder.issuer(issuer()).start().await;
    let application = picket.application();
    let timed = async || picket.metric("picket_decision_duration_seconds_count").await;
    assert_eq!(application.connects("c1", ALICE).await, allowed());
    assert_eq!(timed().await, 1.0);
    assert_eq!(application.connects("c1", ALICE).await, allowed());
    assert_eq!(timed().await, 1.0, "nobody new is admitted");
    let member = json!({ "token": Token::of("alice").signed() });
    assert_eq!(application.connects_with("c1", ALICE, member).await, allowed());
    assert_eq!(timed().await, 2.0);
}

#[tokio::test]
async fn r17_a_panic_ends_one_connection_and_is_counted() {
    let (_upstream, builder) = both_doors().await;
    let picket = builder.environment("PICKET_TEST_PANIC_EVENT", "boom").start().await;
    let application = picket.application();
    assert_eq!(application.connects("c1", ALICE).await, allowed());

    for event in ["boom", "chat:say"] {
        let refused = application.says("c1", ALICE, event, json!({})).await;
        is_refused(&refused, "internal_error");
        assert_eq!(refused["close"], 1011, "{refused}");
    }
    assert_eq!(application.says("c2", ALICE, "chat:say", json!({})).await, allowed());
    assert_eq!(picket.metric("picket_panics_total").await, 1.0);
}
