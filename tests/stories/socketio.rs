//! Socket.IO over WebSocket, packet by packet: what an honest client never sends, and who may say what after CONNECT.

use serde_json::{Value, json};

use crate::harness::{Client, Picket, SocketIo, Token, Upstream, issuer};

const CHAT_ONLY: &[&str] = &["chat:send"];

/// The packets that the upstream saw beyond CONNECTs and heartbeats.
fn events(upstream: &Upstream) -> Vec<String> {
    upstream.texts().into_iter().filter(|packet| !packet.starts_with("40") && packet != "2" && packet != "3").collect()
}

async fn closes(client: &mut Client, row: &str) {
    let (code, reason) = client.closes().await;
    assert!(code == 1002 || code == 1008, "{row}: closed with {code} {reason:?}");
}

#[tokio::test]
async fn an_honest_client_connects_joins_speaks_and_gets_its_acknowledgement() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;

    let mut alice = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;
    alice.says(r#"42["chat:send",{"text":"a < b"}]"#).await;
    alice.says(r#"427["chat:send",{"text":"with an ack"}]"#).await;
    assert_eq!(alice.hears("437").await, r#"437["ok"]"#);
    alice.says("40/chat,").await;
    alice.hears("40/chat,").await;
    alice.says(r#"42/chat,12["chat:send","in a namespace"]"#).await;
    assert_eq!(alice.hears("43/chat,12").await, r#"43/chat,12["ok"]"#);
    upstream.says(r#"42["news",{"n":1}]"#);
    assert_eq!(alice.hears(r#"42["news""#).await, r#"42["news",{"n":1}]"#);

    assert_eq!(
        events(&upstream),
        [
            r#"42["chat:send",{"text":"a < b"}]"#,
            r#"427["chat:send",{"text":"with an ack"}]"#,
            r#"42/chat,12["chat:send","in a namespace"]"#
        ]
    );
    let request = upstream.requests().remove(0);
    assert!(request.start_line.starts_with("GET /socket.io/?"), "{request:?}");
    assert!(request.start_line.contains("EIO=4") && request.start_line.contains("transport=websocket"), "{request:?}");
}

#[tokio::test]
async fn s01_an_event_before_connect_closes_and_the_upstream_sees_nothing() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;

    for packet in [
        r#"42["chat:send","early"]"#,
        r#"420["chat:send","early"]"#,
        r#"42/chat,["chat:send","early"]"#,
        r#"43["ok"]"#,
        "41",
    ] {
        let mut mallory = SocketIo::opened(picket.socketio_caller("198.51.100.7").comes_in().await).await;
        mallory.says(packet).await;
        closes(&mut mallory.client, packet).await;
    }
    upstream.saw_no_message();
}

#[tokio::test]
async fn s02_an_event_in_a_namespace_not_joined_does_not_reach_the_upstream() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;

    let mut mallory = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;
    mallory.says(r#"42/admin,["chat:send","uninvited"]"#).await;
    mallory.says(r#"429["chat:send","in the joined one"]"#).await;
    // Dropped or closed: either way it was judged when this answer is there.
    drop(mallory.client.receives_or_is_closed("439").await);

    assert!(!events(&upstream).iter().any(|packet| packet.contains("uninvited")), "{:?}", upstream.texts());
}

#[tokio::test]
async fn s05_an_event_whose_name_is_no_string_closes() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;

    for packet in [
        "42[]",
        "42[1]",
        "42[null]",
        "42[true]",
        "42[{}]",
        "42[[\"chat:send\"]]",
        "42{}",
        "42",
        "42\"chat:send\"",
        "42[\"chat:send\"",
        "42[\"chat:send\"]]",
        "420[]",
        "42chat:send",
        "42/[\"chat:send\"]",
        "49[\"chat:send\"]",
        "4",
        "4x",
        "9",
        "x",
        "",
    ] {
        let mut mallory = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;
        mallory.says(packet).await;
        closes(&mut mallory.client, packet).await;
    }
    assert_eq!(events(&upstream), Vec::<String>::new());
}

#[tokio::test]
async fn s06_reserved_event_names_close() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;

    for name in
        ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener", "\\u0064isconnect"]
    {
        let mut mallory = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;
        mallory.says(&format!(r#"42["{name}","x"]"#)).await;
        closes(&mut mallory.client, name).await;
    }
    assert_eq!(events(&upstream), Vec::<String>::new());
}

#[tokio::test]
async fn s13_more_namespaces_than_a_connection_may_join_close_it() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream)
        .node(json!({ "limits": { "namespacesMax": 3 } }))
        .policy(json!({ "rateLimiting": { "burstLimit": { "maxEvents": 10_000, "windowMs": 1000 } } }))
        .start()
        .await;

    let mut mallory = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;
    let mut polling = picket.polls("198.51.100.7").connected().await;
    for namespace in ["40/one,", "40/two,"] {
        mallory.says(namespace).await;
        mallory.hears(namespace).await;
        polling.says(namespace).await;
        polling.hears(namespace).await;
    }
    // One that was left keeps its place: else coming and going would be a way to name any number.
    for packet in ["41/two,", "40/three,"] {
        mallory.says(packet).await;
        polling.says(packet).await;
    }
    mallory.client.closes_with(1008, "flood").await;
    polling.is_closed().await;
    upstream.loses(2).await;
    assert!(!upstream.texts().contains(&"40/three,".to_owned()), "{:?}", upstream.texts());
}

#[tokio::test]
async fn s14_acknowledgements_that_nobody_asked_for_count_as_events() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream)
        .policy(json!({ "rateLimiting": { "burstLimit": { "maxEvents": 10, "windowMs": 60_000 } } }))
        .start()
        .await;

    let mut mallory = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;
    for id in 0..15 {
        mallory.says(&format!("43{id}[1]")).await;
    }
    mallory.client.closes_with(1008, "burst").await;
    let acks = upstream.texts().iter().filter(|packet| packet.starts_with("43")).count();
    assert_eq!(acks, 10);
}

#[tokio::test]
async fn s16_connecting_and_leaving_counts_against_the_connection_limit_over_both_transports() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream)
        .policy(json!({ "rateLimiting": { "connectionLimit": { "maxConnections": 4, "windowMs": 60_000 } } }))
        .start()
        .await;

    for _ in 0..2 {
        let mut churning = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;
        churning.says("1").await;
        churning.client.closes().await;
        let mut churning = picket.polls("198.51.100.7").connected().await;
        churning.says("1").await;
        churning.is_closed().await;
    }
    let websocket = picket.socketio_caller("198.51.100.7").connects().await.refused();
    let polling = picket.polls("198.51.100.7").gets("EIO=4&transport=polling").await;
    for head in [websocket.head, polling.head] {
        assert_eq!(head.status(), 429);
        assert!(head.first("retry-after").is_some(), "{head:?}");
    }
    assert_eq!(upstream.requests().len(), 4);
}

#[tokio::test]
async fn s15_whoever_does_not_connect_in_time_is_closed_and_so_is_the_upstream() {
    let upstream = Upstream::engine_io().await;
    let picket =
        Picket::guarding_socketio(&upstream).node(json!({ "limits": { "connectTimeoutMs": 400 } })).start().await;

    let mut silent = SocketIo::opened(picket.socketio_caller("198.51.100.7").comes_in().await).await;
    closes(&mut silent.client, "no CONNECT").await;

    upstream.loses(1).await;
    upstream.saw_no_message();
    let mut prompt = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;
    prompt.says(r#"421["chat:send"]"#).await;
    prompt.hears("431").await;
}

#[tokio::test]
async fn s18_a_name_is_on_the_list_or_not_after_decoding_and_to_the_letter() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream)
        .patient()
        .policy(json!({ "validation": { "allowedEventTypes": CHAT_ONLY } }))
        .start()
        .await;
    let mut mallory = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;

    for name in [
        "Chat:send",
        "CHAT:SEND",
        "chat:send ",
        " chat:send",
        "chat:send\\u0000",
        "chat:send\\u0000x",
        "chat:sen",
        "chat:sendx",
        "chat\\uff1asend",
        "",
    ] {
        mallory.says(&format!(r#"42["{name}","bypass"]"#)).await;
        mallory.hears_refusal("unknown_event").await;
    }
    let escaped = r#"425["\u0063hat:send","decoded"]"#;
    mallory.says(escaped).await;
    mallory.hears("435").await;
    assert_eq!(events(&upstream), [escaped]);
}

#[tokio::test]
async fn a_refused_event_is_answered_with_an_error_event_and_through_its_acknowledgement() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream)
        .policy(json!({ "validation": { "allowedEventTypes": CHAT_ONLY }, "security": { "violationsBeforeClose": 2 } }))
        .start()
        .await;
    let mut mallory = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;

    mallory.says(r#"42["admin:drop"]"#).await;
    let refusal = mallory.hears_refusal("unknown_event").await;
    assert_eq!(
        (&refusal["message"], &refusal["event"]),
        (&json!("Event rejected by security policy"), &json!("admin:drop")),
        "{refusal}"
    );

    mallory.says(r#"4231["admin:drop"]"#).await;
    let acknowledgement = mallory.hears("4331").await;
    let arguments: Value = serde_json::from_str(&acknowledgement["4331".len()..]).unwrap();
    assert_eq!(arguments[0]["error"]["reason"], "unknown_event", "{acknowledgement}");
    assert_eq!(arguments[0]["error"]["event"], "admin:drop", "{acknowledgement}");

    mallory.client.closes_with(1008, "unknown_event").await;
    assert_eq!(events(&upstream), Vec::<String>::new());
}

#[tokio::test]
async fn a_token_comes_with_connect_and_a_bad_one_is_a_connect_error() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream)
        .issuer(issuer())
        .policy(json!({ "validation": { "requireAuthentication": ["chat:send"] } }))
        .start()
        .await;

    let connect = format!("40{}", json!({ "token": Token::of("alice").signed() }));
    let mut alice = SocketIo::connected_with(picket.socketio_caller("198.51.100.7").comes_in().await, &connect).await;
    alice.says(r#"421["chat:send"]"#).await;
    alice.hears("431").await;
    assert_eq!(upstream.texts()[0], connect, "CONNECT arrives as it was sent");

    let mut mallory = SocketIo::opened(picket.socketio_caller("198.51.100.8").comes_in().await).await;
    mallory.says(r#"40{"token":"nonsense"}"#).await;
    let refusal: Value = serde_json::from_str(&mallory.hears("44").await[2..]).unwrap();
    assert!(refusal["message"].is_string(), "{refusal}");
    assert_eq!(refusal["data"]["reason"], "token_invalid", "{refusal}");
    assert!(!upstream.texts().iter().any(|packet| packet.contains("nonsense")), "{:?}", upstream.texts());

    let mut anonymous = SocketIo::connected(picket.socketio_caller("198.51.100.9").comes_in().await).await;
    anonymous.says(r#"42["chat:send"]"#).await;
    anonymous.hears_refusal("login_required").await;
}

#[tokio::test]
async fn an_active_text_is_sanitised_inside_an_event_and_honest_ones_stay_byte_for_byte() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;
    let mut alice = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;

    let honest = r#"421["chat:send",  {"text":"I <3 you, a < b, R&D","n":1.0,"u":"\u0041"}]"#;
    alice.says(honest).await;
    alice.hears("431").await;
    alice.says(r#"422["chat:send",{"text":"hi <script>alert(1)</script>","n":1}]"#).await;
    alice.hears("432").await;

    let seen = events(&upstream);
    assert_eq!(seen[0], honest);
    assert!(seen[1].starts_with("422[") && seen[1].contains("hi ") && !seen[1].contains("script"), "{seen:?}");
}

#[tokio::test]
async fn r17_a_packet_type_that_is_no_ascii_closes_and_panics_nowhere() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;

    for packet in ["4é", "4😀[]", "é", "4\u{0}"] {
        let mut mallory = SocketIo::opened(picket.socketio_caller("198.51.100.7").comes_in().await).await;
        mallory.says(packet).await;
        mallory.client.closes_with(1008, "malformed").await;
    }
    assert_eq!(picket.metric("picket_panics_total").await, 0.0);
    upstream.saw_no_message();
}

#[tokio::test]
async fn whoever_leaves_every_namespace_has_to_connect_again_in_time() {
    let upstream = Upstream::engine_io().await;
    let picket =
        Picket::guarding_socketio(&upstream).node(json!({ "limits": { "connectTimeoutMs": 400 } })).start().await;

    let mut mallory = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;
    mallory.says("41").await;
    mallory.client.closes_with(1008, "slow").await;

    let mut honest = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;
    honest.says("41").await;
    honest.says("40").await;
    honest.hears("40").await;
    honest.says(r#"421["chat:send"]"#).await;
    honest.hears("431").await;
}

#[tokio::test]
async fn coming_and_going_in_a_namespace_is_counted() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream)
        .policy(json!({ "rateLimiting": { "burstLimit": { "maxEvents": 5, "windowMs": 60_000 } } }))
        .start()
        .await;

    let mut mallory = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;
    for _ in 0..20 {
        mallory.says("41").await;
        mallory.says("40").await;
    }
    mallory.client.closes().await;
    let connects = upstream.texts().iter().filter(|text| text.starts_with("40")).count();
    assert!(connects <= 6, "{connects} CONNECTs reached the upstream");
}

#[tokio::test]
async fn a_heartbeat_that_nobody_asked_for_goes_nowhere() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;
    let mut mallory = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;

    for _ in 0..10 {
        mallory.says("3").await;
    }
    upstream.says("2");
    mallory.hears("2").await;
    mallory.says("3").await;
    mallory.says("3").await;
    mallory.says(r#"421["chat:send"]"#).await;
    mallory.hears("431").await;

    assert_eq!(upstream.texts().iter().filter(|text| *text == "3").count(), 1);
}

#[tokio::test]
async fn a_heartbeat_may_come_between_attachments_and_all_of_a_packet_counts() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream)
        .policy(json!({ "validation": { "maxPayloadSize": 1000 } }))
        .node(json!({ "limits": { "messageTimeoutMs": 500 } }))
        .start()
        .await;
    let packet = r#"451-["chat:image",{"_placeholder":true,"num":0}]"#;

    let mut alice = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;
    upstream.says("2");
    alice.hears("2").await;
    alice.says(packet).await;
    alice.says("3").await;
    alice.client.sends_binary(&[7; 100]).await;
    alice.says(r#"421["chat:send"]"#).await;
    alice.hears("431").await;
    assert!(upstream.texts().contains(&packet.to_owned()), "{:?}", upstream.texts());

    alice.says(packet).await;
    alice.client.sends_binary(&[7; 990]).await;
    alice.client.closes_with(1009, "payload_too_large").await;

    let mut lazy = SocketIo::connected(picket.socketio_caller("198.51.100.8").comes_in().await).await;
    lazy.says(packet).await;
    lazy.client.closes_with(1008, "slow").await;
}

