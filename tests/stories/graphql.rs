//! GraphQL subscriptions (subprotocol graphql-transport-ws) by configuration alone: a JSON route and the form of a refusal.

use serde_json::{Value, json};

use crate::harness::{Client, Picket, PicketBuilder, Upstream};

const SUBPROTOCOL: &str = "graphql-transport-ws";

fn guarding(upstream: &Upstream) -> PicketBuilder {
    Picket::builder().route(json!({
        "path": "/graphql",
        "upstream": upstream.websocket_url("/graphql"),
        "protocol": "json",
        "eventField": "type",
        "refusal": {
            "type": "error",
            "id": "{/id}",
            "payload": [{ "message": "{message}", "extensions": { "reason": "{reason}", "retryAfterMs": "{retryAfterMs}" } }],
        },
    }))
}

/// Past connection_init and connection_ack.
async fn comes_in(picket: &Picket, address: &str) -> Client {
    let caller = picket.caller(address).path("/graphql").header("Sec-WebSocket-Protocol", SUBPROTOCOL);
    let mut client = caller.comes_in().await;
    assert_eq!(client.answer.first("sec-websocket-protocol"), Some(SUBPROTOCOL), "{:?}", client.answer);
    client.sends(json!({ "type": "connection_init" })).await;
    client.receives(json!({ "type": "connection_ack" })).await;
    client
}

fn subscribe(id: &str, query: &str) -> Value {
    json!({ "type": "subscribe", "id": id, "payload": { "query": query, "variables": { "room": "lobby" } } })
}

#[tokio::test]
async fn a_subscription_runs_from_connection_init_to_complete() {
    let upstream = Upstream::graphql().await;
    let picket = guarding(&upstream).start().await;
    let mut alice = comes_in(&picket, "198.51.100.7").await;

    let query = "subscription On($room: ID!) { message(room: $room) { id text } }";
    alice.sends(subscribe("1", query)).await;
    alice.receives(json!({ "type": "next", "id": "1" })).await;
    alice.receives(json!({ "type": "complete", "id": "1" })).await;
    alice.sends(json!({ "type": "complete", "id": "1" })).await;
    alice.sends(json!({ "type": "ping" })).await;
    alice.receives(json!({ "type": "pong" })).await;

    let seen: Vec<Value> = upstream.texts().iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert_eq!(seen[1], subscribe("1", query));
    assert_eq!(
        seen.iter().map(|message| message["type"].as_str().unwrap()).collect::<Vec<_>>(),
        ["connection_init", "subscribe", "complete", "ping"]
    );
}

#[tokio::test]
async fn a_refused_subscription_fails_as_graphql_says_and_the_others_go_on() {
    let upstream = Upstream::graphql().await;
    let limits = json!({ "rateLimiting": { "events": { "subscribe": { "maxEvents": 2, "windowMs": 60_000, "per": "connection" } } } });
    let picket = guarding(&upstream).policy(limits).start().await;
    let mut alice = comes_in(&picket, "198.51.100.7").await;

    for id in ["1", "2"] {
        alice.sends(subscribe(id, "subscription { news }")).await;
        alice.receives(json!({ "type": "next", "id": id })).await;
    }
    alice.sends(subscribe("3", "subscription { news }")).await;
    let error = alice.receives(json!({ "type": "error" })).await;
    assert_eq!(error["id"], "3", "{error}");
    let first = &error["payload"][0];
    assert_eq!(first["extensions"]["reason"], "event_rate", "{error}");
    assert!(first["message"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
    assert!(first["extensions"]["retryAfterMs"].as_u64().is_some_and(|wait| wait > 0), "{error}");
    alice.sends(json!({ "type": "ping" })).await;
    alice.receives(json!({ "type": "pong" })).await;
    assert!(upstream.texts().iter().all(|text| !text.contains(r#""id":"3""#)), "{:?}", upstream.texts());
}

#[tokio::test]
async fn what_graphql_does_not_know_is_refused_by_the_policy_and_in_the_end_closes() {
    let upstream = Upstream::graphql().await;
    let picket = guarding(&upstream)
        .policy(json!({
            "validation": {
                "allowedEventTypes": ["connection_init", "ping", "pong", "subscribe", "complete"],
                "schemas": { "subscribe": {
                    "required": ["id", "payload"],
                    "properties": { "payload": { "required": ["query"], "properties": { "query": { "not": { "pattern": "__schema" } } } } },
                } },
            },
            "security": { "violationsBeforeClose": 3 },
        }))
        .start()
        .await;
    let mut mallory = comes_in(&picket, "198.51.100.7").await;

    mallory.sends(subscribe("1", "query { __schema { types { name } } }")).await;
    assert_eq!(
        mallory.receives(json!({ "type": "error", "id": "1" })).await["payload"][0]["extensions"]["reason"],
        "schema"
    );
    // Without an id there is nothing that an error could be about: no answer, but a violation.
    mallory.sends(json!({ "type": "start" })).await;
    mallory.sends(json!({ "type": "start", "id": "2" })).await;
    assert_eq!(mallory.receives(json!({ "type": "error" })).await["id"], "2");
    mallory.closes_with(1008, "unknown_event").await;
    assert_eq!(upstream.texts().len(), 1, "{:?}", upstream.texts());
}
