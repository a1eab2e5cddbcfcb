//! What a message may be: its size, its texts, its JSON, its name, its keys, its schema.

use serde_json::{Value, json};

use crate::harness::{Client, Picket, Seen, SocketIo, Token, Upstream, issuer};

/// Sends texts that must be refused for this reason; the connection stays, and the upstream hears of none of them.
async fn are_refused(client: &mut Client, upstream: &Upstream, reason: &str, texts: impl IntoIterator<Item = String>) {
    let before = upstream.seen().len();
    for text in texts {
        client.sends_text(&text).await;
        let refusal = client.receives(json!({ "type": "error" })).await;
        assert_eq!(refusal["reason"], reason, "{}", text.chars().take(200).collect::<String>());
    }
    client.is_still_served().await;
    let seen = upstream.texts();
    assert_eq!(seen.len(), before + 1, "refused, and yet at the upstream: {:?}", &seen[before..]);
}

/// Sends texts that must arrive as they are.
async fn arrive(client: &mut Client, upstream: &Upstream, texts: &[&str]) {
    for text in texts {
        client.sends_text(text).await;
        upstream.receives_text(text).await;
        client.receives_text(|echo| echo == *text).await;
    }
}

#[tokio::test]
async fn p01_a_message_of_a_mebibyte_arrives_and_one_byte_more_is_1009() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    // Texts of 8 KiB each, so that only the message's size is at stake.
    let message = |size: usize| {
        let texts = vec!["x".repeat(8000); 131];
        let mut text = json!({ "type": "big", "texts": texts }).to_string();
        text.truncate(text.len() - 1);
        text.push_str(&" ".repeat(size - text.len() - 1));
        text + "}"
    };

    let mut alice = picket.caller("198.51.100.7").comes_in().await;
    alice.sends_text(&message(1_048_576)).await;
    upstream.receives(1).await;
    alice.is_still_served().await;

    let mut mallory = picket.caller("198.51.100.8").comes_in().await;
    mallory.sends_text(&message(1_048_577)).await;
    mallory.closes_with(1009, "payload_too_large").await;

    upstream.loses(1).await;
    assert_eq!(upstream.seen().len(), 2);
    picket.admin().audited("eventType=PAYLOAD_TOO_LARGE&ip=198.51.100.8", 1).await;
    picket.admin().counts("a payload violation", |metrics| metrics["payloadViolations"].as_u64() >= Some(1)).await;
}

#[tokio::test]
async fn p01_a_text_is_measured_in_characters_and_one_too_many_is_refused() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;
    let event = |text: &str| json!({ "type": "chat:say", "parts": [{ "text": text }] }).to_string();

    arrive(&mut alice, &upstream, &[&event(&"😀".repeat(10_000)), &event(&"x".repeat(10_000))]).await;
    are_refused(&mut alice, &upstream, "text_too_long", [event(&"x".repeat(10_001)), event(&"😀".repeat(10_001))])
        .await;
}

#[tokio::test]
async fn p01_an_attack_behind_padding_is_inspected_all_the_same() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream)
        .patient()
        .policy(json!({ "validation": { "content": { "mode": "reject" } } }))
        .start()
        .await;
    let mut mallory = picket.caller("198.51.100.7").comes_in().await;

    let padded = [8, 16, 32, 64, 128].map(|kibibytes| {
        let padding = vec!["padding ".repeat(1000); kibibytes / 8];
        json!({ "type": "chat:say", "a": padding, "text": "<script>alert(1)</script>" }).to_string()
    });
    are_refused(&mut mallory, &upstream, "hostile_content", padded).await;
}

