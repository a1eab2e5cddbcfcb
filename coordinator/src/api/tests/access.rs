//! Who gets in, and who does not.

use http::Method;
use picket_shared::audit::{AuditRecord, IDENTIFIER_BYTES_MAX, printable};
use picket_shared::clock::Clock;
use picket_shared::reason::Reason;
use serde_json::{Value, json};
use std::time::Duration;

use super::office::{ADMIN, Office, PASSWORD, START, Visitor, eventually};
use crate::api::auth::{ACCOUNT_DELAY, FAILURES_MAX};
use crate::api_keys;
use crate::config::Scope;

const READS: [&str; 13] = [
    "/metrics",
    "/audit-logs",
    "/audit-logs/export",
    "/audit-logs/0/explanation",
    "/dashboard",
    "/config",
    "/config/history",
    "/blocks",
    "/reputation/192.0.2.1",
    "/report",
    "/nodes",
    "/nothing",
    "",
];
const WRITES: [&str; 3] = ["/block-ip", "/unblock-ip", "/config/rollback"];

#[tokio::test]
async fn r14_every_path_is_denied_without_a_credential_whatever_its_spelling() {
    let office = Office::open().await;
    let stranger = office.stranger();
    for path in READS {
        stranger.get(path).await.fails_with(401);
    }
    for path in WRITES {
        stranger.post(path, json!({})).await.fails_with(401);
    }
    stranger.put("/config", json!({})).await.fails_with(401);
    for spelling in [
        "//",
        "/anything",
        "/dashboard",
        "/dashboard/",
        "/dashboard/../api/security/metrics",
        "//api/security/metrics",
        "/api//security/metrics",
        "/api/security/health/",
        "/api/security/health/../metrics",
        "/api/security/health/%2e%2e/metrics",
        "/api/security/health%2f..%2fmetrics",
        "/api/security/health;/metrics",
        "/api/security/HEALTH",
        "/api/security/%68ealth",
        "/API/SECURITY/METRICS",
        "/api/security/metrics?x=/api/security/health",
    ] {
        assert_eq!(raw_status(&office, "GET", spelling).await, 401, "{spelling}");
    }
    for method in ["OPTIONS", "TRACE", "POST", "DELETE", "PROPFIND"] {
        assert_eq!(raw_status(&office, method, "/api/security/health").await, 401, "{method}");
    }
}

