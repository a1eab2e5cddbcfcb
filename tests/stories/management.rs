//! The management API: who may ask, what it counts, what it remembers, what it reports.

use std::collections::HashSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Picket, Reply, Token, Upstream, Wire, issuer, within};

#[tokio::test]
async fn the_metrics_count_connections_and_refusals_over_all_nodes_and_per_node() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream)
        .issuer(issuer())
        .policy(json!({ "rateLimiting": { "burstLimit": { "maxEvents": 1, "windowMs": 60_000 } } }))
        .start()
        .await;
    let mut alice = picket.caller("198.51.100.7").bearing(&Token::of("alice").signed()).comes_in().await;
    let _guest = picket.caller("198.51.100.8").comes_in().await;
    picket.caller("198.51.100.9").comes_in().await.leaves().await;
    picket
        .caller("198.51.100.9")
        .origin("https://evil.example")
        .connects()
        .await
        .refused_with(403, "origin_not_allowed");
    alice.sends(json!({ "type": "chat:say" })).await;
    alice.sends(json!({ "type": "chat:say" })).await;
    alice.is_refused("burst").await;

    let metrics = picket
        .admin()
        .counts("two open connections of three", |metrics| {
            metrics["totalConnections"].as_u64() >= Some(3)
                && metrics["activeConnections"] == 2
                && metrics["anonymousConnections"] == 1
                && metrics["authenticatedConnections"] == 1
                && metrics["blockedAttempts"].as_u64() >= Some(1)
                && metrics["rateLimitViolations"].as_u64() >= Some(1)
        })
        .await;
    assert!(
        metrics["suspiciousActivities"].is_u64()
            && metrics["payloadViolations"].is_u64()
            && metrics["lastUpdated"].is_string(),
        "{metrics}"
    );
    assert!(metrics["nodes"].to_string().contains("edge-1"), "{metrics}");
}

#[tokio::test]
async fn the_audit_log_is_filtered_and_read_page_by_page() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).issuer(issuer()).start().await;
    let admin = picket.admin();
    for host in 1..=7 {
        picket
            .caller(&format!("203.0.113.{host}"))
            .origin("https://evil.example")
            .connects()
            .await
            .refused_with(403, "origin_not_allowed");
    }
    picket.caller("198.51.100.7").bearing("nonsense").connects().await.refused_with(401, "token_invalid");
    let all = admin.audited("eventType=INVALID_ORIGIN", 7).await;
    admin.audited("eventType=AUTHENTICATION_FAILURE", 1).await;
    assert_eq!(all.len(), 7);

    let times: Vec<_> = all.iter().map(|record| record["timestamp"].as_str().unwrap().to_owned()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "newest first: {times:?}");
    assert!(times.iter().all(|time| time.ends_with('Z')), "UTC: {times:?}");

    let mut ids = HashSet::new();
    let mut sizes = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = admin.get(&format!("/audit-logs?eventType=INVALID_ORIGIN&limit=3{cursor}")).await.data();
        let logs = page["logs"].as_array().unwrap();
        sizes.push(logs.len());
        ids.extend(logs.iter().map(|record| record["id"].to_string()));
        assert!(page["total"].is_u64() && page["totalIsLowerBound"].is_boolean(), "{page}");
        match page["nextCursor"].as_str() {
            Some(next) if sizes.len() < 5 => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    assert_eq!(ids.len(), 7, "every record once: {ids:?}");
    assert_eq!(sizes.iter().filter(|size| **size > 0).copied().collect::<Vec<_>>(), [3, 3, 1]);

    assert_eq!(admin.audit("ip=203.0.113.4&eventType=INVALID_ORIGIN").await.len(), 1);
    assert!(admin.audit("severity=high&ip=203.0.113.4").await.iter().all(|record| record["severity"] == "high"));
    assert_eq!(admin.audit("severity=medium&eventType=INVALID_ORIGIN").await.len(), 0);
    assert_eq!(admin.audit("text=token_invalid&ip=198.51.100.7").await.len(), 1);
    assert_eq!(admin.audit("eventType=INVALID_ORIGIN&until=2020-01-01T00:00:00Z").await.len(), 0);
    assert_eq!(admin.audit("eventType=INVALID_ORIGIN&since=2020-01-01T00:00:00Z").await.len(), 7);
    assert_eq!(admin.audit("eventType=INVALID_ORIGIN&since=2120-01-01T00:00:00Z").await.len(), 0);

    for wrong in
        ["limit=0", "limit=1001", "limit=x", "eventType=NONSENSE", "severity=awful", "since=yesterday", "cursor=!!"]
    {
        let reply = admin.get(&format!("/audit-logs?{wrong}")).await;
        assert!(reply.status == 400 || reply.status == 422, "{wrong}: {} {}", reply.status, reply.text);
    }
}

