//! Socket.IO with `socket.io-msgpack-parser`, packet by packet: the verdicts of the default parser, over both transports.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Picket, PicketBuilder, Poller, SocketIo, Token, Upstream, issuer, packed, packed_head};

fn event(data: Value) -> Value {
    json!({ "type": 2, "nsp": "/", "data": data, "options": { "compress": true } })
}

fn asking(id: u64, data: Value) -> Value {
    json!({ "type": 2, "nsp": "/", "data": data, "id": id })
}

fn connect(auth: Option<Value>) -> Value {
    auth.map_or(json!({ "type": 0, "nsp": "/" }), |auth| json!({ "type": 0, "nsp": "/", "data": auth }))
}

/// A client over either transport.
enum Packed {
    WebSocket(SocketIo),
    Polling(Poller),
}

impl Packed {
    async fn both(picket: &Picket, address: &str) -> [Self; 2] {
        let websocket = SocketIo::opened(picket.socketio_caller(address).comes_in().await).await;
        [Packed::WebSocket(websocket), Packed::Polling(picket.polls(address).open().await)]
    }

    async fn both_connected(picket: &Picket, address: &str) -> [Self; 2] {
        let mut both = Self::both(picket, address).await;
        for client in &mut both {
            client.says(&connect(None)).await;
            client.hears(json!({ "type": 0 })).await;
        }
        both
    }

    async fn says(&mut self, packet: &Value) {
        self.says_bytes(&packed(packet)).await;
    }

    async fn says_bytes(&mut self, bytes: &[u8]) {
        match self {
            Packed::WebSocket(client) => client.client.sends_binary(bytes).await,
            Packed::Polling(client) => client.says(&format!("b{}", STANDARD.encode(bytes))).await,
        }
    }

    async fn says_text(&mut self, text: &str) {
        match self {
            Packed::WebSocket(client) => client.says(text).await,
            Packed::Polling(client) => client.says(text).await,
        }
    }

    async fn hears(&mut self, fields: Value) -> Value {
        match self {
            Packed::WebSocket(client) => client.client.receives_packed(fields).await,
            Packed::Polling(client) => client.hears_packed(fields).await,
        }
    }

    async fn is_closed(&mut self) {
        match self {
            Packed::WebSocket(client) => drop(client.client.closes().await),
            Packed::Polling(client) => client.is_closed().await,
        }
    }
}

/// The packets that the upstream saw beyond CONNECTs.
fn events(upstream: &Upstream) -> Vec<Vec<u8>> {
    let is_event = |bytes: &Vec<u8>| packed_head(bytes).expect("a packet at the upstream").kind != 0;
    upstream.binaries().into_iter().filter(is_event).collect()
}

fn only_chat(upstream: &Upstream) -> PicketBuilder {
    Picket::guarding_packed_socketio(upstream)
        .patient()
        .policy(json!({ "validation": { "allowedEventTypes": ["chat:send"], "maxMessageLength": 50 } }))
}

#[tokio::test]
async fn an_honest_client_speaks_and_its_packets_arrive_byte_for_byte() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_packed_socketio(&upstream).start().await;

    for mut alice in Packed::both_connected(&picket, "198.51.100.7").await {
        // As the JavaScript client writes it, lengths longer than needed and binary inside included.
        let binary = [&packed(&json!("chat:send"))[..], &[0xda, 0, 5], b"a < b", &[0xc5, 0, 2, 0, 255]].concat();
        let said = [&[0x83][..], b"\xa4type\x02\xa4data\x93", &binary, b"\xa3nsp\xa1/"].concat();
        alice.says_bytes(&said).await;
        alice.says(&asking(7, json!(["chat:send", { "n": 1.5 }]))).await;
        assert_eq!(alice.hears(json!({ "type": 3, "id": 7 })).await["data"], json!(["ok"]));
        let seen = events(&upstream);
        assert_eq!(seen[seen.len() - 2..], [said, packed(&asking(7, json!(["chat:send", { "n": 1.5 }])))]);
    }
    assert!(upstream.texts().is_empty(), "{:?}", upstream.texts());
}

