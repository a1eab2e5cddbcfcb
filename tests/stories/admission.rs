//! Who comes in: origins, connection rates, concurrent connections, the anonymous.

use serde_json::json;

use crate::harness::{HOME, Picket, Token, Upstream, issuer};

#[tokio::test]
async fn an_allowed_origin_comes_in_and_a_foreign_one_does_not() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;

    let mut alice = picket.caller("198.51.100.7").origin(HOME).comes_in().await;
    alice.is_still_served().await;
    picket
        .caller("198.51.100.8")
        .origin("https://evil.example")
        .connects()
        .await
        .refused_with(403, "origin_not_allowed");

    assert_eq!(upstream.requests().len(), 1);
    let record = picket.admin().audited("eventType=INVALID_ORIGIN", 1).await.remove(0);
    assert_eq!(record["ip"], "198.51.100.8", "{record}");
    assert_eq!(record["severity"], "high", "{record}");
    assert_eq!(record["reason"], "origin_not_allowed", "{record}");
    assert_eq!(record["node"], "edge-1", "{record}");
}

#[tokio::test]
async fn h01_a_foreign_site_with_the_users_cookies_gets_403_before_any_upstream_contact() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;

    let hijacked = picket.caller("198.51.100.7").origin("https://evil.example").header("Cookie", "session=of-alice");
    hijacked.connects().await.refused_with(403, "origin_not_allowed");

    picket.admin().audited("eventType=INVALID_ORIGIN&ip=198.51.100.7", 1).await;
    upstream.saw_no_request();
}

#[tokio::test]
async fn h02_an_origin_that_only_looks_like_an_allowed_one_is_403() {
    let upstream = Upstream::echo().await;
    let allowed = json!({ "cors": { "allowedOrigins": [HOME, "https://*.example.org"] } });
    let picket = Picket::guarding(&upstream).policy(allowed).start().await;

    for origin in [
        "https://app.example.com.evil.example",
        "https://evilapp.example.com",
        "https://evil-app.example.com",
        "https://xapp.example.com",
        "https://appXexample.com",
        "null",
        "https://app.example.com:8443",
        "http://app.example.com",
        "http://app.example.com:443",
        "wss://app.example.com",
        "https://app.example.com@evil.example",
        "https://user@app.example.com",
        "https://evil.example#https://app.example.com",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://app.example.com.",
        "https://app.example.com, https://evil.example",
        "https://app.example.com https://evil.example",
        "https://\u{430}pp.example.com",
        "https://xn--pp-6kc.example.com",
        "https://app\u{3002}example.com",
        "https://evilexample.org",
        "https://a.example.org.evil.example",
        "https://a.example.org:8443",
        "https://*.example.org",
        "https://example.com",
        "app.example.com",
        "",
    ] {
        let outcome = picket.caller("198.51.100.7").origin(origin).connects().await;
        assert_eq!(outcome.refused().head.status(), 403, "{origin:?}");
    }
    upstream.saw_no_request();

    for origin in [HOME, "https://app.example.com:443", "HTTPS://App.Example.COM", "https://chat.example.org"] {
        let mut caller = picket.caller("198.51.100.8").origin(origin).comes_in().await;
        caller.is_still_served().await;
    }
}

#[tokio::test]
async fn h03_a_missing_origin_is_403_in_production_unless_it_is_allowed() {
    let upstream = Upstream::echo().await;
    let strict = Picket::guarding(&upstream).start().await;
    let nameless = strict.caller("198.51.100.7").without_origin().header("Cookie", "session=of-alice");
    nameless.connects().await.refused_with(403, "origin_not_allowed");
    upstream.saw_no_request();

    let lenient = Picket::guarding(&upstream).policy(json!({ "cors": { "allowMissingOrigin": true } })).start().await;
    lenient.caller("198.51.100.7").without_origin().comes_in().await;
    lenient
        .caller("198.51.100.7")
        .origin("https://evil.example")
        .connects()
        .await
        .refused_with(403, "origin_not_allowed");
}