#[tokio::test]
async fn p02_deep_nesting_is_refused_and_nobody_falls_over() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).patient().start().await;
    let mut mallory = picket.caller("198.51.100.7").comes_in().await;
    let arrays = |depth: usize| format!(r#"{{"type":"chat:say","deep":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let objects =
        |depth: usize| format!(r#"{{"type":"chat:say","deep":{}1{}}}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth));

    arrive(&mut mallory, &upstream, &[&arrays(60), &objects(60)]).await;
    are_refused(&mut mallory, &upstream, "too_deep", [arrays(66), objects(66), arrays(100_000), objects(100_000)])
        .await;

    mallory.sends_text(&"[".repeat(100_000)).await;
    mallory.receives(json!({ "type": "error" })).await;
    picket.caller("198.51.100.8").comes_in().await.is_still_served().await;
}

#[tokio::test]
async fn p03_a_key_that_stands_twice_is_malformed_however_it_is_spelled() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).patient().start().await;
    let mut mallory = picket.caller("198.51.100.7").comes_in().await;

    let texts = [
        r#"{"type":"chat:say","type":"admin:drop"}"#,
        r#"{"type":"chat:say","to":"alice","to":"bob"}"#,
        r#"{"type":"chat:say","a":{"b":[{"c":1,"c":2}]}}"#,
        r#"{"type":"chat:say","t\u006f":"alice","to":"bob"}"#,
        r#"{"type":"chat:say","":1,"":2}"#,
    ];
    are_refused(&mut mallory, &upstream, "malformed", texts.map(str::to_owned)).await;
    arrive(&mut mallory, &upstream, &[r#"{"type":"chat:say","a":{"x":1},"b":{"x":1},"A":2}"#]).await;
}

#[tokio::test]
async fn p04_names_keys_and_values_are_judged_after_decoding() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream)
        .patient()
        .policy(json!({ "validation": { "allowedEventTypes": ["chat:*", "still-served"], "content": { "mode": "reject" } } }))
        .start()
        .await;
    let mut mallory = picket.caller("198.51.100.7").comes_in().await;

    arrive(&mut mallory, &upstream, &[r#"{"\u0074ype":"\u0063hat\u003asay","text":"caf\u00e9 \ud83d\ude00"}"#]).await;
    are_refused(&mut mallory, &upstream, "unknown_event", [r#"{"type":"\u0061dmin:drop"}"#.to_owned()]).await;
    let hostile = [
        r#"{"type":"chat:say","text":"\u003cscript\u003ealert(1)\u003c/script\u003e"}"#,
        r#"{"type":"chat:say","text":"\u003Cimg src=x on\u0065rror=alert(1)\u003E"}"#,
        r#"{"type":"chat:say","\u005f\u005fproto__":{"admin":true}}"#,
    ];
    are_refused(&mut mallory, &upstream, "hostile_content", hostile.map(str::to_owned)).await;
}

#[tokio::test]
async fn p05_what_is_not_json_is_malformed_and_the_connection_stays() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).patient().start().await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;

    let texts = [
        "",
        " ",
        "{",
        r#"{"type":"chat:say""#,
        r#"{"type":"chat:say",}"#,
        r#"{"type":"chat:say"}}"#,
        r#"{"type":"chat:say"} {"type":"admin:drop"}"#,
        r#"{'type':'chat:say'}"#,
        r#"{type:"chat:say"}"#,
        r#"{"type":"chat:say","n":NaN}"#,
        r#"{"type":"chat:say","n":Infinity}"#,
        r#"{"type":"chat:say","n":-Infinity}"#,
        r#"{"type":"chat:say","n":01}"#,
        r#"{"type":"chat:say","n":1.}"#,
        r#"{"type":"chat:say","n":.5}"#,
        r#"{"type":"chat:say","n":+1}"#,
        r#"{"type":"chat:say","n":0x1f}"#,
        "{\"type\":\"chat:say\"/* comment */}",
        "\u{feff}{\"type\":\"chat:say\"}",
        "{\"type\":\"chat:say\",\"t\":\"a\tb\"}",
        "{\"type\":\"chat:say\",\"t\":\"a\nb\"}",
        "{\"type\":\"chat:say\",\"t\":\"a\0b\"}",
        r#"{"type":"chat:say","t":"\x41"}"#,
        r#"{"type":"chat:say","t":"\u12"}"#,
        r#"{"type":"chat:say","t":"\ud800"}"#,
        r#"{"type":"chat:say","t":"\udc00\ud800"}"#,
        r#"{"type":"chat:say","\ud800":1}"#,
        "hello",
        "\u{a0}{\"type\":\"chat:say\"}",
        r#"{"type":"chat:say","t":tru}"#,
        r#"{"type":"chat:say","t":[1,,2]}"#,
    ];
    are_refused(&mut alice, &upstream, "malformed", texts.map(str::to_owned)).await;
    let sound = [
        " { \"type\" :\t\"chat:say\" ,\n\"n\": -0.5e+3 } ",
        r#"{"type":"chat:say","n":12345678901234567890.123456789}"#,
    ];
    arrive(&mut alice, &upstream, &sound).await;
}

#[tokio::test]
async fn p06_a_hundred_thousand_keys_are_refused_and_ten_thousand_pass() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).patient().start().await;
    let mut mallory = picket.caller("198.51.100.7").comes_in().await;
    let keys = |count: usize, per_object: usize| {
        let key = |index: usize| format!("\"{index:x}\":0");
        let objects: Vec<String> = (0..count.div_ceil(per_object))
            .map(|object| {
                format!(
                    "{{{}}}",
                    (0..per_object).map(|index| key(object * per_object + index)).collect::<Vec<_>>().join(",")
                )
            })
            .collect();
        format!(r#"{{"type":"chat:say","a":[{}]}}"#, objects.join(","))
    };

    are_refused(&mut mallory, &upstream, "malformed", [keys(100_000, 100_000), keys(100_000, 10), keys(9999, 9999)])
        .await;
    // With the message's own two.
    arrive(&mut mallory, &upstream, &[&keys(9998, 9998)]).await;
}