#[tokio::test]
async fn s09_a_refused_event_is_answered_in_its_own_encoding_as_with_the_default_parser() {
    let upstream = Upstream::engine_io().await;
    let default_upstream = Upstream::engine_io().await;
    let picket = only_chat(&upstream).start().await;
    let rules = json!({ "validation": { "allowedEventTypes": ["chat:send"], "maxMessageLength": 50 } });
    let with_default = Picket::guarding_socketio(&default_upstream).patient().policy(rules).start().await;

    let clients = Packed::both_connected(&picket, "198.51.100.7").await;
    let mut default = SocketIo::connected(with_default.socketio_caller("198.51.100.7").comes_in().await).await;
    for mut client in clients {
        for (id, data) in [
            json!(["admin:drop", "x"]),
            json!(["CHAT:send", "x"]),
            json!(["chat:send\0", "x"]),
            json!(["chat:send", { "__proto__": { "admin": true } }]),
            json!(["chat:send", { "user": { "$ne": null } }]),
            json!(["chat:send", "x".repeat(51)]),
            json!(["chat:send", { "a": { "constructor": { "prototype": {} } } }]),
        ]
        .into_iter()
        .enumerate()
        {
            let id = id as u64;
            client.says(&asking(id, data.clone())).await;
            let mut told = client.hears(json!({ "type": 2 })).await["data"].take();
            let answer = client.hears(json!({ "type": 3, "id": id })).await;
            assert_eq!(answer["data"][0]["error"], told[1], "{data}");
            default.says(&format!("42{id}{data}")).await;
            let mut default_told: Value = serde_json::from_str(&default.hears(r#"42["error","#).await[2..]).unwrap();
            for told in [&mut told, &mut default_told] {
                let code = told[1].as_object_mut().unwrap().remove("appeal");
                assert!(code.is_some_and(|code| code.is_string()), "{data}: the code of its own record");
            }
            assert_eq!(told, default_told, "{data}");
        }
    }
    assert!(events(&upstream).is_empty(), "{:?}", events(&upstream));
}

#[tokio::test]
async fn s01_s02_s05_s06_s07_what_is_no_packet_of_this_parser_closes() {
    let upstream = Upstream::engine_io().await;
    let picket = only_chat(&upstream).start().await;

    for early in [event(json!(["chat:send"])), json!({ "type": 1, "nsp": "/" })] {
        for mut mallory in Packed::both(&picket, "198.51.100.7").await {
            mallory.says(&early).await;
            mallory.is_closed().await;
        }
    }
    let twice = [&[0x84][..], b"\xa4type\x02\xa4type\x02\xa3nsp\xa1/\xa4data", &packed(&json!(["chat:send"]))].concat();
    for bytes in [
        packed(&event(json!([]))),
        packed(&event(json!([7]))),
        packed(&event(json!(["connect"]))),
        packed(&json!({ "type": 2, "nsp": "/other", "data": ["chat:send"] })),
        packed(&json!({ "type": 4, "nsp": "/", "data": { "message": "x" } })),
        packed(&json!({ "type": 5, "nsp": "/", "data": ["chat:send"], "attachments": 1 })),
        packed(&connect(None)),
        packed(&event(json!(["chat:send", { "a": 1 }])))[..20].to_vec(),
        [&packed(&event(json!(["chat:send"])))[..], &[0xc0]].concat(),
        twice,
        b"42[\"chat:send\"]".to_vec(),
        vec![0xc1],
        Vec::new(),
    ] {
        for mut mallory in Packed::both_connected(&picket, "198.51.100.7").await {
            mallory.says_bytes(&bytes).await;
            mallory.is_closed().await;
        }
    }
    for mut mallory in Packed::both_connected(&picket, "198.51.100.7").await {
        mallory.says_text(r#"42["chat:send"]"#).await;
        mallory.is_closed().await;
    }
    assert!(events(&upstream).is_empty(), "{:?}", events(&upstream));
}

#[tokio::test]
async fn an_active_text_is_sanitised_and_nothing_else_of_the_packet_changes() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_packed_socketio(&upstream).start().await;

    for mut alice in Packed::both_connected(&picket, "198.51.100.7").await {
        let binary = [0xc4, 3, b'<', 0, 255];
        let packet = |text: &str| {
            let head = b"\x84\xa4type\x02\xa3nsp\xa1/\xa2id\xce\x00\x00\x00\x09\xa4data\x94";
            [&head[..], &packed(&json!("<b>")), &packed(&json!(text)), &binary, &[0xcf, 0, 0, 0, 0, 0, 0, 0, 1]]
                .concat()
        };
        alice.says_bytes(&packet("hi <script>alert(1)</script><b>there</b>")).await;
        alice.hears(json!({ "type": 3, "id": 9 })).await;
        assert_eq!(events(&upstream).last().unwrap(), &packet("hi <b>there</b>"));
    }
}

#[tokio::test]
async fn a_token_comes_with_connect_and_a_bad_one_is_a_connect_error() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_packed_socketio(&upstream)
        .issuer(issuer())
        .policy(json!({ "validation": { "requireAuthentication": ["chat:send"] } }))
        .start()
        .await;

    for mut client in Packed::both(&picket, "198.51.100.7").await {
        client.says(&connect(Some(json!({ "token": "nonsense" })))).await;
        let refusal = client.hears(json!({ "type": 4, "nsp": "/" })).await;
        assert_eq!(refusal["data"]["data"]["reason"], "token_invalid", "{refusal}");
        assert!(refusal["data"]["message"].is_string(), "{refusal}");

        let token = Token::of("alice").signed();
        let with_token = connect(Some(json!({ "token": token, "name": "ann <script>alert(1)</script>" })));
        client.says(&with_token).await;
        client.hears(json!({ "type": 0, "nsp": "/" })).await;
        let seen: Value = rmp_serde::from_slice(upstream.binaries().last().unwrap()).unwrap();
        assert_eq!(seen["data"], json!({ "token": token, "name": "ann " }));
        client.says(&asking(1, json!(["chat:send"]))).await;
        client.hears(json!({ "type": 3, "id": 1 })).await;
    }
}

#[tokio::test]
async fn r15_j12_the_token_of_a_connect_that_cannot_be_read_is_kept_nowhere() {
    const TOKEN: &str = "canary-session-0123456789";
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_packed_socketio(&upstream).start().await;

    for packet in [
        json!({ "type": 0, "nsp": "/", "data": TOKEN }),
        json!({ "type": 0, "nsp": "/", "data": { "token": TOKEN }, "id": 1 }),
        json!({ "nsp": "/", "data": { "token": TOKEN } }),
    ] {
        for mut mallory in Packed::both(&picket, "198.51.100.7").await {
            mallory.says(&packet).await;
            mallory.is_closed().await;
        }
    }
    picket.admin().audited("eventType=VALIDATION_ERROR", 6).await;
    let stored = picket.admin().get("/audit-logs?limit=1000").await.text;
    assert!(!stored.contains("canary") && !picket.everything_it_said().contains("canary"), "{stored}");
}