/// the path as it is written, without a client's tidying
async fn raw_status(office: &Office, method: &str, path: &str) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(office.address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        office.address
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn with_a_credential_unknown_paths_are_404_and_wrong_methods_405() {
    let office = Office::open().await;
    office.admin().get("/nothing").await.fails_with(404);
    office.admin().asks(Method::GET, "/anything", |request| request).await.fails_with(404);
    office
        .admin()
        .asks(Method::DELETE, "/api/security/blocks", |request| request.header("Content-Type", "application/json"))
        .await
        .fails_with(405);
}

#[tokio::test]
async fn without_any_configured_credential_only_the_health_word_answers() {
    let office = Office::builder().without_credential().start().await;
    assert_eq!(office.stranger().get("/health").await.json(), json!({ "status": "healthy" }));
    for visitor in
        [office.stranger(), office.admin(), office.visitor("", ""), office.bearer(json!({ "role": "admin" }))]
    {
        visitor.get("/metrics").await.fails_with(401);
    }
}

#[tokio::test]
async fn r08_only_the_management_issuers_tokens_open_and_by_role() {
    let office = Office::builder().with_tokens().start().await;
    let block = json!({ "ip": "192.0.2.66", "reason": "test" });
    office.bearer(json!({ "role": "admin" })).post("/block-ip", block.clone()).await.data();
    let viewer = office.bearer(json!({ "role": ["viewer"] }));
    viewer.get("/blocks").await.data();
    let refused = viewer.post("/block-ip", block.clone()).await.fails_with(403);
    assert!(refused["detail"].as_str().unwrap().contains("`blocks:write`"), "{refused}");
    office.bearer(json!({ "role": "member" })).get("/blocks").await.fails_with(403);
    office.bearer(json!({})).get("/blocks").await.fails_with(403);
    office.bearer(json!({ "role": "admin", "iss": "shop" })).get("/blocks").await.fails_with(401);
    office.bearer(json!({ "role": "admin", "aud": "chat" })).get("/blocks").await.fails_with(401);
    office.bearer(json!({ "role": "admin", "exp": 1 })).get("/blocks").await.fails_with(401);
    let recorded = office.audited("eventType=IP_BLOCKED", 1).await;
    assert_eq!(recorded[0]["metadata"]["actor"], "token:carol");
    let turned_away = office.audited("eventType=ADMIN_LOGIN&severity=medium", 4).await;
    let of_account = |name| turned_away.iter().filter(|login| login["metadata"]["account"] == name).count();
    let counts = (of_account(""), of_account("token:carol"));
    assert_eq!(counts, (3, 1), "of other issuers and expired, and without a role: once an hour");
    let refused = office.audited("eventType=ADMIN_ACTION&severity=medium", 1).await.remove(0);
    let because = "this needs the scope `blocks:write`, which token:carol does not have";
    let expected =
        json!({ "actor": "token:carol", "method": "POST", "path": "/api/security/block-ip", "because": because });
    assert_eq!(refused["metadata"], expected);
}

#[tokio::test]
async fn a_revoked_token_of_the_management_issuer_opens_nothing() {
    let office = Office::builder().with_tokens().start().await;
    let issued = START.as_millis() / 1000 - 60;
    let of = |user: &str, jti: &str| office.bearer(json!({ "role": "viewer", "iat": issued, "sub": user, "jti": jti }));
    let (carol, dave) = (of("carol", "t-1"), of("dave", "t-2"));
    for (revoked, visitor) in [(json!({ "jti": "t-1" }), &carol), (json!({ "userId": "dave" }), &dave)] {
        visitor.get("/blocks").await.data();
        office.admin().post("/revoke", revoked).await.data();
        eventually("it is known", async || (visitor.get("/blocks").await.status == 401).then_some(())).await;
    }
    of("erin", "t-3").get("/blocks").await.data();
}

#[tokio::test]
async fn an_api_key_opens_what_its_scopes_say_and_acts_under_its_name() {
    let [blocker, reader, setter] = std::array::from_fn(|_| api_keys::generate());
    let office = Office::builder()
        .with_key("fail2ban", &blocker, &[Scope::BlocksWrite])
        .with_key("siem", &reader, &[Scope::AuditRead, Scope::MetricsRead])
        .with_key("gitops", &setter, &[Scope::ConfigWrite])
        .start()
        .await;
    let block = json!({ "ip": "192.0.2.66", "reason": "test" });
    let (blocker, reader) = (office.with_key(&blocker), office.with_key(&reader));
    blocker.post("/block-ip", block.clone()).await.data();
    reader.get("/audit-logs").await.data();
    for (refused, scope) in [
        (blocker.get("/blocks").await, "blocks:read"),
        (blocker.put("/config", json!({})).await, "config:write"),
        (blocker.get("/audit-logs").await, "audit:read"),
        (reader.post("/block-ip", block).await, "blocks:write"),
        (reader.get("/config").await, "config:read"),
    ] {
        let problem = refused.fails_with(403);
        assert!(problem["detail"].as_str().unwrap().contains(&format!("the scope `{scope}`")), "{problem}");
    }
    let setter = office.with_key(&setter);
    setter.put("/config", json!({ "validation": { "maxDepth": 40 } })).await.data();
    assert_eq!(setter.get("/config").await.data()["policy"]["validation"]["maxDepth"], 40);
    assert!(reader.get("/health").await.json()["nodes"].is_array());
    assert_eq!(blocker.get("/health").await.json(), json!({ "status": "healthy" }), "the word, without metrics:read");
    assert_eq!(office.audited("eventType=IP_BLOCKED", 1).await[0]["metadata"]["actor"], "api-key:fail2ban");
    let refused = office.audited("eventType=ADMIN_ACTION&severity=medium", 5).await;
    assert!(refused.iter().any(|record| record["metadata"]["actor"] == "api-key:siem"), "{refused:?}");

    let stranger = office.with_key(&api_keys::generate());
    stranger.get("/audit-logs").await.fails_with(401);
    office.audited("eventType=ADMIN_LOGIN&severity=medium", 1).await;
}

#[tokio::test]
async fn who_comes_in_by_key_or_token_is_on_record_once_an_hour_under_a_name_of_its_own_kind() {
    let key = api_keys::generate();
    let office = Office::builder().with_tokens().with_key("siem", &key, &[Scope::BlocksRead]).start().await;
    let forger = office.bearer(json!({ "role": "admin", "sub": "api-key:siem" }));
    let carol = office.bearer(json!({ "role": "viewer" }));
    for _ in 0..3 {
        office.with_key(&key).get("/blocks").await.data();
        forger.get("/blocks").await.data();
        carol.get("/blocks").await.data();
    }
    let logins = office.audited("eventType=ADMIN_LOGIN", 4).await;
    let mut told: Vec<_> = logins
        .iter()
        .map(|record| ["account", "proof", "outcome"].map(|key| record["metadata"][key].as_str().unwrap()))
        .collect();
    told.sort();
    let accepted = |account, proof| [account, proof, "accepted"];
    let expected = [
        accepted("api-key:siem", "apiKey"),
        accepted("token:api-key:siem", "token"),
        accepted("token:carol", "token"),
        accepted(ADMIN, "password"),
    ];
    assert_eq!(told, expected);

    office.clock.advance(Duration::from_secs(3600));
    office.with_key(&key).get("/blocks").await.data();
    let again = office.audited("eventType=ADMIN_LOGIN&text=apiKey", 2).await;
    assert_eq!(again.len(), 2);
}

#[tokio::test]
async fn each_login_for_a_session_is_on_record() {
    let office = Office::open().await;
    for _ in 0..3 {
        office.stranger().post("/login", json!({ "username": ADMIN, "password": PASSWORD })).await.data();
    }
    office.audited("eventType=ADMIN_LOGIN", 3).await;
}

#[tokio::test]
async fn who_reads_the_trail_is_on_record_and_each_export_with_what_it_asked_for() {
    let key = api_keys::generate();
    let office = Office::builder().with_key("siem", &key, &[Scope::AuditRead, Scope::ConfigRead]).start().await;
    office.refuses(Reason::TokenInvalid, "192.0.2.1");
    let id = office.audited("ip=192.0.2.1", 1).await[0]["id"].as_str().unwrap().to_owned();
    let reader = office.with_key(&key);
    for _ in 0..2 {
        reader.get("/audit-logs?userId=alice").await.data();
        reader.get(&format!("/audit-logs/{id}/explanation")).await.data();
        reader.get("/report").await.data();
        reader.get("/dashboard").await.data();
        reader.post("/config/what-if", json!({})).await.data();
        reader.get("/audit-logs/nothing/explanation").await.fails_with(404);
        reader.get("/audit-logs/export?format=csv&userId=alice&ip=192.0.2.0/24").await;
    }
    reader.get("/config").await;
    reader.get("/audit-logs/export?format=xml").await.fails_with(422);

    let read = office.audited("eventType=ADMIN_ACTION&text=audit%20trail%20read", 6).await;
    let of_reader = |record: &&Value| record["metadata"]["actor"] == "api-key:siem";
    let mut paths: Vec<_> =
        read.iter().filter(of_reader).map(|record| record["metadata"]["path"].as_str().unwrap()).collect();
    paths.sort();
    let expected = ["audit-logs", "audit-logs/{id}/explanation", "config/what-if", "dashboard", "report"];
    assert_eq!(paths, expected.map(|path| format!("/api/security/{path}")));
    assert!(!read.iter().any(|record| record.to_string().contains("alice")), "{read:?}");

    let exports = office.audited("eventType=ADMIN_ACTION&text=audit%20trail%20exported", 2).await;
    assert_eq!(exports.len(), 2);
    let expected = json!({
        "actor": "api-key:siem", "method": "GET", "path": "/api/security/audit-logs/export", "format": "csv",
        "filter": { "userId": "alice", "ip": "192.0.2.0/24" },
    });
    assert_eq!(exports[0]["metadata"], expected);
    office.admin().delete("/subjects/alice").await.data();
    let left = office.admin().get("/audit-logs/export").await.text;
    assert!(!left.contains("alice"), "what an export asked for is erased with the person: {left}");
}

#[tokio::test]
async fn r08_a_change_needs_json_and_the_same_origin_and_nothing_is_shared_across_origins() {
    let office = Office::open().await;
    let admin = office.admin();
    let body = r#"{"ip":"192.0.2.66","reason":"forged"}"#;
    let path = "/api/security/block-ip";
    for kind in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data"),
        Some("application/jsonx"),
    ] {
        let reply = admin.asks(Method::POST, path, |request| match kind {
            Some(kind) => request.header("Content-Type", kind).body(body),
            None => request.body(body),
        });
        reply.await.fails_with(415);
    }
    for origin in ["https://evil.example", "null", &format!("http://{}.evil.example", office.address)] {
        let reply = admin
            .asks(Method::POST, path, |request| {
                request.header("Content-Type", "application/json").header("Origin", origin).body(body)
            })
            .await;
        reply.fails_with(403);
        assert!(!reply.headers.contains_key("access-control-allow-origin"), "{:?}", reply.headers);
    }
    assert_eq!(admin.get("/blocks").await.data()["total"], 0);
    let tried = office.audited("eventType=ADMIN_ACTION&text=from this origin only", 3).await;
    assert!(tried.iter().all(|record| record["metadata"]["actor"] == ADMIN), "{tried:?}");
    let own = format!("http://{}", office.address);
    let reply = admin.asks(Method::POST, path, |request| {
        request.header("Content-Type", "application/json; charset=utf-8").header("Origin", own).body(body)
    });
    reply.await.data();
    let read = admin
        .asks(Method::GET, "/api/security/metrics", |request| request.header("Origin", "https://evil.example"))
        .await;
    assert!(!read.headers.contains_key("access-control-allow-origin"), "{:?}", read.headers);
}