#[tokio::test]
async fn p14_what_stands_beside_an_attachment_is_inspected_and_a_refused_event_takes_it_along() {
    let upstream = Upstream::engine_io().await;
    let rules = json!({ "validation": { "content": { "mode": "reject" } } });
    let picket = Picket::guarding_socketio(&upstream).patient().policy(rules).start().await;
    let mut mallory = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;

    let file = b"<script>bytes are bytes</script>";
    let packet = |note: &str| {
        let arguments = json!(["file:send", { "file": { "_placeholder": true, "num": 0 }, "note": note }]);
        format!("451-{arguments}")
    };
    mallory.says(&packet("<img src=x onerror=alert(1)>")).await;
    mallory.client.sends_binary(file).await;
    mallory.hears_refusal("hostile_content").await;
    mallory.says(&packet("a < b")).await;
    mallory.client.sends_binary(file).await;

    let seen = upstream.receives(3).await;
    assert_eq!(seen[1..], [Seen::Text(packet("a < b")), Seen::Binary(file.to_vec())]);
}

#[tokio::test]
async fn p07_keys_that_reach_for_a_prototype_are_refused_and_their_honest_lookalikes_are_not() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).patient().start().await;
    let mut mallory = picket.caller("198.51.100.7").comes_in().await;

    let hostile = [
        r#"{"type":"chat:say","__proto__":{"admin":true}}"#,
        r#"{"type":"chat:say","__proto__":null}"#,
        r#"{"type":"chat:say","a":[{"b":{"__proto__":{"admin":true}}}]}"#,
        r#"{"type":"chat:say","constructor":{"prototype":{"admin":true}}}"#,
        r#"{"type":"chat:say","a":{"constructor":{"x":1,"prototype":{}}}}"#,
        r#"{"type":"chat:say","\u005f_proto__":1}"#,
        r#"{"type":"chat:say","\u005F\u005F\u0070\u0072\u006f\u0074\u006f\u005f\u005f":1}"#,
        r#"{"type":"chat:say","c\u006fnstructor":{"protot\u0079pe":1}}"#,
        r#"{"__proto__":{"type":"admin"},"type":"chat:say"}"#,
    ];
    are_refused(&mut mallory, &upstream, "hostile_content", hostile.map(str::to_owned)).await;
    arrive(
        &mut mallory,
        &upstream,
        &[
            r#"{"type":"chat:say","text":"__proto__"}"#,
            r#"{"type":"chat:say","text":"\"__proto__\":1 is how it is done"}"#,
            r#"{"type":"chat:say","constructor":null}"#,
            r#"{"type":"chat:say","constructor":{"name":"Bob the builder"}}"#,
        ],
    )
    .await;
}