#[tokio::test]
async fn h03_development_lets_in_localhost_and_programs_without_an_origin_but_no_foreign_site() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).with(json!({ "environment": "development" })).start().await;

    for origin in ["http://localhost:5173", "https://localhost", "http://localhost"] {
        picket.caller("198.51.100.7").origin(origin).comes_in().await;
    }
    picket.caller("198.51.100.7").without_origin().comes_in().await;
    for origin in ["https://evil.example", "http://localhost.evil.example", "http://evil-localhost:5173"] {
        picket.caller("198.51.100.8").origin(origin).connects().await.refused_with(403, "origin_not_allowed");
    }
}

#[tokio::test]
async fn production_does_not_let_in_localhost() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;

    picket
        .caller("198.51.100.7")
        .origin("http://localhost:5173")
        .connects()
        .await
        .refused_with(403, "origin_not_allowed");
    upstream.saw_no_request();
}

#[tokio::test]
async fn h29_the_connection_past_the_rate_is_429_with_retry_after_and_others_still_come_in() {
    let upstream = Upstream::echo().await;
    let limit = json!({ "rateLimiting": { "connectionLimit": { "maxConnections": 5, "windowMs": 60_000 } } });
    let picket = Picket::guarding(&upstream).policy(limit).start().await;

    for _ in 0..5 {
        picket.caller("198.51.100.7").comes_in().await.leaves().await;
    }
    picket.caller("198.51.100.7").connects().await.refused_with(429, "connection_rate").may_be_retried();

    picket.caller("198.51.100.8").comes_in().await;
    let record = picket.admin().audited("eventType=RATE_LIMIT_EXCEEDED", 1).await.remove(0);
    assert_eq!((&record["ip"], &record["severity"]), (&json!("198.51.100.7"), &json!("medium")), "{record}");
}

#[tokio::test]
async fn h29_failed_handshakes_have_a_limit_of_their_own() {
    let upstream = Upstream::echo().await;
    let limit = json!({ "rateLimiting": { "handshakeLimit": { "maxHandshakes": 5, "windowMs": 60_000 } } });
    let picket = Picket::guarding(&upstream).policy(limit).start().await;

    for _ in 0..5 {
        picket
            .caller("198.51.100.7")
            .origin("https://evil.example")
            .connects()
            .await
            .refused_with(403, "origin_not_allowed");
    }
    picket.caller("198.51.100.7").connects().await.refused_with(429, "too_many_handshakes").may_be_retried();

    upstream.saw_no_request();
    picket.caller("198.51.100.8").comes_in().await;
}

#[tokio::test]
async fn h29_a_place_is_given_back_when_its_holder_leaves() {
    let upstream = Upstream::echo().await;
    let limit = json!({ "rateLimiting": { "concurrentConnections": { "perAddress": 2, "perUser": 20 } } });
    let picket = Picket::guarding(&upstream).policy(limit).start().await;

    let first = picket.caller("198.51.100.7").comes_in().await;
    let _second = picket.caller("198.51.100.7").comes_in().await;
    picket.caller("198.51.100.7").connects().await.refused_with(429, "too_many_connections");

    first.leaves().await;
    picket.caller("198.51.100.7").comes_in_eventually().await;
}

#[tokio::test]
async fn h29_a_place_is_given_back_when_the_upstream_does_not_answer_101() {
    let upstream = Upstream::echo().await;
    let limit = json!({ "rateLimiting": { "concurrentConnections": { "perAddress": 1, "perUser": 20 } } });
    let picket = Picket::guarding(&upstream).policy(limit).start().await;

    upstream.breaks();
    for _ in 0..2 {
        assert_eq!(picket.caller("198.51.100.7").connects().await.refused().head.status(), 502);
    }

    upstream.recovers();
    picket.caller("198.51.100.7").comes_in().await;
}