#[tokio::test]
async fn a_users_records_are_found_by_user_and_by_socket() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream)
        .issuer(issuer())
        .policy(json!({ "validation": { "allowedEventTypes": ["chat:*"] } }))
        .start()
        .await;
    let admin = picket.admin();
    let mut alice = picket.caller("198.51.100.7").bearing(&Token::of("alice").signed()).comes_in().await;
    alice.sends(json!({ "type": "admin:drop" })).await;
    alice.is_refused("unknown_event").await;

    let record = admin.audited("userId=alice&eventType=UNAUTHORIZED_EVENT", 1).await.remove(0);
    let socket = record["socketId"].as_str().unwrap();
    assert_eq!(upstream.requests()[0].first("x-picket-connection"), Some(socket), "{record}");
    assert_eq!(admin.audit(&format!("socketId={socket}&eventType=UNAUTHORIZED_EVENT")).await.len(), 1);
    assert_eq!(admin.audit("userId=bob").await.len(), 0);

    let id = record["id"].as_str().map_or_else(|| record["id"].to_string(), str::to_owned);
    let explanation = admin.get(&format!("/audit-logs/{id}/explanation")).await;
    explanation.succeeds();
    assert!(explanation.text.contains("edge-1"), "{}", explanation.text);
}

#[tokio::test]
async fn the_audit_log_is_exported_as_lines_and_as_a_table() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let admin = picket.admin();
    for host in 1..=3 {
        picket
            .caller(&format!("203.0.113.{host}"))
            .origin("https://evil.example")
            .connects()
            .await
            .refused_with(403, "origin_not_allowed");
    }
    admin.audited("eventType=INVALID_ORIGIN", 3).await;

    let lines = admin.get("/audit-logs/export?format=ndjson&eventType=INVALID_ORIGIN").await;
    assert_eq!(lines.status, 200, "{}", lines.text);
    let records: Vec<Value> = lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 3, "{}", lines.text);
    assert!(records.iter().all(|record| record["eventType"] == "INVALID_ORIGIN"), "{}", lines.text);

    let table = admin.get("/audit-logs/export?format=csv&eventType=INVALID_ORIGIN").await;
    assert!(table.content_type().starts_with("text/csv"), "{}", table.content_type());
    assert_eq!(table.text.lines().count(), 4, "a head and three rows: {}", table.text);
    assert_ne!(admin.get("/audit-logs/export?format=xml").await.status, 200);
}

#[tokio::test]
async fn the_dashboard_data_shows_what_happens() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let admin = picket.admin();
    for host in [4, 4, 4, 5] {
        picket
            .caller(&format!("203.0.113.{host}"))
            .origin("https://evil.example")
            .connects()
            .await
            .refused_with(403, "origin_not_allowed");
    }
    admin.audited("eventType=INVALID_ORIGIN", 2).await;

    let dashboard = admin.get("/dashboard").await.data();
    assert!(dashboard["metrics"]["activeConnections"].is_u64(), "{dashboard}");
    assert!(dashboard["recentLogs"].as_array().is_some_and(|logs| !logs.is_empty()), "{dashboard}");
    let analytics = &dashboard["analytics"];
    assert!(analytics["eventCounts"]["INVALID_ORIGIN"].as_u64() >= Some(2), "{analytics}");
    assert!(analytics["severityCounts"]["high"].as_u64() >= Some(2), "{analytics}");
    assert!(analytics["totalEvents24h"].as_u64() >= Some(2), "{analytics}");
    assert!(analytics["topIPs"].to_string().contains("203.0.113.4"), "{analytics}");
}