#[tokio::test]
async fn an_event_that_is_not_on_the_list_is_unknown() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream)
        .patient()
        .policy(json!({ "validation": { "allowedEventTypes": ["chat:*", "still-served"] } }))
        .start()
        .await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;

    arrive(&mut alice, &upstream, &[r#"{"type":"chat:say"}"#, r#"{"type":"chat:"}"#]).await;
    let unknown =
        ["admin:drop", "chat", "xchat:say", "Chat:say", " chat:say", "still-served ", "still-served\u{0}", ""];
    are_refused(&mut alice, &upstream, "unknown_event", unknown.map(|name| json!({ "type": name }).to_string())).await;

    alice.sends(json!({ "type": "admin:drop" })).await;
    assert_eq!(alice.is_refused("unknown_event").await["event"], "admin:drop");
    let record = picket.admin().audited("eventType=UNAUTHORIZED_EVENT&text=admin:drop", 1).await.remove(0);
    assert_eq!((&record["eventName"], &record["severity"]), (&json!("admin:drop"), &json!("high")), "{record}");
}

#[tokio::test]
async fn a_message_without_a_name_does_not_pass_a_list_of_names() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream)
        .patient()
        .policy(json!({ "validation": { "allowedEventTypes": ["chat:*", "still-served"] } }))
        .start()
        .await;
    let mut mallory = picket.caller("198.51.100.7").comes_in().await;

    for text in [
        r#"{"name":"chat:say"}"#,
        r#"{"type":7}"#,
        r#"{"type":null}"#,
        r#"{"type":["chat:say"]}"#,
        "[1,2]",
        "\"chat:say\"",
        "7",
    ] {
        mallory.sends_text(text).await;
        let refusal = mallory.receives(json!({ "type": "error" })).await;
        assert_eq!(refusal["event"], Value::Null, "{text}: {refusal}");
    }
    mallory.is_still_served().await;
    assert_eq!(upstream.texts().len(), 1, "{:?}", upstream.texts());
}