#[tokio::test]
async fn r09_guessing_is_slowed_for_the_guesser_alone_and_recorded_without_the_guess() {
    let office = Office::builder().behind("127.0.0.1/32").start().await;
    let guesser = |password: &str| office.visitor(ADMIN, password).from("198.51.100.66");
    for n in 0..10 {
        guesser(&format!("guess-{n}")).get("/metrics").await.fails_with(401);
    }
    let slowed = guesser(PASSWORD).get("/metrics").await;
    slowed.fails_with(429);
    assert_eq!(slowed.header("retry-after"), "60");
    office.visitor("other", "guess").from("198.51.100.66").get("/metrics").await.fails_with(429);
    office.admin().from("198.51.100.7").get("/metrics").await.data();
    office.admin().get("/metrics").await.data();

    office.clock.advance(Duration::from_secs(61));
    guesser(PASSWORD).get("/metrics").await.data();
    let failed = office.audited("eventType=ADMIN_LOGIN&severity=medium&ip=198.51.100.66", 10).await;
    assert_eq!(failed.len(), 10);
    assert!(
        failed.iter().all(|record| record["metadata"]["account"] == ADMIN && !record.to_string().contains("guess")),
        "{failed:?}"
    );
}

#[tokio::test]
async fn r09_guessing_keys_is_slowed_and_no_key_is_on_the_record() {
    let key = api_keys::generate();
    let office = Office::builder().with_key("siem", &key, &[Scope::AuditRead]).start().await;
    let guesses: Vec<_> = (0..10).map(|_| api_keys::generate()).collect();
    for guess in &guesses {
        office.with_key(guess).get("/audit-logs").await.fails_with(401);
    }
    office.with_key(&key).get("/audit-logs").await.fails_with(429);
    office.clock.advance(Duration::from_secs(61));
    let trail = office.with_key(&key).get("/audit-logs").await.text;
    for key in guesses.iter().chain([&key]) {
        assert!(!trail.contains(key.expose()) && !trail.contains(&api_keys::hash(key)), "{trail}");
    }
}

