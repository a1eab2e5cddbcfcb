//! Keys that an issuer publishes: found by name, rotated, away.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{
    Authority, Holder, KeyServer, OTHER_ISSUER, Picket, PicketBuilder, TlsFront, Token, Upstream, eventually,
    other_publishing_issuer, publishing_issuer, soon,
};

async fn knowing(issuer: &KeyServer, upstream: &Upstream) -> Picket {
    let picket = plan(issuer, upstream).start().await;
    eventually("the issuer's keys", async || (issuer.fetched() == 1).then_some(())).await;
    let token = Token::of("alice").signed_by_key("first", |_| ());
    picket.caller("198.51.100.1").bearing(&token).comes_in_eventually().await;
    picket
}

fn plan(issuer: &KeyServer, upstream: &Upstream) -> PicketBuilder {
    Picket::guarding(upstream).issuer(publishing_issuer(&issuer.url()))
}

#[tokio::test]
async fn j03_j04_j05_what_a_token_says_of_its_key_chooses_among_its_issuers_keys_and_no_more() {
    let (issuer, other) = (KeyServer::publishing("first").await, KeyServer::publishing("theirs").await);
    let upstream = Upstream::echo().await;
    let picket = knowing(&issuer, &upstream).await;
    let claims = Token::of("alice");
    let seen = upstream.requests().len();

    let refused = async |token: String| {
        picket.caller("198.51.100.7").bearing(&token).connects().await.refused_with(401, "token_invalid");
    };
    refused(claims.signed_by_key("second", |head| head.jku = Some(other.url()))).await;
    refused(claims.signed_by_key("theirs", |head| head.x5u = Some(other.url()))).await;
    refused(claims.clone().with("iss", other.url()).signed_by_key("theirs", |_| ())).await;
    for kid in ["../../keys/first", "' OR '1'='1", "http://127.0.0.1/", "first\u{0}", "*", &"k".repeat(4000)] {
        refused(claims.signed_by_key(kid, |_| ())).await;
    }
    assert_eq!(
        (other.fetched(), upstream.requests().len()),
        (0, seen),
        "no question to anybody else, and nobody came in"
    );
    claims_come_in(&picket, claims.signed_by_key("first", |head| head.jku = Some(other.url()))).await;
    assert_eq!(other.fetched(), 0);
}

async fn claims_come_in(picket: &Picket, token: String) {
    picket.caller("198.51.100.7").bearing(&token).comes_in().await;
}

/// `kid` means a key of the issuer that the token names: in whatever order the keys came, and while those of one never came.
#[tokio::test]
async fn j06_a_name_that_two_issuers_gave_to_different_keys_means_to_each_its_own() {
    use Holder::{Issuer, OtherIssuer};
    const KID: &str = "the-same";
    for away in [None, Some(Issuer), Some(OtherIssuer)] {
        let (ours, theirs) = (KeyServer::of(Issuer, KID).await, KeyServer::of(OtherIssuer, KID).await);
        match away {
            None => {}
            Some(Issuer) => ours.fails(),
            Some(OtherIssuer) => theirs.fails(),
        }
        let upstream = Upstream::echo().await;
        let issuers = json!([publishing_issuer(&ours.url()), other_publishing_issuer(&theirs.url())]);
        let plan = Picket::guarding(&upstream).with(json!({ "auth": { "jwt": { "issuers": issuers } } }));
        let picket = plan.start().await;
        let bears = |token: String| picket.caller("198.51.100.7").bearing(&token);
        let named = |issuer: Holder| match issuer {
            Issuer => Token::of("alice"),
            OtherIssuer => Token::of("alice").with("iss", OTHER_ISSUER),
        };

        // First who has keys, so that they are there before anybody asks for the other's.
        for issuer in [Issuer, OtherIssuer].into_iter().filter(|issuer| away != Some(*issuer)) {
            bears(named(issuer).signed_by(issuer, KID)).comes_in_eventually().await;
        }
        eventually("both are asked", async || (ours.fetched() + theirs.fetched() == 2).then_some(())).await;
        for (issuer, signer) in [(Issuer, OtherIssuer), (OtherIssuer, Issuer)] {
            let verdict = match away == Some(issuer) {
                true => (503, "keys_unavailable"),
                false => (401, "token_invalid"),
            };
            bears(named(issuer).signed_by(signer, KID)).connects().await.refused_with(verdict.0, verdict.1);
        }
        for issuer in [Issuer, OtherIssuer].into_iter().filter(|issuer| away != Some(*issuer)) {
            bears(named(issuer).signed_by(issuer, KID)).comes_in().await;
        }
    }
}