#[tokio::test]
async fn the_name_may_stand_at_a_json_pointer() {
    let upstream = Upstream::echo().await;
    let picket = Picket::builder()
        .route(json!({ "path": "/ws", "upstream": upstream.websocket_url("/ws"), "protocol": "json", "eventField": "/meta/name" }))
        .patient()
        .policy(json!({ "validation": { "allowedEventTypes": ["chat:*"] } }))
        .start()
        .await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;

    alice.sends(json!({ "meta": { "name": "admin:drop" }, "type": "chat:say" })).await;
    assert_eq!(alice.is_refused("unknown_event").await["event"], "admin:drop");
    arrive(&mut alice, &upstream, &[r#"{"meta":{"name":"chat:say"},"type":"admin:drop"}"#]).await;
}

#[tokio::test]
async fn an_event_that_breaks_its_schema_is_refused() {
    let upstream = Upstream::echo().await;
    let schema = json!({
        "type": "object",
        "required": ["text"],
        "properties": { "text": { "type": "string", "maxLength": 5 }, "to": { "type": "integer" } },
    });
    let picket = Picket::guarding(&upstream)
        .patient()
        .policy(json!({ "validation": { "schemas": { "chat:say": schema } } }))
        .start()
        .await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;

    arrive(
        &mut alice,
        &upstream,
        &[r#"{"type":"chat:say","text":"hello"}"#, r#"{"type":"chat:other","text":"as long as it likes"}"#],
    )
    .await;
    let broken = [
        r#"{"type":"chat:say"}"#,
        r#"{"type":"chat:say","text":"too long"}"#,
        r#"{"type":"chat:say","text":7}"#,
        r#"{"type":"chat:say","text":"hi","to":"7 OR 1=1"}"#,
    ];
    are_refused(&mut alice, &upstream, "schema", broken.map(str::to_owned)).await;
}

#[tokio::test]
async fn an_event_may_require_a_login_or_a_role() {
    let upstream = Upstream::echo().await;
    let rules = json!({ "validation": { "requireAuthentication": ["chat:say"], "eventRoles": { "chat:moderate": ["moderator", "admin"] } } });
    let picket = Picket::guarding(&upstream).issuer(issuer()).patient().policy(rules).start().await;
    let (say, moderate) = (r#"{"type":"chat:say"}"#, r#"{"type":"chat:moderate"}"#);

    let mut anonymous = picket.caller("198.51.100.7").comes_in().await;
    are_refused(&mut anonymous, &upstream, "login_required", [say.to_owned()]).await;

    let mut member = picket.caller("198.51.100.8").bearing(&Token::of("alice").signed()).comes_in().await;
    arrive(&mut member, &upstream, &[say]).await;
    are_refused(&mut member, &upstream, "role_required", [moderate.to_owned()]).await;

    let mut moderator = picket
        .caller("198.51.100.9")
        .bearing(&Token::of("carol").role(json!(["member", "moderator"])).signed())
        .comes_in()
        .await;
    arrive(&mut moderator, &upstream, &[say, moderate]).await;

    let record = picket.admin().audited("eventType=UNAUTHORIZED_EVENT", 1).await.remove(0);
    assert_eq!((&record["userId"], &record["reason"]), (&json!("alice"), &json!("role_required")), "{record}");
    picket.admin().audited("eventType=AUTHENTICATION_FAILURE&ip=198.51.100.7", 1).await;
}

#[tokio::test]
async fn a_text_route_bounds_its_texts_and_answers_nothing() {
    let upstream = Upstream::echo().await;
    let picket = Picket::builder()
        .route(json!({ "path": "/ws", "upstream": upstream.websocket_url("/ws"), "protocol": "text" }))
        .start()
        .await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;

    alice.sends_text("hello, {not json").await;
    alice.sends_text(&"x".repeat(10_001)).await;
    alice.sends_text("goodbye").await;

    let first = alice.receives_text(|_| true).await;
    let second = alice.receives_text(|_| true).await;
    assert_eq!((first.as_str(), second.as_str()), ("hello, {not json", "goodbye"));
    assert_eq!(upstream.texts(), ["hello, {not json", "goodbye"]);
}

#[tokio::test]
async fn an_opaque_route_passes_bytes_unread_and_still_bounds_them() {
    let upstream = Upstream::echo().await;
    let picket = Picket::builder()
        .route(json!({ "path": "/ws", "upstream": upstream.websocket_url("/ws"), "protocol": "opaque" }))
        .policy(json!({ "validation": { "maxPayloadSize": 1024 } }))
        .start()
        .await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;

    let bytes: Vec<u8> = (0..=255).collect();
    alice.sends_binary(&bytes).await;
    alice.receives_binary(&bytes).await;
    alice.sends_text("<script>alert(1)</script>").await;
    alice.receives_text(|text| text == "<script>alert(1)</script>").await;
    assert_eq!(upstream.seen()[0], Seen::Binary(bytes));

    alice.sends_binary(&[0; 1025]).await;
    alice.closes_with(1009, "payload_too_large").await;
}