#[tokio::test]
async fn r09_guesses_at_once_are_counted_like_guesses_one_after_the_other() {
    let office = Office::open().await;
    let guesses = (0..40).map(|n| {
        let office = &office;
        async move { office.visitor(ADMIN, &format!("guess-{n}")).get("/metrics").await.status }
    });
    let answers = futures_util::future::join_all(guesses).await;
    assert_eq!(answers.iter().filter(|status| **status == 401).count(), 10, "{answers:?}");
    assert_eq!(answers.iter().filter(|status| **status == 429).count(), 30, "{answers:?}");
}

#[tokio::test]
async fn r09_guesses_at_one_account_from_many_addresses_slow_that_account_down_and_lock_nobody_out() {
    const GUESSERS: [&str; FAILURES_MAX] = [
        "198.51.100.1",
        "198.51.100.2",
        "198.51.100.3",
        "198.51.100.4",
        "198.51.100.5",
        "198.51.100.6",
        "198.51.100.7",
        "198.51.100.8",
        "198.51.100.9",
        "198.51.100.10",
    ];
    let office = Office::builder().behind("127.0.0.1/32").start().await;
    let waits = async |visitor: Visitor<'_>| {
        let start = tokio::time::Instant::now();
        let status = visitor.get("/metrics").await.status;
        (status, start.elapsed() >= ACCOUNT_DELAY)
    };
    for guesser in GUESSERS {
        assert_eq!(waits(office.visitor(ADMIN, "guess").from(guesser)).await, (401, false), "{guesser}");
    }
    assert_eq!(waits(office.visitor(ADMIN, "guess").from("198.51.100.11")).await, (401, true), "whoever guesses next");
    assert_eq!(waits(office.visitor("other", "guess").from("198.51.100.12")).await, (401, false), "another account");
    // The administrator is held up once, and gets in.
    let admin = || office.admin().from("203.0.113.7");
    assert_eq!(waits(admin()).await, (200, true));
    assert_eq!(waits(admin()).await, (200, false), "what was right before");

    office.clock.advance(Duration::from_secs(61));
    assert_eq!(waits(office.visitor(ADMIN, "guess").from("198.51.100.11")).await, (401, false), "a minute later");
}