#[tokio::test]
async fn j09_x32_a_new_key_serves_half_a_minute_later_and_a_storm_of_unknown_ones_costs_one_fetch() {
    let issuer = KeyServer::publishing("first").await;
    let upstream = Upstream::echo().await;
    let picket = knowing(&issuer, &upstream).await;
    let claims = Token::of("alice");
    let mut open = picket.caller("198.51.100.7").bearing(&claims.signed_by_key("first", |_| ())).comes_in().await;

    issuer.publishes("second");
    let start = std::time::Instant::now();
    // Each time fifty at once, each with a name of its own.
    for round in 0..4 {
        join_all((0..50).map(async |n| {
            let token = claims.signed_by_key(&format!("unknown-{round}-{n}"), |_| ());
            let asked = std::time::Instant::now();
            picket.caller("198.51.100.8").bearing(&token).connects().await.refused_with(401, "token_invalid");
            assert!(asked.elapsed() < Duration::from_secs(5), "401 at once: {:?}", asked.elapsed());
        }))
        .await;
    }
    let second = claims.signed_by_key("second", |_| ());
    if start.elapsed() < Duration::from_secs(25) {
        assert_eq!(issuer.fetched(), 1, "no fetch in half a minute, whatever is asked for");
    }
    let (_, waited) = soon("the rotated key", Duration::from_secs(40), async || {
        let outcome = picket.caller("198.51.100.9").bearing(&second).connects().await;
        (!outcome.is_refusal()).then_some(())
    })
    .await;
    eprintln!("j09: a rotated key served after {waited:?}, {} fetches", issuer.fetched());
    assert_eq!(issuer.fetched(), 2);
    open.is_still_served().await;
    let first = claims.signed_by_key("first", |_| ());
    picket.caller("198.51.100.9").bearing(&first).connects().await.refused_with(401, "token_invalid");

    // Away: the keys that are known serve, others are unknown still, and open sockets feel nothing.
    issuer.fails();
    join_all((0..50).map(async |n| {
        let token = claims.signed_by_key(&format!("unknown-{n}"), |_| ());
        picket.caller("198.51.100.8").bearing(&token).connects().await.refused_with(401, "token_invalid");
    }))
    .await;
    picket.caller("198.51.100.9").bearing(&second).comes_in().await;
    open.is_still_served().await;
    assert!(issuer.fetched() <= 3, "{} fetches", issuer.fetched());
}

#[tokio::test]
async fn x32_without_keys_tokens_wait_and_who_brings_none_comes_in() {
    let issuer = KeyServer::publishing("first").await;
    issuer.fails();
    let upstream = Upstream::echo().await;
    let picket = plan(&issuer, &upstream).start().await;

    let token = Token::of("alice").signed_by_key("first", |_| ());
    let refusal = picket.caller("198.51.100.7").bearing(&token).connects().await;
    refusal.refused_with(503, "keys_unavailable").may_be_retried();
    let strangers = Token::of("alice").with("iss", "https://evil.example").signed_by_key("first", |_| ());
    picket.caller("198.51.100.7").bearing(&strangers).connects().await.refused_with(401, "token_invalid");
    picket.caller("198.51.100.7").comes_in().await.is_still_served().await;
    picket.admin().changes_policy(json!({ "security": { "allowAnonymous": false } })).await.succeeds();
    picket.caller("198.51.100.7").gets_refused_eventually().await;
}

#[tokio::test]
async fn keys_over_tls_are_taken_from_a_server_that_the_named_authority_vouches_for_and_from_no_other() {
    let issuer = KeyServer::publishing("first").await;
    let upstream = Upstream::echo().await;
    let authority = Authority::new();
    authority.signs("issuer");
    let front = TlsFront::open_before(issuer.address(), &authority, "issuer").await;
    let believing = |authority: &Authority| {
        let mut entry = publishing_issuer(&front.url("https", "/jwks"));
        entry["caFile"] = json!(authority.file("ca.pem"));
        Picket::guarding(&upstream).issuer(entry).start()
    };
    let token = Token::of("alice").signed_by_key("first", |_| ());

    let another = Authority::new();
    let picket = believing(&another).await;
    eventually("it says why there are no keys", async || {
        picket
            .log()
            .iter()
            .any(|line| line.contains("keys not fetched") && line.contains("invalid peer certificate"))
            .then_some(())
    })
    .await;
    picket.caller("198.51.100.7").bearing(&token).connects().await.refused_with(503, "keys_unavailable");
    assert_eq!(issuer.fetched(), 0, "nothing was asked");

    let picket = believing(&authority).await;
    picket.caller("198.51.100.7").bearing(&token).comes_in_eventually().await.is_still_served().await;
}
