//! Who someone is: application tokens, honest and forged, and sessions that the application vouches for.

use serde_json::{Value, json};

use crate::harness::{
    Caller, PUBLIC_KEY, Picket, SessionServer, Token, Upstream, issuer, rsa_issuer, seconds_from_now,
};

async fn are_refused(caller: &Caller, rows: Vec<(&str, String, &str)>) {
    for (row, token, reason) in rows {
        let refusal = caller.clone().bearing(&token).connects().await.refused();
        assert_eq!(refusal.head.status(), 401, "{row}: {refusal:?}");
        let body: Value =
            serde_json::from_str(&refusal.body).unwrap_or_else(|error| panic!("{row}: no JSON ({error}): {refusal:?}"));
        assert_eq!(body["reason"], reason, "{row}: {refusal:?}");
    }
}

#[tokio::test]
async fn a_token_makes_a_user_whom_the_upstream_is_told() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).issuer(issuer()).start().await;

    let token = Token::of("alice").role(json!(["member", "moderator"])).signed();
    let _alice = picket.caller("198.51.100.7").bearing(&token).comes_in().await;

    let request = upstream.requests().remove(0);
    assert_eq!(request.all("x-picket-user"), ["alice"], "{request:?}");
    let roles = request.all("x-picket-roles").join(",");
    assert!(roles.contains("member") && roles.contains("moderator"), "{request:?}");
    picket
        .admin()
        .counts("one authenticated connection", |metrics| {
            metrics["authenticatedConnections"] == 1 && metrics["anonymousConnections"] == 0
        })
        .await;
}

#[tokio::test]
async fn tokens_are_taken_from_the_configured_sources_only() {
    let upstream = Upstream::echo().await;
    let sources = json!({ "auth": { "tokenSources": ["query:access_token", "cookie:session"] } });
    let picket = Picket::guarding(&upstream)
        .issuer(issuer())
        .with(sources)
        .policy(json!({ "security": { "allowAnonymous": false } }))
        .start()
        .await;
    let token = Token::of("alice").signed();

    picket.caller("198.51.100.7").path(&format!("/ws?access_token={token}")).comes_in().await;
    picket.caller("198.51.100.7").header("Cookie", &format!("theme=dark; session={token}; lang=de")).comes_in().await;
    picket.caller("198.51.100.7").bearing(&token).connects().await.refused_with(401, "login_required");
}

#[tokio::test]
async fn j01_a_token_without_a_signature_is_401_however_none_is_spelled() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).issuer(issuer()).start().await;
    let claims = Token::of("alice").role("admin");

    let mut rows: Vec<_> = ["none", "None", "NONE", "nOnE", ""]
        .map(|alg| ("alg none", claims.unsigned(&json!({ "typ": "JWT", "alg": alg })), "token_invalid"))
        .into();
    rows.push(("no alg", claims.unsigned(&json!({ "typ": "JWT" })), "token_invalid"));
    rows.push(("alg HS256, no signature", claims.unsigned(&json!({ "typ": "JWT", "alg": "HS256" })), "token_invalid"));
    are_refused(&picket.caller("198.51.100.7"), rows).await;

    upstream.saw_no_request();
    let record = picket.admin().audited("eventType=AUTHENTICATION_FAILURE", 1).await.remove(0);
    assert_eq!((&record["severity"], &record["reason"]), (&json!("medium"), &json!("token_invalid")), "{record}");
}

#[tokio::test]
async fn j02_the_public_key_is_no_hmac_secret() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).issuer(rsa_issuer()).start().await;
    let claims = Token::of("alice").role("admin");

    let der = PUBLIC_KEY.trim_end();
    are_refused(
        &picket.caller("198.51.100.7"),
        vec![
            ("the PEM file as secret", claims.signed_with(PUBLIC_KEY.as_bytes()), "token_invalid"),
            ("the trimmed PEM as secret", claims.signed_with(der.as_bytes()), "token_invalid"),
            ("some other secret", claims.signed(), "token_invalid"),
        ],
    )
    .await;
    upstream.saw_no_request();

    picket.caller("198.51.100.7").bearing(&claims.signed_by_rsa()).comes_in().await;
}

#[tokio::test]
async fn j07_a_claim_of_the_wrong_type_or_a_missing_one_does_not_skip_its_check() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).issuer(issuer()).start().await;
    let past = seconds_from_now(-3600).to_string();
    let future = seconds_from_now(3600).to_string();

    are_refused(
        &picket.caller("198.51.100.7"),
        vec![
            ("exp as a string, past", Token::of("alice").with("exp", past).signed(), "token_invalid"),
            ("exp as a string, future", Token::of("alice").with("exp", future.clone()).signed(), "token_invalid"),
            ("exp null", Token::of("alice").with("exp", Value::Null).signed(), "token_invalid"),
            ("no exp", Token::of("alice").without("exp").signed(), "token_invalid"),
            ("nbf as a string", Token::of("alice").with("nbf", future).signed(), "token_invalid"),
            ("no aud", Token::of("alice").without("aud").signed(), "token_invalid"),
            ("no iss", Token::of("alice").without("iss").signed(), "token_invalid"),
            ("no sub", Token::of("alice").without("sub").signed(), "token_invalid"),
            ("sub as a number", Token::of("alice").with("sub", 7).signed(), "token_invalid"),
        ],
    )
    .await;
    upstream.saw_no_request();
}

