//! How much one may say: messages per user, bursts, events by name, roles, and what happens to those who go on.

use serde_json::{Value, json};
use std::time::{Duration, Instant};

use crate::harness::{Client, Picket, Token, Upstream, issuer, within};

fn say(number: usize) -> Value {
    json!({ "type": "chat:say", "number": number })
}

async fn says(client: &mut Client, times: usize) {
    for number in 0..times {
        client.sends(say(number)).await;
    }
}

#[tokio::test]
async fn one_user_has_one_message_budget_over_two_sockets() {
    let upstream = Upstream::echo().await;
    let limit =
        json!({ "rateLimiting": { "messageLimit": { "maxMessages": 10, "windowMs": 60_000, "events": ["*"] } } });
    let picket = Picket::guarding(&upstream).issuer(issuer()).policy(limit).start().await;
    let token = Token::of("alice").signed();
    let mut desk = picket.caller("198.51.100.7").bearing(&token).comes_in().await;
    let mut phone = picket.caller("203.0.113.9").bearing(&token).comes_in().await;

    says(&mut desk, 5).await;
    desk.receives(say(4)).await;
    says(&mut phone, 7).await;
    let refusal = phone.is_refused("message_rate").await;
    phone.is_refused("message_rate").await;

    assert_eq!(refusal["event"], "chat:say", "{refusal}");
    assert!(refusal["retryAfterMs"].as_u64().is_some_and(|wait| (1..=61_000).contains(&wait)), "{refusal}");
    assert_eq!(upstream.receives(10).await.len(), 10);
    desk.sends(say(99)).await;
    desk.is_refused("message_rate").await;

    let mut bob = picket.caller("198.51.100.7").bearing(&Token::of("bob").signed()).comes_in().await;
    bob.is_still_served().await;
}

#[tokio::test]
async fn the_anonymous_of_one_address_share_its_message_budget() {
    let upstream = Upstream::echo().await;
    let limit =
        json!({ "rateLimiting": { "messageLimit": { "maxMessages": 6, "windowMs": 60_000, "events": ["*"] } } });
    let picket = Picket::guarding(&upstream).policy(limit).start().await;
    let mut first = picket.caller("198.51.100.7").comes_in().await;
    let mut second = picket.caller("198.51.100.7").comes_in().await;

    says(&mut first, 6).await;
    first.receives(say(5)).await;
    says(&mut second, 1).await;
    second.is_refused("message_rate").await;

    picket.caller("198.51.100.8").comes_in().await.is_still_served().await;
}

#[tokio::test]
async fn the_message_limit_counts_the_events_it_names_only() {
    let upstream = Upstream::echo().await;
    let limit =
        json!({ "rateLimiting": { "messageLimit": { "maxMessages": 2, "windowMs": 60_000, "events": ["chat:*"] } } });
    let picket = Picket::guarding(&upstream).policy(limit).start().await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;

    says(&mut alice, 3).await;
    alice.is_refused("message_rate").await;
    for _ in 0..4 {
        alice.is_still_served().await;
    }
}

