//! The check API: an application that keeps its own server in front asks, and is told what the proxy would do.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Application, Caller, Client, Cluster, Form, HOME, Nginx, Picket, PicketBuilder, Redis, Token, Upstream, eventually,
    issuer,
};

const ALICE: &str = "198.51.100.7";
const MALLORY: &str = "198.51.100.66";

/// A gateway and a check API over one state; the upstream lives as long as the story needs it.
async fn both_doors() -> (Upstream, PicketBuilder) {
    let upstream = Upstream::echo().await;
    let builder = Picket::guarding(&upstream).checking();
    (upstream, builder)
}

fn allowed() -> Value {
    json!({ "allowed": true })
}

#[track_caller]
fn is_refused(verdict: &Value, reason: &str) {
    assert_eq!((&verdict["allowed"], &verdict["reason"]), (&json!(false), &json!(reason)), "{verdict}");
}

/// What the proxy makes of a message: the reason of a refusal, or what came through.
async fn at_the_proxy(client: &mut Client, text: &str) -> Result<Value, String> {
    client.sends_text(text).await;
    let answer: Value = serde_json::from_str(&client.receives_text(|_| true).await).unwrap();
    match answer["reason"].as_str() {
        Some(reason) if answer["type"] == "error" => Err(reason.to_owned()),
        _ => Ok(answer),
    }
}