#[tokio::test]
async fn j08_a_token_of_another_time_audience_or_issuer_is_401() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).issuer(issuer()).start().await;

    are_refused(
        &picket.caller("198.51.100.7"),
        vec![
            ("expired", Token::of("alice").with("exp", seconds_from_now(-120)).signed(), "token_expired"),
            ("not yet valid", Token::of("alice").with("nbf", seconds_from_now(3600)).signed(), "token_invalid"),
            ("another audience", Token::of("alice").with("aud", "billing").signed(), "token_invalid"),
            ("another issuer", Token::of("alice").with("iss", "https://evil.example").signed(), "token_invalid"),
            (
                "another secret",
                Token::of("alice").signed_with(b"another-secret-of-sufficient-length-00000"),
                "token_invalid",
            ),
            ("no token at all", "nonsense".to_owned(), "token_invalid"),
            ("two dots", "..".to_owned(), "token_invalid"),
        ],
    )
    .await;
    upstream.saw_no_request();

    let within_leeway =
        Token::of("alice").with("exp", seconds_from_now(-30)).with("nbf", seconds_from_now(30)).signed();
    picket.caller("198.51.100.7").bearing(&within_leeway).comes_in().await;
}

#[tokio::test]
async fn j10_a_giant_token_is_401_or_431_and_a_deep_one_401() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).issuer(issuer()).start().await;
    let nested = (0..300).fold(json!(1), |inner, _| json!([inner]));

    are_refused(
        &picket.caller("198.51.100.7"),
        vec![
            ("too long, well signed", Token::of("alice").with("pad", "x".repeat(9000)).signed(), "token_invalid"),
            ("nested 300 deep, well signed", Token::of("alice").with("deep", nested).signed(), "token_invalid"),
        ],
    )
    .await;
    let giant = Token::of("alice").with("pad", "x".repeat(200_000)).signed();
    let refusal = picket.caller("198.51.100.7").bearing(&giant).connects().await.refused();
    assert_eq!(refusal.head.status(), 431, "{refusal:?}");
    upstream.saw_no_request();
}

#[tokio::test]
async fn where_it_is_configured_a_bad_token_makes_an_anonymous_not_a_refusal() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream)
        .issuer(issuer())
        .with(json!({ "auth": { "invalidToken": "anonymous" } }))
        .start()
        .await;

    let _mallory = picket.caller("198.51.100.7").bearing("nonsense").comes_in().await;

    assert!(upstream.requests()[0].all("x-picket-user").is_empty());
    picket.admin().counts("one anonymous connection", |metrics| metrics["anonymousConnections"] == 1).await;
}

#[tokio::test]
async fn a_session_that_the_application_vouches_for_makes_a_user() {
    let upstream = Upstream::echo().await;
    let application = SessionServer::start().await;
    let sessions = json!({ "auth": { "sessions": {
        "mode": "introspect", "introspectUrl": application.url(), "userPointer": "/user/id", "rolePointer": "/user/role", "cacheMs": 60_000,
    } } });
    let picket = Picket::guarding(&upstream)
        .with(sessions)
        .policy(json!({ "validation": { "requireAuthentication": ["chat:say"] } }))
        .start()
        .await;

    let mut alice = picket.caller("198.51.100.7").bearing("session-of-alice").comes_in().await;
    alice.sends(json!({ "type": "chat:say" })).await;
    alice.receives(json!({ "type": "chat:say" })).await;
    let request = upstream.requests().remove(0);
    assert_eq!(
        (request.all("x-picket-user"), request.all("x-picket-roles")),
        (vec!["alice"], vec!["member"]),
        "{request:?}"
    );

    assert_eq!(application.asked(), 1);
    picket.caller("198.51.100.8").bearing("session-of-alice").comes_in().await;
    assert_eq!(application.asked(), 1, "the answer is remembered for cacheMs");

    for token in ["nobody", "stolen", "session-of"] {
        picket.caller("198.51.100.9").bearing(token).connects().await.refused_with(401, "token_invalid");
    }
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn picket_token_makes_a_token_that_the_gateway_takes() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).issuer(issuer()).start().await;
    let program = crate::harness::Program::new();
    let config = program.writes_config(&json!({
        "environment": "development",
        "auth": { "jwt": { "issuers": [issuer()] } },
    }));

    let printed = program
        .runs(&["token", "--config", config.to_str().unwrap(), "--subject", "alice", "--role", "member", "--ttl", "1h"])
        .succeeds();

    picket.caller("198.51.100.7").bearing(printed.trim()).comes_in().await;
    assert_eq!(upstream.requests()[0].all("x-picket-user"), ["alice"]);
}