#[tokio::test]
async fn many_requests_at_once_with_the_right_password_all_get_in() {
    let office = Office::open().await;
    let admin = office.admin();
    let answers = futures_util::future::join_all((0..40).map(|_| admin.get("/metrics"))).await;
    assert!(answers.iter().all(|reply| reply.status == 200));
    assert!(
        office.audited("eventType=ADMIN_LOGIN", 1).await.len() <= 2,
        "one login for each that was verified at once"
    );
}

#[tokio::test]
async fn h19_what_a_caller_wrote_before_its_proxy_does_not_make_it_the_proxy() {
    let office = Office::builder().behind("127.0.0.1/32").start().await;
    let guesser = office.visitor(ADMIN, "guess");
    for told in [b"\xff, 198.51.100.66".as_slice(), b"198.51.100.66:4711"] {
        let told = http::HeaderValue::from_bytes(told).unwrap();
        guesser
            .asks(Method::GET, "/api/security/metrics", |request| request.header("X-Forwarded-For", told))
            .await
            .fails_with(401);
    }
    assert_eq!(office.audited("eventType=ADMIN_LOGIN&ip=198.51.100.66", 2).await.len(), 2);
}

#[tokio::test]
async fn a_user_is_found_and_erased_by_the_id_that_the_application_knows_and_nul_is_a_mistake() {
    let office = Office::open().await;
    let id = "eve\u{1b}[31m\u{202e}";
    let record = AuditRecord::refusal(Reason::TokenInvalid, "192.0.2.7".parse().unwrap(), office.clock.now());
    office.hears(AuditRecord { user_id: Some(printable(id, IDENTIFIER_BYTES_MAX)), ..record });
    let named = "eve%1B%5B31m%E2%80%AE";
    office.audited(&format!("userId={named}"), 1).await;
    let erased = office.admin().delete(&format!("/subjects/{named}")).await.data();
    assert_eq!((&erased["records"], &erased["complete"]), (&json!(1), &json!(true)));

    for parameter in ["userId", "socketId", "text"] {
        assert_eq!(office.admin().get(&format!("/audit-logs?{parameter}=a%00b")).await.mistakes(), [parameter]);
    }
    assert_eq!(office.admin().delete("/subjects/a%00b").await.mistakes(), ["userId"]);
    for field in ["jti", "userId"] {
        assert_eq!(office.admin().post("/revoke", json!({ field: "a\0b" })).await.mistakes(), [field]);
    }
    assert_eq!(office.admin().get("/audit-logs/a%00b/explanation").await.mistakes(), ["id"]);
}

#[tokio::test]
async fn every_answer_has_the_security_headers() {
    let office = Office::open().await;
    for reply in [
        office.stranger().get("/health").await,
        office.stranger().get("/x").await,
        office.admin().get("/metrics").await,
        office.admin().get("/x").await,
    ] {
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert_eq!(reply.header("cache-control"), "no-store");
        assert_eq!(reply.header("referrer-policy"), "no-referrer");
        assert!(reply.header("content-security-policy").contains("default-src 'none'"));
        assert!(reply.header("content-security-policy").contains("frame-ancestors 'none'"));
    }
    assert!(office.stranger().get("/metrics").await.header("www-authenticate").starts_with("Basic"));
}

#[tokio::test]
async fn r13_the_listener_is_loopback_by_default() {
    assert!(crate::config::CoordinatorConfig::default().listen.ip().is_loopback());
}

#[tokio::test]
async fn what_is_too_large_or_not_json_is_refused() {
    let office = Office::open().await;
    let admin = office.admin();
    for (body, status) in [
        (vec![b' '; 1024 * 1024 + 1], 413),
        (b"{".to_vec(), 400),
        (b"".to_vec(), 400),
        (vec![b'['; 100_000], 400),
        (b"\xff".to_vec(), 400),
        (b"[]".to_vec(), 422),
    ] {
        let reply = admin.asks(Method::POST, "/api/security/block-ip", |request| {
            request.header("Content-Type", "application/json").body(body)
        });
        reply.await.fails_with(status);
    }
}
