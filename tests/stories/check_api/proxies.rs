//! `GET /v1/authz`, as reverse proxies ask it.

use reqwest::Method;
use serde_json::json;

use super::{ALICE, MALLORY, allowed, authorizes, both_doors};
use crate::harness::{Caller, HOME, Nginx, Picket, Token, Upstream, eventually, issuer};

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

    let documentation = include_str!("../../../docs/check-api.md");
    assert!(documentation.contains("deploy/nginx/picket-authz.conf"));
}
