//! Blocks: earned by behaviour or set by the administrator, in force at once, also for sockets that are open.

use serde_json::json;

use crate::harness::{Picket, PicketBuilder, Token, Upstream, eventually, issuer};

fn guarded(upstream: &Upstream) -> PicketBuilder {
    Picket::guarding(upstream).policy(json!({
        "validation": { "content": { "mode": "reject" } },
        "security": { "blockSuspiciousIps": true, "suspiciousActivityThreshold": 3, "violationsBeforeClose": 100 },
    }))
}

#[tokio::test]
async fn an_address_that_goes_on_attacking_is_blocked_and_its_open_socket_is_cut() {
    let upstream = Upstream::echo().await;
    let picket = guarded(&upstream).start().await;
    let admin = picket.admin();
    let mut mallory = picket.caller("203.0.113.66").comes_in().await;
    let mut bystander = picket.caller("203.0.113.67").comes_in().await;

    for _ in 0..3 {
        mallory.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
        mallory.is_refused("hostile_content").await;
    }
    mallory.closes_with(1008, "address_blocked").await;

    picket.caller("203.0.113.66").connects().await.refused_with(403, "address_blocked");
    assert!(admin.lists_block("203.0.113.66").await, "{}", admin.get("/blocks").await.text);
    bystander.is_still_served().await;
    picket.caller("203.0.113.67").comes_in().await;

    let record = admin.audited("eventType=IP_BLOCKED&ip=203.0.113.66", 1).await.remove(0);
    assert!(record["message"].is_string(), "{record}");
    admin.audited("eventType=CONNECTION_BLOCKED&ip=203.0.113.66", 1).await;
    let score = admin.get("/reputation/203.0.113.66").await.data()["score"].as_f64();
    assert!(score.is_some_and(|score| score > 2.0), "a score near 3: {score:?}");
}

#[tokio::test]
async fn h24_users_who_share_an_address_with_an_attacker_are_spared() {
    const CAMPUS: &str = "203.0.113.66";
    let upstream = Upstream::echo().await;
    let picket = guarded(&upstream).issuer(issuer()).start().await;
    let caller = |user: &str| picket.caller(CAMPUS).bearing(&Token::of(user).signed());
    let mut users = Vec::new();
    for user in ["alice", "bob", "carol"] {
        users.push(caller(user).comes_in().await);
    }
    let mut troll = caller("troll").comes_in().await;
    let mut mallory = picket.caller(CAMPUS).comes_in().await;

    for _ in 0..3 {
        mallory.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
        mallory.is_refused("hostile_content").await;
    }
    mallory.closes_with(1008, "address_blocked").await;
    picket.caller(CAMPUS).connects().await.refused_with(403, "address_blocked");
    for _ in 0..3 {
        troll.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
        troll.is_refused("hostile_content").await;
    }
    troll.closes_with(1008, "address_blocked").await;
    caller("troll").connects().await.refused_with(403, "address_blocked");

    for user in &mut users {
        user.is_still_served().await;
    }
    caller("dave").comes_in().await.is_still_served().await;
    let block = picket.admin().get("/blocks").await.data()["blocks"][0].clone();
    assert_eq!((&block["scope"], &block["users"]), (&json!("anonymous"), &json!(["troll"])), "{block}");

    picket.admin().blocks(CAMPUS).await;
    for user in &mut users {
        user.closes_with(1008, "address_blocked").await;
    }
}

#[tokio::test]
async fn automatic_blocks_may_be_switched_off() {
    let upstream = Upstream::echo().await;
    let picket = guarded(&upstream).policy(json!({ "security": { "blockSuspiciousIps": false } })).start().await;
    let mut mallory = picket.caller("203.0.113.66").comes_in().await;

    for _ in 0..6 {
        mallory.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
        mallory.is_refused("hostile_content").await;
    }
    eventually("the score of six attacks", async || {
        let score = picket.admin().get("/reputation/203.0.113.66").await.data()["score"].as_f64();
        score.is_some_and(|score| score > 5.0).then_some(())
    })
    .await;
    mallory.is_still_served().await;
    assert!(!picket.admin().lists_block("203.0.113.66").await);
}

