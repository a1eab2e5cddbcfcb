//! Who may ask, what is told to whoever asks wrongly, and where a question stands in a trace.

use opentelemetry_proto::tonic::trace::v1::Span;
use reqwest::Method;
use serde_json::{Value, json};

use super::{ALICE, MALLORY, allowed, authorizes, both_doors, is_refused};
use crate::harness::{Collector, Form, HOME, text};

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
async fn a_question_is_a_span_in_the_applications_trace_and_its_verdict_one_below() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let collector = Collector::http().await;
    let (_upstream, builder) = both_doors().await;
    let builder = builder.policy(json!({ "validation": { "allowedEventTypes": ["chat:say"] } }));
    let picket = builder.exporting_to(&collector, None).start().await;
    let application = picket.application();
    let asks = async |path: &str, question: Value| {
        let sent = application.sends(Method::POST, path, |request| {
            let request = request.header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"));
            request.header("Content-Type", "application/json").body(question.to_string())
        });
        sent.await.verdict()
    };
    assert_eq!(
        asks("/v1/check/connection", json!({ "connectionId": "c", "ip": ALICE, "origin": HOME })).await,
        allowed()
    );
    let say = json!({ "connectionId": "c", "ip": ALICE, "event": "chat:say", "payload": "payload-canary" });
    assert_eq!(asks("/v1/check/event", say).await, allowed());
    let nonsense = json!({ "connectionId": "c", "ip": ALICE, "event": "nonsense" });
    is_refused(&asks("/v1/check/event", nonsense).await, "unknown_event");
    authorizes(&application, MALLORY, &[("Origin", "https://evil.example")]).await;

    let attribute = |span: &Span, name: &str| text(&span.attributes, name);
    for (question, decision, outcome) in [
        ("POST /v1/check/connection", "picket.admission", "allowed"),
        ("POST /v1/check/event", "picket.inspection", "allowed"),
        ("POST /v1/check/event", "picket.inspection", "refused"),
    ] {
        let reason = (outcome == "refused").then(|| "unknown_event".to_owned());
        let asked = collector.receives_span(question, |span| attribute(span, "error.type") == reason).await;
        assert_eq!(asked.trace_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), TRACE);
        let is_below = |span: &Span| attribute(span, "picket.outcome").as_deref() == Some(outcome);
        let decided = collector.receives_span(decision, is_below).await;
        assert_eq!((&decided.trace_id, &decided.parent_span_id), (&asked.trace_id, &asked.span_id), "{question}");
    }
    let asked = collector.receives_span("GET /v1/authz", |_| true).await;
    assert_eq!(attribute(&asked, "error.type").as_deref(), Some("origin_not_allowed"));
    assert!(!collector.everything().contains("canary"), "a payload was exported");
}