#[tokio::test]
async fn a_report_comes_as_json_csv_and_html() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let admin = picket.admin();
    picket
        .caller("203.0.113.4")
        .origin("https://evil.example")
        .connects()
        .await
        .refused_with(403, "origin_not_allowed");
    admin.audited("eventType=INVALID_ORIGIN", 1).await;

    for period in ["1h", "24h", "7d", "30d"] {
        let report = admin.get(&format!("/report?period={period}&format=json")).await;
        report.succeeds();
        assert!(report.text.contains("INVALID_ORIGIN"), "{period}: {}", report.text);
    }
    admin.get("/report?period=24h").await.succeeds();
    admin.get("/report?since=2020-01-01T00:00:00Z&until=2120-01-01T00:00:00Z&format=json").await.succeeds();

    let csv = admin.get("/report?period=24h&format=csv").await;
    assert_eq!((csv.status, csv.content_type().split(';').next()), (200, Some("text/csv")), "{}", csv.text);
    assert!(csv.text.contains("INVALID_ORIGIN"), "{}", csv.text);
    let html = admin.get("/report?period=24h&format=html").await;
    assert_eq!((html.status, html.content_type().split(';').next()), (200, Some("text/html")), "{}", html.text);
    assert!(html.text.contains("<html") && html.text.contains("INVALID_ORIGIN"), "{}", html.text);

    for wrong in ["period=1y", "period=24h&format=pdf"] {
        let reply = admin.get(&format!("/report?{wrong}")).await;
        assert!(reply.status == 400 || reply.status == 422, "{wrong}: {} {}", reply.status, reply.text);
    }
}

#[tokio::test]
async fn health_is_public_in_a_word_and_whole_for_the_administrator() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;

    let public = picket.stranger().get("/health").await;
    assert_eq!(public.status, 200, "{}", public.text);
    assert_eq!(public.json()["status"], "healthy", "{}", public.text);
    assert!(!public.text.contains("edge-1"), "a stranger learns the status alone: {}", public.text);

    let whole = picket.admin().get("/health").await.json();
    assert_eq!(whole["status"], "healthy", "{whole}");
    assert_eq!(whole["issues"], json!([]), "{whole}");
    assert!(
        whole["metrics"].is_object() && whole["state"] != Value::Null && whole["nodes"].to_string().contains("edge-1"),
        "{whole}"
    );
}

#[tokio::test]
async fn the_nodes_are_listed_with_their_policy_version() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;

    let data = picket.admin().get("/nodes").await.data();
    let node = &data["nodes"][0];
    assert_eq!(node["id"], "edge-1", "{data}");
    for field in ["version", "mode", "policyVersion", "connections", "lastSeen"] {
        assert_ne!(node[field], Value::Null, "{field}: {data}");
    }
    assert!(data["coordinators"].as_array().is_some_and(|coordinators| coordinators.len() == 1), "{data}");
}

#[tokio::test]
async fn the_api_opens_for_its_own_credential_only() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).issuer(issuer()).start().await;

    picket.stranger().get("/metrics").await.fails_with(401);
    picket.admin_with("warden", "a guess").get("/metrics").await.fails_with(401);
    picket.admin_with("alice", "a-long-password-of-the-stories").get("/metrics").await.fails_with(401);
    let application = Token::of("alice").role("admin").signed();
    picket.stranger().get_bearing("/metrics", &application).await.fails_with(401);
    picket.stranger().post("/block-ip", json!({ "ip": "203.0.113.66", "reason": "sabotage" })).await.fails_with(401);

    picket.admin().get("/metrics").await.succeeds();
    assert!(!picket.admin().lists_block("203.0.113.66").await);
}

#[tokio::test]
async fn guessing_the_password_is_slowed_for_the_guesser_alone() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let guesser = picket.admin_with("guest", "a guess");

    let answers = within("a 429 for the guesser", async {
        let mut answers = Vec::new();
        while answers.last() != Some(&429) && answers.len() < 40 {
            answers.push(guesser.get("/metrics").await.status);
        }
        answers
    })
    .await;

    assert_eq!(answers.last(), Some(&429), "{answers:?}");
    assert!(answers.len() <= 21 && answers[..answers.len() - 1].iter().all(|status| *status == 401), "{answers:?}");
}

