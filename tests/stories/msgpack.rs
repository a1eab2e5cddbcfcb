//! MessagePack on a route: the same events, the same verdicts, in binary frames.

use serde_json::{Value, json};

use crate::harness::{Client, Frame, Picket, Seen, Upstream};

/// An event that is refused on this route, by the reason's token.
async fn refused(client: &mut Client, upstream: &Upstream, bytes: &[u8]) -> String {
    let before = upstream.seen().len();
    client.sends_binary(bytes).await;
    let refusal = client.receives_packed(json!({ "type": "error" })).await;
    assert_eq!(upstream.seen().len(), before, "refused, and yet at the upstream: {bytes:x?}");
    refusal["reason"].as_str().unwrap().to_owned()
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, _| json!([inner]))
}

#[tokio::test]
async fn an_event_gets_the_same_verdict_as_messagepack_and_as_json() {
    let (texts, packs) = (Upstream::echo().await, Upstream::echo().await);
    let rules = json!({ "validation": {
        "allowedEventTypes": ["chat:*"],
        "requireAuthentication": ["chat:private"],
        "eventRoles": { "chat:moderate": ["moderator"] },
        "schemas": { "chat:typed": { "properties": { "to": { "type": "integer" } } } },
        "content": { "mode": "reject" },
    } });
    let speaks_json = Picket::guarding(&texts).patient().policy(rules.clone()).start().await;
    let speaks_msgpack = Picket::guarding_msgpack(&packs).patient().policy(rules).start().await;
    let mut one = speaks_json.caller("198.51.100.7").comes_in().await;
    let mut other = speaks_msgpack.caller("198.51.100.7").comes_in().await;

    for event in [
        json!({ "type": "admin:drop" }),
        json!({ "name": "chat:say" }),
        json!({ "type": 7 }),
        json!([1, 2]),
        json!({ "type": "chat:private" }),
        json!({ "type": "chat:moderate" }),
        json!({ "type": "chat:typed", "to": "7 OR 1=1" }),
        json!({ "type": "chat:say", "text": "<script>alert(1)</script>" }),
        json!({ "type": "chat:say", "a": [{ "b": "x<img src=x onerror=alert(1)>" }] }),
        json!({ "type": "chat:say", "a": { "__proto__": { "admin": true } } }),
        json!({ "type": "chat:say", "constructor": { "prototype": {} } }),
        json!({ "type": "chat:say", "user": { "$ne": null } }),
        json!({ "type": "chat:say", "text": "x".repeat(10_001) }),
        json!({ "type": "chat:say", "deep": nested(70) }),
        json!({ "type": format!("chat:{}", "x".repeat(300)) }),
    ] {
        one.sends(event.clone()).await;
        let as_json = one.receives(json!({ "type": "error" })).await;
        other.sends_packed(&event).await;
        let as_msgpack = other.receives_packed(json!({ "type": "error" })).await;
        assert_eq!(
            (&as_json["reason"], &as_json["event"]),
            (&as_msgpack["reason"], &as_msgpack["event"]),
            "{}",
            event.to_string().chars().take(200).collect::<String>()
        );
    }
    texts.saw_no_message();
    packs.saw_no_message();
    let sound = json!({ "type": "chat:say", "text": "a < b", "n": [-1, 1.5, null, true] });
    other.sends_packed(&sound).await;
    other.receives_packed(sound.clone()).await;
    assert_eq!(packs.seen(), [Seen::Binary(rmp_serde::to_vec_named(&sound).unwrap())]);
}