#[tokio::test]
async fn a_user_has_so_many_places_whatever_the_address() {
    let upstream = Upstream::echo().await;
    let limit = json!({ "rateLimiting": { "concurrentConnections": { "perAddress": 100, "perUser": 2 } } });
    let picket = Picket::guarding(&upstream).issuer(issuer()).policy(limit).start().await;
    let alice = Token::of("alice").signed();

    let _desk = picket.caller("198.51.100.7").bearing(&alice).comes_in().await;
    let _phone = picket.caller("203.0.113.9").bearing(&alice).comes_in().await;
    picket.caller("192.0.2.4").bearing(&alice).connects().await.refused_with(429, "too_many_connections");

    picket.caller("192.0.2.4").bearing(&Token::of("bob").signed()).comes_in().await;
}

#[tokio::test]
async fn the_anonymous_past_their_cap_get_503_and_a_user_still_comes_in() {
    let upstream = Upstream::echo().await;
    let cap = json!({ "security": { "maxAnonymousConnections": 2 } });
    let picket = Picket::guarding(&upstream).issuer(issuer()).policy(cap).start().await;

    let _first = picket.caller("198.51.100.7").comes_in().await;
    let second = picket.caller("198.51.100.8").comes_in().await;
    picket.caller("198.51.100.9").connects().await.refused_with(503, "anonymous_limit").may_be_retried();
    picket.caller("198.51.100.9").bearing(&Token::of("alice").signed()).comes_in().await;

    second.leaves().await;
    picket.caller("198.51.100.10").comes_in_eventually().await;
}

#[tokio::test]
async fn one_address_gets_only_so_many_anonymous_places() {
    let upstream = Upstream::echo().await;
    let picket =
        Picket::guarding(&upstream).policy(json!({ "security": { "maxAnonymousPerAddress": 2 } })).start().await;

    let _first = picket.caller("198.51.100.7").comes_in().await;
    let _second = picket.caller("198.51.100.7").comes_in().await;
    picket.caller("198.51.100.7").connects().await.refused_with(503, "anonymous_limit");

    picket.caller("198.51.100.8").comes_in().await;
}

#[tokio::test]
async fn without_anonymous_access_a_login_is_required() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream)
        .issuer(issuer())
        .policy(json!({ "security": { "allowAnonymous": false } }))
        .start()
        .await;

    picket.caller("198.51.100.7").connects().await.refused_with(401, "login_required");
    upstream.saw_no_request();

    picket.caller("198.51.100.7").bearing(&Token::of("alice").signed()).comes_in().await;
}

#[tokio::test]
async fn where_browsers_should_hear_why_a_refused_upgrade_is_taken_and_closed() {
    let upstream = Upstream::echo().await;
    let route = json!({ "path": "/ws", "upstream": upstream.websocket_url("/ws"), "protocol": "json", "denyMode": "accept-then-close" });
    let picket = Picket::builder().route(route).issuer(issuer()).start().await;

    let foreign = picket.caller("198.51.100.8").origin("https://evil.example");
    foreign.comes_in().await.closes_with(1008, "origin_not_allowed").await;
    let forged = picket
        .caller("198.51.100.9")
        .bearing(&Token::of("alice").signed_with(b"the secret of somebody else, long enough"));
    forged.comes_in().await.closes_with(3000, "token_invalid").await;
    // Browsers end a connection that answers none of the subprotocols that they offered.
    let chooser = picket.caller("198.51.100.8").origin("https://evil.example");
    let mut chooser = chooser.header("Sec-WebSocket-Protocol", "chat.v2, chat.v1").comes_in().await;
    assert_eq!(chooser.answer.first("sec-websocket-protocol"), Some("chat.v2"));
    chooser.closes_with(1008, "origin_not_allowed").await;
    // What is no upgrade is answered as before.
    picket.caller("198.51.100.8").header("Sec-WebSocket-Version", "8").connects().await.refused();

    picket.admin().audited("eventType=INVALID_ORIGIN&ip=198.51.100.8", 2).await;
    picket.admin().audited("eventType=AUTHENTICATION_FAILURE&ip=198.51.100.9", 1).await;
    upstream.saw_no_request();
    picket.caller("198.51.100.10").comes_in().await.is_still_served().await;
}