#[tokio::test]
async fn an_address_on_the_allow_list_is_never_blocked_automatically() {
    let upstream = Upstream::echo().await;
    let picket = guarded(&upstream).policy(json!({ "security": { "allowList": ["203.0.113.0/24"] } })).start().await;
    let mut partner = picket.caller("203.0.113.66").comes_in().await;
    let mut mallory = picket.caller("198.51.100.66").comes_in().await;

    for _ in 0..6 {
        partner.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
        partner.is_refused("hostile_content").await;
    }
    for _ in 0..3 {
        mallory.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
        mallory.is_refused("hostile_content").await;
    }
    // Records are scored in their order: when the later offender is cut, the partner's were weighed.
    mallory.closes_with(1008, "address_blocked").await;

    partner.is_still_served().await;
    assert!(!picket.admin().lists_block("203.0.113.66").await);
}

#[tokio::test]
async fn a_bad_origin_alone_blocks_nobody() {
    let upstream = Upstream::echo().await;
    let picket = guarded(&upstream).start().await;

    for _ in 0..10 {
        picket
            .caller("203.0.113.66")
            .origin("https://evil.example")
            .connects()
            .await
            .refused_with(403, "origin_not_allowed");
    }
    let mut mallory = picket.caller("198.51.100.66").comes_in().await;
    for _ in 0..3 {
        mallory.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
        mallory.is_refused("hostile_content").await;
    }
    mallory.closes_with(1008, "address_blocked").await;

    picket.caller("203.0.113.66").comes_in().await.is_still_served().await;
}

#[tokio::test]
async fn a_manual_block_cuts_open_sockets_and_unblocking_lets_in_again() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let admin = picket.admin();
    let mut mallory = picket.caller("203.0.113.66").comes_in().await;
    let mut second = picket.caller("203.0.113.66").comes_in().await;
    let mut bystander = picket.caller("203.0.113.67").comes_in().await;
    mallory.is_still_served().await;

    admin.blocks("203.0.113.66").await;
    mallory.closes_with(1008, "address_blocked").await;
    second.closes_with(1008, "address_blocked").await;
    bystander.is_still_served().await;
    picket.caller("203.0.113.66").connects().await.refused_with(403, "address_blocked");
    assert!(admin.lists_block("203.0.113.66").await);

    admin.unblocks("203.0.113.66").await.succeeds();
    picket.caller("203.0.113.66").comes_in_eventually().await;
    assert!(!admin.lists_block("203.0.113.66").await);
    admin.unblocks("203.0.113.66").await.fails_with(404);

    admin.audited("eventType=IP_BLOCKED&ip=203.0.113.66", 1).await;
    admin.audited("eventType=IP_UNBLOCKED&ip=203.0.113.66", 1).await;
}

#[tokio::test]
async fn a_prefix_can_be_blocked() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let mut inside = picket.caller("203.0.113.200").comes_in().await;
    let mut v6 = picket.caller("2001:db8:1:2::7").comes_in().await;
    let mut outside = picket.caller("203.0.114.1").comes_in().await;

    picket.admin().blocks("203.0.113.0/24").await;
    picket.admin().blocks("2001:db8:1:2::/64").await;

    inside.closes_with(1008, "address_blocked").await;
    v6.closes_with(1008, "address_blocked").await;
    picket.caller("203.0.113.1").connects().await.refused_with(403, "address_blocked");
    picket.caller("2001:db8:1:2:ffff::1").connects().await.refused_with(403, "address_blocked");
    picket.caller("::ffff:203.0.113.9").connects().await.refused_with(403, "address_blocked");
    outside.is_still_served().await;
    picket.caller("2001:db8:1:3::7").comes_in().await;
}