#[tokio::test]
async fn a_window_that_has_passed_counts_no_more() {
    let upstream = Upstream::echo().await;
    let limit =
        json!({ "rateLimiting": { "messageLimit": { "maxMessages": 3, "windowMs": 600, "events": ["chat:*"] } } });
    let picket = Picket::guarding(&upstream).patient().policy(limit).start().await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;

    says(&mut alice, 4).await;
    let refusal = alice.is_refused("message_rate").await;
    assert!(refusal["retryAfterMs"].as_u64().is_some_and(|wait| wait <= 1200), "{refusal}");

    let again = json!({ "type": "chat:say", "again": true });
    within("a message that is let through again", async {
        loop {
            alice.sends(again.clone()).await;
            let answer = alice.receives_text(|text| text.contains("again") || text.contains("message_rate")).await;
            if answer.contains("again") {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_burst_is_refused_and_another_connection_is_not() {
    let upstream = Upstream::echo().await;
    let limit = json!({ "rateLimiting": { "burstLimit": { "maxEvents": 5, "windowMs": 60_000 } } });
    let picket = Picket::guarding(&upstream).policy(limit).start().await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;

    says(&mut alice, 6).await;
    let refusal = alice.is_refused("burst").await;

    assert!(refusal["retryAfterMs"].as_u64().is_some_and(|wait| wait > 0), "{refusal}");
    assert_eq!(upstream.receives(5).await.len(), 5);
    picket.caller("198.51.100.7").comes_in().await.is_still_served().await;
    let record = picket.admin().audited("eventType=RATE_LIMIT_EXCEEDED", 1).await.remove(0);
    assert_eq!(
        (&record["reason"], &record["eventName"], &record["ip"]),
        (&json!("burst"), &json!("chat:say"), &json!("198.51.100.7")),
        "{record}"
    );
}

#[tokio::test]
async fn a_connection_has_an_event_budget_of_its_own() {
    let upstream = Upstream::echo().await;
    let limit = json!({ "rateLimiting": { "eventLimit": { "maxEvents": 5, "windowMs": 60_000 } } });
    let picket = Picket::guarding(&upstream).policy(limit).start().await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;

    says(&mut alice, 6).await;
    alice.is_refused("event_rate").await;

    assert_eq!(upstream.receives(5).await.len(), 5);
    picket.caller("198.51.100.7").comes_in().await.is_still_served().await;
}

#[tokio::test]
async fn an_event_may_have_a_limit_of_its_own_per_user_address_or_connection() {
    let upstream = Upstream::echo().await;
    let limit = json!({ "rateLimiting": { "events": {
        "by:user": { "maxEvents": 2, "windowMs": 60_000, "per": "user" },
        "by:address": { "maxEvents": 2, "windowMs": 60_000, "per": "address" },
        "by:connection": { "maxEvents": 2, "windowMs": 60_000, "per": "connection" },
    } } });
    let picket = Picket::guarding(&upstream).issuer(issuer()).patient().policy(limit).start().await;
    let (alice, bob) = (Token::of("alice").signed(), Token::of("bob").signed());

    for (event, same, free) in [
        ("by:user", ("203.0.113.9", &alice), ("198.51.100.7", &bob)),
        ("by:address", ("198.51.100.7", &bob), ("203.0.113.9", &alice)),
    ] {
        let mut first = picket.caller("198.51.100.7").bearing(&alice).comes_in().await;
        for number in 0..2 {
            first.sends(json!({ "type": event, "number": number })).await;
            first.receives(json!({ "type": event, "number": number })).await;
        }
        let mut second = picket.caller(same.0).bearing(same.1).comes_in().await;
        second.sends(json!({ "type": event })).await;
        let refusal = second.is_refused("event_rate").await;
        assert_eq!(refusal["event"], event, "{refusal}");
        second.is_still_served().await;

        let mut third = picket.caller(free.0).bearing(free.1).comes_in().await;
        third.sends(json!({ "type": event })).await;
        third.receives(json!({ "type": event })).await;
    }

    for _ in 0..2 {
        let mut connection = picket.caller("198.51.100.7").bearing(&alice).comes_in().await;
        for _ in 0..3 {
            connection.sends(json!({ "type": "by:connection" })).await;
        }
        connection.is_refused("event_rate").await;
    }
}

#[tokio::test]
async fn a_role_multiplies_the_message_limit() {
    let upstream = Upstream::echo().await;
    let limit = json!({ "rateLimiting": {
        "messageLimit": { "maxMessages": 4, "windowMs": 60_000, "events": ["*"] },
        "roles": { "moderator": 3.0, "anonymous": 0.5 },
    } });
    let picket = Picket::guarding(&upstream).issuer(issuer()).policy(limit).start().await;
    let member = picket.caller("198.51.100.1").bearing(&Token::of("alice").signed());
    let moderator =
        picket.caller("198.51.100.2").bearing(&Token::of("carol").role(json!(["member", "moderator"])).signed());
    let anonymous = picket.caller("198.51.100.3");

    let mut before = 0;
    for (who, caller, budget) in
        [("a member", member, 4), ("a moderator", moderator, 12), ("the anonymous", anonymous, 2)]
    {
        let mut client = caller.comes_in().await;
        says(&mut client, budget + 1).await;
        client.is_refused("message_rate").await;
        before += budget;
        assert_eq!(upstream.receives(before).await.len(), before, "{who}");
    }
}

#[tokio::test]
async fn refused_events_leave_the_connection_open_until_there_were_too_many() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream)
        .policy(json!({ "validation": { "allowedEventTypes": ["chat:*", "still-served"] }, "security": { "violationsBeforeClose": 3 } }))
        .start()
        .await;
    let mut mallory = picket.caller("198.51.100.7").comes_in().await;

    for _ in 0..2 {
        mallory.sends(json!({ "type": "admin:drop" })).await;
        mallory.is_refused("unknown_event").await;
        mallory.is_still_served().await;
    }
    mallory.sends(json!({ "type": "admin:drop" })).await;
    mallory.is_refused("unknown_event").await;
    mallory.closes_with(1008, "unknown_event").await;

    upstream.loses(1).await;
    assert!(!upstream.texts().iter().any(|text| text.contains("admin:drop")), "{:?}", upstream.texts());
}

#[tokio::test]
async fn a_client_that_goes_on_being_refused_waits_in_its_own_buffers() {
    let upstream = Upstream::echo().await;
    let policy = json!({
        "rateLimiting": { "messageLimit": { "maxMessages": 1, "windowMs": 60_000, "events": ["*"] } },
        "security": { "violationsBeforeClose": 1000 },
    });
    let picket = Picket::guarding(&upstream).policy(policy).start().await;
    let mut mallory = picket.caller("198.51.100.7").comes_in().await;

    let start = Instant::now();
    says(&mut mallory, 41).await;
    for _ in 0..40 {
        mallory.is_refused("message_rate").await;
    }

    // Each of the 39 before the last cost a pause of 20 ms, whatever the machine is like.
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(39 * 20), "{waited:?}");
    mallory.sends(say(41)).await;
    mallory.is_refused("message_rate").await;
}