#[tokio::test]
async fn a_write_needs_json_and_the_same_origin_and_reads_are_not_shared_across_origins() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let admin = picket.admin();
    let body = r#"{"ip":"203.0.113.66","reason":"forged"}"#;

    let form =
        admin.asks(Method::POST, "/block-ip", |request| request.header("Content-Type", "text/plain").body(body)).await;
    assert_eq!(form.status, 415, "{}", form.text);
    let foreign = admin
        .asks(Method::POST, "/block-ip", |request| {
            request.header("Content-Type", "application/json").header("Origin", "https://evil.example").body(body)
        })
        .await;
    assert_eq!(foreign.status, 403, "{}", foreign.text);
    let read = admin.asks(Method::GET, "/metrics", |request| request.header("Origin", "https://evil.example")).await;
    assert!(!read.headers.contains_key("access-control-allow-origin"), "{:?}", read.headers);
    assert!(!admin.lists_block("203.0.113.66").await);
}

#[tokio::test]
async fn r13_management_is_not_on_the_data_port() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let gateway = picket.gateway();

    for path in [
        "/api/security/metrics",
        "/api/security/health",
        "/api/security/config",
        "/metrics",
        "/livez",
        "/readyz",
        "/ws/../api/security/metrics",
    ] {
        let mut wire = Wire::to(gateway).await;
        let credential = "d2FyZGVuOmEtbG9uZy1wYXNzd29yZC1vZi10aGUtc3Rvcmllcw==";
        wire.writes(format!(
            "GET {path} HTTP/1.1\r\nHost: {gateway}\r\nAuthorization: Basic {credential}\r\nConnection: close\r\n\r\n"
        ))
        .await;
        let status = wire.response().await.head.status();
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    upstream.saw_no_request();
    assert!(picket.address("management").ip().is_loopback());
    assert_ne!(picket.address("management"), gateway);
}

#[tokio::test]
async fn r14_no_spelling_of_a_path_walks_around_the_login() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let management = picket.address("management");
    let version = picket.admin().policy_version().await;

    for target in [
        "/api/security/metrics",
        "/api/security/config",
        "/api/security//metrics",
        "//api/security/metrics",
        "/api/security/metrics/",
        "/api/security/./metrics",
        "/api/security/health/../metrics",
        "/api/security/health/..%2fmetrics",
        "/api/security/health%2f..%2fmetrics",
        "/api/security/%6detrics",
        "/api/security/metrics%00",
        "/api/security/metrics;x=health",
        "/api/security/metrics?/api/security/health",
        "/API/Security/Metrics",
        "/api/security/audit-logs",
        "/api/security/stream",
        "/api/security/nodes",
        "/api/security/blocks",
        "/api/security/report?period=24h",
        "/api/security/dashboard",
    ] {
        for method in ["GET", "HEAD"] {
            let mut wire = Wire::to(management).await;
            wire.writes(format!("{method} {target} HTTP/1.1\r\nHost: {management}\r\nX-Original-URL: /api/security/health\r\nConnection: close\r\n\r\n")).await;
            let head = wire.head().await.unwrap();
            assert!(head.status() >= 300, "{method} {target}: {head:?}");
            let rest = String::from_utf8_lossy(&wire.rest().await).into_owned();
            assert!(
                !rest.contains("activeConnections") && !rest.contains("allowedOrigins"),
                "{method} {target}: {rest}"
            );
        }
    }
    let mut wire = Wire::to(management).await;
    let body = r#"{"validation":{"maxDepth":1}}"#;
    wire.writes(format!(
        "PUT /api/security/health/../config HTTP/1.1\r\nHost: {management}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ))
    .await;
    assert!(wire.response().await.head.status() >= 300);
    assert_eq!(picket.admin().policy_version().await, version);
}

#[tokio::test]
async fn the_dashboard_page_is_served_without_inline_scripts() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;

    let page = Reply::from(&format!("http://{}/", picket.address("management"))).await;
    assert_eq!((page.status, page.content_type().split(';').next()), (200, Some("text/html")), "{}", page.text);
    let policy = page.headers.get("content-security-policy").and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe-inline"), "{policy:?}");
}