#[tokio::test]
async fn p16_bytes_that_are_no_messagepack_are_refused_and_allocate_nothing() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding_msgpack(&upstream).patient().start().await;
    let mut mallory = picket.caller("198.51.100.7").comes_in().await;
    let whole = rmp_serde::to_vec_named(&json!({ "type": "chat:say", "text": "hello" })).unwrap();

    let mut rows: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("a reserved byte", vec![0xc1]),
        ("bytes behind it", [&whole[..], &[0]].concat()),
        ("a boastful map", vec![0xdf, 0xff, 0xff, 0xff, 0xff]),
        ("a boastful text", vec![0x81, 0xa1, b'a', 0xdb, 0xff, 0xff, 0xff, 0xff, b'x']),
        ("boastful binary", vec![0x81, 0xa1, b'a', 0xc6, 0xff, 0xff, 0xff, 0xff]),
        ("bad UTF-8", vec![0x81, 0xa1, b'a', 0xa1, 0xff]),
        ("a key that is a number", vec![0x81, 1, 2]),
        ("a key that is binary", vec![0x81, 0xc4, 1, b'a', 2]),
        ("a key that stands twice", vec![0x82, 0xa1, b'a', 1, 0xa1, b'a', 2]),
        ("a number that is none", vec![0x81, 0xa1, b'a', 0xca, 0x7f, 0xc0, 0, 0]),
    ];
    rows.extend((1..whole.len()).map(|end| ("cut short", whole[..end].to_vec())));

    let before = picket.resident_bytes();
    for (row, bytes) in rows {
        assert_eq!(refused(&mut mallory, &upstream, &bytes).await, "malformed", "{row}: {bytes:x?}");
    }
    assert_eq!(refused(&mut mallory, &upstream, &[0x91; 100_000]).await, "too_deep");
    let grown = picket.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "grew by {grown} bytes on headers that declare 4 GiB");
    mallory.sends_packed(&json!({ "type": "chat:say" })).await;
    mallory.receives_packed(json!({ "type": "chat:say" })).await;
}

#[tokio::test]
async fn p14_texts_beside_binary_are_sanitised_and_the_binary_arrives_byte_for_byte() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding_msgpack(&upstream).patient().start().await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;

    // {"type": "up", "file": bin 3c 00 ff, "note": …}
    let event = |note: &[u8]| {
        let head = [0x83, 0xa4, b't', b'y', b'p', b'e', 0xa2, b'u', b'p', 0xa4, b'f', b'i', b'l', b'e'];
        let note_head = [0xc4, 3, 0x3c, 0x00, 0xff, 0xa4, b'n', b'o', b't', b'e', 0xa0 | note.len() as u8];
        [&head[..], &note_head, note].concat()
    };
    alice.sends_binary(&event(b"<b>x</b><script>a()</script>")).await;
    let Some(Seen::Binary(seen)) = upstream.receives(1).await.pop() else { panic!("{:?}", upstream.seen()) };
    assert_eq!(seen, event(b"<b>x</b>"));
    picket.admin().audited("text=active_content", 1).await;

    alice.sends_binary(&event(b"a < b")).await;
    alice.receives_binary(&event(b"a < b")).await;
}

#[tokio::test]
async fn the_name_may_stand_at_a_pointer_and_limits_go_by_it() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding_msgpack(&upstream)
        .route(json!({
            "path": "/deep", "upstream": upstream.websocket_url("/ws"), "protocol": "msgpack", "eventField": "/meta/name",
            "refusal": { "type": "error", "re": "{/meta/id}", "reason": "{reason}", "waitMs": "{retryAfterMs}" },
        }))
        .policy(json!({ "rateLimiting": { "events": { "typing": { "maxEvents": 1, "windowMs": 60_000, "per": "connection" } } } }))
        .start()
        .await;
    let mut alice = picket.caller("198.51.100.7").path("/deep").comes_in().await;

    let typing = |id: u64| json!({ "type": "other", "meta": { "name": "typing", "id": id } });
    alice.sends_packed(&typing(1)).await;
    alice.receives_packed(typing(1)).await;
    alice.sends_packed(&typing(2)).await;
    let refusal = alice.receives_packed(json!({ "type": "error" })).await;
    assert_eq!((&refusal["re"], &refusal["reason"]), (&json!(2), &json!("event_rate")), "{refusal}");
    assert!(refusal["waitMs"].as_u64().is_some_and(|wait| wait > 0), "{refusal}");
}

#[tokio::test]
async fn a_text_frame_is_no_messagepack_and_without_a_form_nothing_is_answered() {
    let upstream = Upstream::echo().await;
    let picket = Picket::builder()
        .route(json!({ "path": "/ws", "upstream": upstream.websocket_url("/ws"), "protocol": "msgpack" }))
        .start()
        .await;

    let mut alice = picket.caller("198.51.100.7").comes_in().await;
    alice.sends_text(r#"{"type":"chat:say"}"#).await;
    alice.closes_with(1003, "type_not_allowed").await;

    let mut bob = picket.wire("198.51.100.8").await;
    let beacon = rmp_serde::to_vec_named(&json!({ "type": "beacon" })).unwrap();
    bob.sends(Frame::of(Frame::BINARY, [0xc1])).await;
    bob.sends(Frame::of(Frame::BINARY, &beacon)).await;
    let first = bob.frame().await.expect("the echo of what was not refused");
    assert_eq!(first.payload, beacon);
    assert_eq!(upstream.seen(), [Seen::Binary(beacon)]);
}