#[tokio::test]
async fn a_block_with_an_end_ends() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;

    picket
        .admin()
        .post("/block-ip", json!({ "ip": "203.0.113.66", "reason": "a minute off", "durationMs": 1500 }))
        .await
        .succeeds();
    picket.caller("203.0.113.66").gets_refused_eventually().await;

    picket.caller("203.0.113.66").comes_in_eventually().await;
}

#[tokio::test]
async fn r12_a_block_that_would_hit_everybody_or_the_house_itself_is_409_unless_forced() {
    let upstream = Upstream::echo().await;
    let picket =
        Picket::guarding(&upstream).node(json!({ "trustedProxies": ["127.0.0.1/32", "10.1.0.0/16"] })).start().await;
    let admin = picket.admin();
    let mut alice = picket.caller("198.51.100.7").comes_in().await;

    for ip in [
        "127.0.0.1",
        "127.0.0.0/8",
        "::1",
        "::ffff:127.0.0.1",
        "10.1.2.3",
        "10.1.0.0/16",
        "0.0.0.0/0",
        "::/0",
        "198.0.0.0/7",
        "2000::/3",
        "2001:db8::/31",
    ] {
        let reply = admin.post("/block-ip", json!({ "ip": ip, "reason": "too wide" })).await;
        assert_eq!(reply.status, 409, "{ip}: {}", reply.text);
        reply.fails_with(409);
    }
    alice.is_still_served().await;
    for ip in ["", "somewhere", "300.1.2.3", "203.0.113.0/33", "203.0.113.66; DROP TABLE"] {
        let reply = admin.post("/block-ip", json!({ "ip": ip, "reason": "no address" })).await;
        assert!(reply.status == 400 || reply.status == 422, "{ip:?}: {} {}", reply.status, reply.text);
    }

    admin.post("/block-ip", json!({ "ip": "198.0.0.0/7", "reason": "i mean it", "force": true })).await.succeeds();
    alice.closes_with(1008, "address_blocked").await;
}

#[tokio::test]
async fn r16_an_allow_listed_address_comes_in_past_an_automatic_block_of_its_neighbourhood() {
    let upstream = Upstream::echo().await;
    let picket = guarded(&upstream).policy(json!({ "security": { "allowList": ["2001:db8::1"] } })).start().await;
    let mut mallory = picket.caller("2001:db8::2").comes_in().await;
    let mut friend = picket.caller("2001:db8::1").comes_in().await;

    for _ in 0..3 {
        mallory.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
        mallory.is_refused("hostile_content").await;
    }
    mallory.closes_with(1008, "address_blocked").await;

    friend.is_still_served().await;
    picket.caller("2001:db8::1").comes_in().await.is_still_served().await;
    picket.caller("2001:db8::3").connects().await.refused_with(403, "address_blocked");
}

#[tokio::test]
async fn r16_what_any_page_can_make_its_visitors_send_blocks_nobody() {
    let upstream = Upstream::echo().await;
    let picket = guarded(&upstream).start().await;

    for _ in 0..10 {
        picket.caller("203.0.113.66").path("/ws//x").origin("https://evil.example").connects().await.refused();
    }
    picket.admin().audited("ip=203.0.113.66&limit=100", 10).await;
    picket.caller("203.0.113.66").comes_in().await.is_still_served().await;
}

#[tokio::test]
async fn an_upstream_that_is_away_blocks_nobody() {
    let upstream = Upstream::echo().await;
    let picket = guarded(&upstream)
        .policy(json!({ "rateLimiting": { "connectionLimit": { "maxConnections": 5, "windowMs": 60_000 } } }))
        .start()
        .await;

    upstream.breaks();
    for _ in 0..20 {
        picket.caller("203.0.113.66").connects().await.refused_with(502, "upstream_protocol");
    }
    upstream.recovers();
    picket.caller("203.0.113.66").comes_in().await.is_still_served().await;
}
