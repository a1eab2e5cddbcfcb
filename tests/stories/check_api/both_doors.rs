//! One verdict and one budget, whichever door is asked.

use serde_json::{Value, json};

use super::{ALICE, MALLORY, allowed, authorizes, both_doors, is_refused};
use crate::harness::{Application, Client, Cluster, Form, HOME, Redis, Token, eventually, issuer};

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