/// What the check API makes of the same message.
async fn at_the_check_api(
    application: &Application,
    id: &str,
    event: &str,
    text: &str,
    form: Form,
) -> Result<Value, String> {
    let question = match form {
        Form::Json => {
            format!(r#"{{"connectionId":"{id}","ip":"{ALICE}","event":"{event}","payload":{text}}}"#).into_bytes()
        }
        Form::MsgPack => {
            let payload: Value = serde_json::from_str(text).unwrap();
            form.writes(&json!({ "connectionId": id, "ip": ALICE, "event": event, "payload": payload }))
        }
    };
    let reply = application.posts("/v1/check/event", form.media_type(), question).await;
    assert_eq!(reply.content_type(), form.media_type());
    let verdict = reply.verdict();
    match verdict["reason"].as_str() {
        Some(reason) => Err(reason.to_owned()),
        None => Ok(verdict.get("payload").cloned().unwrap_or_else(|| serde_json::from_str(text).unwrap())),
    }
}

#[tokio::test]
async fn the_same_payloads_get_the_same_verdicts_at_both_doors_in_both_forms() {
    let (_upstream, builder) = both_doors().await;
    let picket = builder
        .patient()
        .policy(json!({ "validation": {
            "allowedEventTypes": ["chat:*", "order", "vote"],
            "requireAuthentication": ["order"],
            "eventRoles": { "chat:kick": ["moderator"] },
            "schemas": { "vote": { "type": "object", "required": ["choice"] } },
        } }))
        .start()
        .await;
    let mut client = picket.caller(ALICE).comes_in().await;
    let application = picket.application();
    assert_eq!(application.connects("c1", ALICE).await, allowed());

    let say = |text: &str| ("chat:say", json!({ "type": "chat:say", "text": text }).to_string());
    let event = |name: &'static str, more: &str| (name, format!(r#"{{"type":"{name}"{more}}}"#));
    let deep = format!(r#","deep":{}{}"#, "[".repeat(70), "]".repeat(70));
    let mut corpus = vec![
        event("admin:drop", ""),
        event("order", ""),
        event("chat:kick", ""),
        event("vote", ""),
        event("vote", r#","choice":1"#),
        event("chat:say", &deep),
        event("chat:say", r#","__proto__":{"admin":true}"#),
        event("chat:say", r#","constructor":{"prototype":{}}"#),
        event("chat:say", r#","list":[1,-1,1.5,18446744073709551615,true,null,{"a":["b"]}]"#),
    ];
    corpus.extend(
        [
            "hello",
            "a < b && c > d, I <3 you, R&D",
            "😀 é \u{2028} \u{0} \" \\",
            "<b>bold</b>",
            "<script>alert(1)</script>",
            "before <img src=x onerror=alert(1)> after",
            "javascript:alert(1)",
            "<a href=\"javascript:alert(1)\">x</a>",
            "＜script＞alert(1)＜/script＞",
            "' OR 1=1 --",
            "../../etc/passwd",
        ]
        .map(say),
    );
    corpus.push(say(&"x".repeat(10_001)));
    for (name, text) in &corpus {
        let expected = at_the_proxy(&mut client, text).await;
        for form in Form::BOTH {
            assert_eq!(at_the_check_api(&application, "c1", name, text, form).await, expected, "{form:?}: {text}");
        }
    }
    // What a map of MessagePack made from a value cannot say.
    for more in [r#","a":1,"a":2"#, r#","t":"\ud800""#, r#","t":"\u003cscript\u003e""#] {
        let (name, text) = event("chat:say", more);
        let expected = at_the_proxy(&mut client, &text).await;
        assert_eq!(at_the_check_api(&application, "c1", name, &text, Form::Json).await, expected, "{text}");
    }
    let sanitised = application.says("c1", ALICE, "chat:say", json!({ "t": "<b>x</b><script>y</script>" })).await;
    assert!(sanitised["payload"]["t"].as_str().is_some_and(|text| !text.contains("script")), "{sanitised}");
    picket.admin().audited("text=active_content&socketId=c1", 1).await;
}

#[tokio::test]
async fn limits_are_shared_by_both_doors() {
    let (_upstream, builder) = both_doors().await;
    let picket = builder
        .issuer(issuer())
        .policy(json!({
            "rateLimiting": {
                "messageLimit": { "maxMessages": 6, "windowMs": 600_000, "events": ["chat:*"] },
                "concurrentConnections": { "perUser": 2 },
            },
        }))
        .start()
        .await;
    let token = Token::of("alice").signed();
    let mut client = picket.caller(ALICE).bearing(&token).comes_in().await;
    let application = picket.application().speaking(Form::MsgPack);
    assert_eq!(application.connects_with("c1", ALICE, json!({ "token": token })).await, allowed());

    for _ in 0..3 {
        let unnamed = json!({ "ip": MALLORY, "origin": HOME });
        assert_eq!(application.asks("/v1/check/connection", &unnamed).await.verdict(), allowed(), "it holds no slot");
    }
    is_refused(&application.connects_with("c2", MALLORY, json!({ "token": token })).await, "too_many_connections");
    picket.caller(MALLORY).bearing(&token).connects().await.refused_with(429, "too_many_connections");
    application.ends("c1").await;
    assert_eq!(application.connects_with("c2", MALLORY, json!({ "token": token })).await, allowed());

    for number in 0..4 {
        client.sends(json!({ "type": "chat:say", "n": number })).await;
        client.receives(json!({ "type": "chat:say", "n": number })).await;
    }
    for _ in 0..2 {
        assert_eq!(application.says("c2", MALLORY, "chat:say", json!({})).await, allowed());
    }
    let refused = application.says("c2", MALLORY, "chat:say", json!({})).await;
    is_refused(&refused, "message_rate");
    assert!(refused["retryAfterMs"].as_u64() > Some(0), "{refused}");
    client.sends(json!({ "type": "chat:say" })).await;
    client.is_refused("message_rate").await;
    let named = application.says_with("c9", MALLORY, "chat:say", json!({ "user": "alice" })).await;
    is_refused(&named, "message_rate");
    assert_eq!(application.says_with("c9", MALLORY, "chat:say", json!({ "user": "bob" })).await, allowed());
}

#[tokio::test]
async fn a_connection_rate_counts_at_every_door_and_a_renewal_counts_at_none() {
    let (_upstream, builder) = both_doors().await;
    let limit = json!({ "rateLimiting": { "connectionLimit": { "maxConnections": 3, "windowMs": 600_000 } } });
    let picket = builder.policy(limit).start().await;
    let application = picket.application();

    picket.caller(ALICE).comes_in().await;
    for _ in 0..5 {
        assert_eq!(application.connects("c1", ALICE).await, allowed(), "asked again, it is the same connection");
    }
    assert_eq!(authorizes(&application, ALICE, &[]).await.0, 200);
    let refused = application.connects("c2", ALICE).await;
    is_refused(&refused, "connection_rate");
    assert!(refused["retryAfterMs"].as_u64() > Some(0), "{refused}");
    picket.caller(ALICE).connects().await.refused_with(429, "connection_rate");
    assert_eq!(authorizes(&application, ALICE, &[]).await, (429, "connection_rate".to_owned()));
}

/// `GET /v1/authz` for a client: the status, and the reason where there is one.
async fn authorizes(application: &Application, ip: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let reply = application
        .sends(Method::GET, "/v1/authz", |request| {
            let request = request.header("X-Forwarded-For", ip);
            let request = match headers.iter().any(|(name, _)| *name == "Origin") {
                true => request,
                false => request.header("Origin", HOME),
            };
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
        })
        .await;
    let reason = reply.headers.get("x-picket-reason").map_or("", |reason| reason.to_str().unwrap()).to_owned();
    (reply.status, reason)
}

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

#[tokio::test]
async fn x01_one_user_has_one_budget_at_the_proxy_of_one_node_and_the_check_api_of_another() {
    let redis = Redis::start().await;
    let limits = json!({
        "messageLimit": { "maxMessages": 10, "windowMs": 600_000, "events": ["chat:*"], "exact": true },
        "concurrentConnections": { "perUser": 2 },
    });
    let cluster = Cluster::of(1).on(&redis).policy(json!({ "rateLimiting": limits })).start().await;
    let other = cluster.another_node("edge-check").checking().start().await;
    let token = Token::of("alice").signed();
    let mut client = cluster.node(0).caller(ALICE).bearing(&token).comes_in().await;
    let application = other.application();
    let with_token = json!({ "token": token });
    assert_eq!(application.connects_with("c1", MALLORY, with_token.clone()).await, allowed());
    is_refused(&application.connects_with("c2", MALLORY, with_token.clone()).await, "too_many_connections");

    for number in 0..7 {
        client.sends(json!({ "type": "chat:say", "n": number })).await;
        client.receives(json!({ "type": "chat:say", "n": number })).await;
    }
    for _ in 0..3 {
        assert_eq!(application.says("c1", MALLORY, "chat:say", json!({})).await, allowed());
    }
    is_refused(&application.says("c1", MALLORY, "chat:say", json!({})).await, "message_rate");
    client.sends(json!({ "type": "chat:say" })).await;
    client.is_refused("message_rate").await;

    client.leaves().await;
    eventually("the slot of a socket at the other door", async || {
        (application.connects_with("c2", MALLORY, with_token.clone()).await == allowed()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn only_the_token_opens_and_nothing_else_is_told() {
    let (_upstream, builder) = both_doors().await;
    let picket = builder.start().await;
    let mut said = Vec::new();
    for authorization in [None, Some("Bearer wrong"), Some("Basic d2FyZGVuOng="), Some("Bearer ")] {
        let stranger = picket.application().authorized_by(authorization);
        for path in ["/v1/check/connection", "/v1/check/event", "/v1/authz", "/nothing"] {
            let reply = stranger.posts(path, "application/json", b"{".to_vec()).await;
            reply.is_problem(401, "bearer token");
            assert_eq!(reply.headers["www-authenticate"], "Bearer");
            said.push(reply.bytes);
        }
    }
    assert!(said.iter().all(|body| *body == said[0]), "missing, wrong, and where: all the same");
    assert!(!picket.everything_it_said().contains("check-token-of-the-stories"));
}

#[tokio::test]
async fn p16_garbage_is_told_what_is_wrong_with_it_and_costs_nothing() {
    let (_upstream, builder) = both_doors().await;
    let picket = builder.node(json!({ "limits": { "checkBodyBytesMax": 65536 } })).start().await;
    let application = picket.application();
    let packed = |bytes: Vec<u8>| application.posts("/v1/check/event", "application/msgpack", bytes);
    let whole = Form::MsgPack.writes(&json!({ "connectionId": "c", "ip": ALICE, "event": "e", "payload": [1] }));
    packed(whole.clone()).await.verdict();

    packed(whole[..whole.len() - 1].to_vec()).await.is_problem(400, "ends too early");
    packed(Vec::new()).await.is_problem(400, "ends too early");
    packed(vec![0xdf, 0xff, 0xff, 0xff, 0xff]).await.is_problem(400, "ends too early");
    packed([&b"\x81\xa7payload\xdd"[..], &[0xff; 4]].concat()).await.is_problem(400, "ends too early");
    packed([&b"\x81\xa7payload\xdb"[..], &[0xff; 4]].concat()).await.is_problem(400, "ends too early");
    packed([&b"\x81\xa7payload"[..], &[0x91; 50_000]].concat()).await.is_problem(400, "nested deeper");
    packed(vec![0xc1]).await.is_problem(400, "0xc1");
    packed([whole, vec![0]].concat()).await.is_problem(400, "bytes follow");

    let strange =
        [&b"\x84\xacconnectionId\xa1c\xa2ip\xac198.51.100.7\xa5event\xa1e\xa7payload"[..], b"\x81\x01\x02"].concat();
    is_refused(&packed(strange).await.verdict(), "malformed");

    let json = |text: &str| application.posts("/v1/check/event", "application/json", text.as_bytes().to_vec());
    let nested =
        [&b"\x84\xacconnectionId\xa4deep\xa2ip\xac198.51.100.7\xa5event\xa1e\xa7payload"[..], &[0x91; 500], &[0xc0]]
            .concat();
    is_refused(&packed(nested).await.verdict(), "too_deep");

    json("{").await.is_problem(400, "not JSON");
    json(&"[".repeat(60_000)).await.is_problem(422, "invalid type");
    let deep = format!(r#"{{"connectionId":"c","ip":"{ALICE}","event":"e","payload":{}"#, "[".repeat(60_000));
    json(&deep).await.is_problem(400, "not JSON");
    let nested = "[".repeat(30_000) + &"]".repeat(30_000);
    let whole = format!(r#"{{"connectionId":"deep","ip":"{ALICE}","event":"e","payload":{nested}}}"#);
    is_refused(&json(&whole).await.verdict(), "too_deep");
    let problem = json(r#"{"connectionId":"","ip":"x","event":"e"}"#).await.is_problem(422, "2 mistakes");
    let paths: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|error| error["path"].clone()).collect();
    assert_eq!(paths, ["ip", "connectionId"]);
    json(&format!(r#"{{"connectionId":"c","ip":"{ALICE}","event":7}}"#)).await.is_problem(422, "event: invalid type");
    json(&format!(r#"{{"connectionId":"c","ip":"{ALICE}","evnt":"e"}}"#)).await.is_problem(422, "unknown field `evnt`");
    json(&format!(r#"{{"connectionId":"c","ip":"{MALLORY}","event":"e"}}"#)).await.is_problem(409, "another address");
    json(&format!(r#"{{"x":"{}"}}"#, "x".repeat(65_536))).await.is_problem(413, "checkBodyBytesMax");
    application.posts("/v1/check/event", "text/plain", b"{}".to_vec()).await.is_problem(415, "Content-Type");

    let asked_in_msgpack = application
        .sends(Method::POST, "/v1/check/event", |request| {
            request.header("Content-Type", "application/json").header("Accept", "application/msgpack").body("{")
        })
        .await;
    assert_eq!(asked_in_msgpack.content_type(), "application/msgpack");
    asked_in_msgpack.is_problem(400, "not JSON");

    application.sends(Method::GET, "/v1/check/event", |request| request).await.is_problem(405, "method");
    application.sends(Method::GET, "/v1", |request| request).await.is_problem(404, "nothing is here");
    assert_eq!(application.says("c", ALICE, "e", json!({})).await, allowed(), "and it still serves");
}

#[tokio::test]
async fn authz_reads_forwarded_headers_and_answers_with_a_status() {
    let (_upstream, builder) = both_doors().await;
    let sources = json!({ "auth": { "tokenSources": ["authorization", "query:token"] } });
    let picket = builder
        .issuer(issuer())
        .with(sources)
        .policy(json!({ "security": { "maxAnonymousPerAddress": 1 } }))
        .start()
        .await;
    let application = picket.application();
    let token = Token::of("alice").role("member").signed();
    let bearer = format!("Bearer {token}");
    let target = format!("/ws?token={token}");

    assert_eq!(authorizes(&application, ALICE, &[("X-Forwarded-Authorization", &bearer)]).await.0, 200);
    assert_eq!(authorizes(&application, ALICE, &[("X-Original-URI", &target)]).await.0, 200);
    let bad = authorizes(&application, ALICE, &[("X-Forwarded-Authorization", "Bearer bad")]).await;
    assert_eq!(bad, (401, "token_invalid".to_owned()));
    let evil = authorizes(&application, ALICE, &[("Origin", "https://evil.example")]).await;
    assert_eq!(evil, (403, "origin_not_allowed".to_owned()));
    for _ in 0..3 {
        assert_eq!(authorizes(&application, ALICE, &[]).await.0, 200, "it holds no slot");
    }
    assert_eq!(application.connects("c1", ALICE).await, allowed());
    assert_eq!(authorizes(&application, ALICE, &[]).await, (429, "anonymous_limit".to_owned()));

    let reply = application
        .sends(Method::GET, &format!("/v1/authz/as/envoy/asks{}", &target[3..]), |request| {
            request.header("X-Forwarded-For", format!("203.0.113.9, {MALLORY}, 127.0.0.1")).header("Origin", HOME)
        })
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["x-picket-client"], MALLORY);
    assert_eq!(reply.headers["x-picket-user"], "alice");
    assert!(!reply.headers.contains_key("x-forwarded-for"));
    let nobody = application.sends(Method::GET, "/v1/authz", |request| request).await;
    nobody.is_problem(400, "X-Forwarded-For");
}

#[tokio::test]
async fn nginx_asks_with_the_documented_configuration() {
    let upstream = Upstream::echo().await;
    let limit = json!({ "rateLimiting": { "connectionLimit": { "maxConnections": 5, "windowMs": 600_000 } } });
    let picket = Picket::guarding(&upstream).checking().issuer(issuer()).policy(limit).start().await;
    let nginx = Nginx::before(upstream.address(), picket.address("check")).await;
    // What a client says about itself must not reach the check: only nginx knows where it comes from.
    let caller = || Caller::new(nginx.address(), "/ws", MALLORY).header("X-Picket-User", "root");

    let mut client = caller().bearing(&Token::of("alice").signed()).comes_in().await;
    client.is_still_served().await;
    let head = upstream.requests().pop().unwrap();
    assert_eq!(
        (head.all("x-picket-user"), head.all("x-picket-client")),
        (vec!["alice"], vec!["127.0.0.1"]),
        "{head:?}"
    );
    let connection = head.first("x-picket-connection").unwrap().to_owned();
    let event = picket.application().says_with(&connection, "127.0.0.1", "chat:say", json!({ "user": "alice" })).await;
    assert_eq!(event, allowed());

    caller().comes_in().await.is_still_served().await;
    assert_eq!(upstream.requests().pop().unwrap().all("x-picket-user"), [""; 0], "nobody is nobody");
    let reached = upstream.requests().len();
    assert_eq!(caller().bearing("forged").connects().await.refused().head.status(), 401);
    assert_eq!(caller().origin("https://evil.example").connects().await.refused().head.status(), 403);
    for _ in 0..2 {
        caller().comes_in().await;
    }
    let refused = caller().connects().await.refused();
    assert_eq!(refused.head.status(), 429, "{refused:?}");
    refused.may_be_retried();

    let force = json!({ "ip": "127.0.0.1", "reason": "a story", "force": true });
    picket.admin().post("/block-ip", force).await.succeeds();
    eventually("a block at nginx", async || (caller().connects().await.refused().head.status() == 403).then_some(()))
        .await;
    assert_eq!(upstream.requests().len(), reached + 2, "the refused did not reach the application");

    let documentation = include_str!("../../docs/check-api.md");
    assert!(documentation.contains("deploy/nginx/picket-authz.conf"));
}