#[tokio::test]
async fn what_connect_says_besides_the_token_is_inspected_like_any_payload() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;

    let connect = r#"40{"token":"a<script>b","name":"ann <script>alert(1)</script>"}"#;
    SocketIo::connected_with(picket.socketio_caller("198.51.100.7").comes_in().await, connect).await;
    assert_eq!(upstream.texts(), [r#"40{"token":"a<script>b","name":"ann "}"#]);

    let mut mallory = SocketIo::opened(picket.socketio_caller("198.51.100.8").comes_in().await).await;
    mallory.says(r#"40{"token":"x","token":"y"}"#).await;
    mallory.client.closes_with(1008, "malformed").await;
}

#[tokio::test]
async fn r15_j12_the_token_of_a_connect_that_is_refused_is_kept_nowhere() {
    const TOKEN: &str = "canary-session-0123456789";
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;

    let connect = format!(r#"40{{"token":"{TOKEN}"}}"#);
    let mut mallory = SocketIo::connected_with(picket.socketio_caller("198.51.100.7").comes_in().await, &connect).await;
    mallory.says(&connect).await;
    mallory.client.closes().await;
    let mut another = SocketIo::opened(picket.socketio_caller("198.51.100.7").comes_in().await).await;
    another.says(&format!("40\"{TOKEN}\"")).await;
    another.client.closes().await;

    picket.admin().audited("eventType=SUSPICIOUS_ACTIVITY", 1).await;
    picket.admin().audited("eventType=VALIDATION_ERROR", 1).await;
    let stored = picket.admin().get("/audit-logs?limit=1000").await.text;
    assert!(!stored.contains("canary") && !picket.everything_it_said().contains("canary"), "{stored}");
}
