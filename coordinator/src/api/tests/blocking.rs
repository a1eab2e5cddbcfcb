//! Blocks by hand and by score, and what is refused unless it is forced.

use http::Method;
use picket_shared::address::AddressKey;
use picket_shared::audit::{AuditRecord, EventType, Severity};
use picket_shared::clock::Clock;
use picket_shared::reason::Reason;
use picket_shared::state::{Begun, Change, Claim, LeaseKey, State};
use serde_json::json;
use std::time::Duration;

use super::faults::{Call, LossyAnswers, SlowBlocks};
use super::office::{Office, eventually};
use crate::api_keys;
use crate::scope::Scope;

#[tokio::test]
async fn an_address_is_blocked_listed_and_unblocked_and_both_are_recorded() {
    let office = Office::open().await;
    let admin = office.admin();
    let blocked =
        admin.post("/block-ip", json!({ "ip": "192.0.2.66", "reason": "a\nscan", "durationMs": 60_000 })).await.data();
    assert_eq!(blocked["block"]["ip"], "192.0.2.66");
    let listed = admin.get("/blocks").await.data();
    let block = &listed["blocks"][0];
    assert_eq!(
        (&block["ip"], &block["origin"], &block["by"], &block["reason"]),
        (&json!("192.0.2.66"), &json!("manual"), &json!("warden"), &json!("a\\nscan"))
    );
    assert_eq!(admin.get("/blocks?ip=192.0.2.0/24&origin=manual").await.data()["total"], 1);
    assert_eq!(admin.get("/blocks?ip=198.51.100.0/24").await.data()["total"], 0);

    assert_eq!(admin.post("/unblock-ip", json!({ "ip": "192.0.2.66" })).await.data(), json!({ "ip": "192.0.2.66" }));
    admin.post("/unblock-ip", json!({ "ip": "192.0.2.66", "reason": "again" })).await.fails_with(404);
    assert_eq!(admin.get("/blocks").await.data()["total"], 0);
    let record = office.audited("eventType=IP_BLOCKED&ip=192.0.2.66", 1).await.remove(0);
    assert_eq!((&record["metadata"]["actor"], &record["metadata"]["durationMs"]), (&json!("warden"), &json!(60_000)));
    office.audited("eventType=IP_UNBLOCKED&ip=192.0.2.66", 1).await;
}

#[tokio::test]
async fn a_block_ends_at_its_time() {
    let office = Office::open().await;
    office.admin().post("/block-ip", json!({ "ip": "192.0.2.66", "reason": "x", "durationMs": 60_000 })).await.data();
    office.clock.advance(Duration::from_secs(60));
    assert_eq!(office.admin().get("/blocks").await.data()["total"], 0);
    office.admin().post("/unblock-ip", json!({ "ip": "192.0.2.66" })).await.fails_with(404);
}

#[tokio::test]
async fn r12_what_would_hit_everybody_or_the_house_itself_needs_force() {
    let office = Office::builder()
        .behind("10.1.0.0/16")
        .policy(|policy| policy.security.allow_list = vec!["203.0.113.7".into()])
        .start()
        .await;
    let admin = office.admin();
    for ip in [
        "127.0.0.1",
        "127.0.0.0/8",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:127.0.0.0/104",
        "0.0.0.0",
        "::",
        "0.0.0.0/0",
        "::/0",
        "10.1.2.3",
        "10.1.0.0/16",
        "10.0.0.0/8",
        "198.0.0.0/7",
        "2000::/3",
        "2001:db8::/31",
        "203.0.113.7",
        "203.0.113.0/24",
    ] {
        admin.post("/block-ip", json!({ "ip": ip, "reason": "x" })).await.fails_with(409);
        admin.post("/block-ip", json!({ "ip": ip, "reason": "x", "force": false })).await.fails_with(409);
    }
    assert_eq!(admin.get("/blocks").await.data()["total"], 0);
    admin.post("/block-ip", json!({ "ip": "198.0.0.0/7", "reason": "x", "force": true })).await.data();
    assert_eq!(admin.get("/blocks").await.data()["blocks"][0]["ip"], "198.0.0.0/7");
    admin.post("/block-ip", json!({ "ip": "198.0.0.0/8", "reason": "x" })).await.data();
    admin.post("/block-ip", json!({ "ip": "2001:db8::/32", "reason": "x" })).await.data();
}

#[tokio::test]
async fn r12_the_caller_does_not_lock_itself_out() {
    let office = Office::builder().behind("127.0.0.1/32").start().await;
    let admin = office.admin().from("198.51.100.7");
    for ip in ["198.51.100.7", "198.51.100.0/24"] {
        admin.post("/block-ip", json!({ "ip": ip, "reason": "x" })).await.fails_with(409);
    }
    office.admin().from("198.51.100.8").post("/block-ip", json!({ "ip": "198.51.100.7", "reason": "x" })).await.data();
}

#[tokio::test]
async fn nonsense_and_unknown_fields_are_refused_with_their_place() {
    let office = Office::open().await;
    for ip in ["", "somewhere", "300.1.2.3", "203.0.113.0/33", "203.0.113.66; DROP TABLE audit"] {
        assert_eq!(
            office.admin().post("/block-ip", json!({ "ip": ip, "reason": "x" })).await.mistakes(),
            ["ip"],
            "{ip}"
        );
    }
    let reply =
        office.admin().post("/block-ip", json!({ "ip": 7, "durationMS": 1, "durationMs": 0, "force": "yes" })).await;
    assert_eq!(reply.mistakes(), ["durationMS", "durationMs", "force", "ip", "reason"]);
    assert!(reply.text.contains("did you mean `durationMs`?"), "{}", reply.text);
    assert_eq!(office.admin().post("/unblock-ip", json!({ "ip": "x" })).await.mistakes(), ["ip"]);
    assert_eq!(office.admin().get("/blocks").await.data()["total"], 0);
}

#[tokio::test]
async fn a_bad_score_blocks_by_itself_and_unblocking_clears_it() {
    let office = Office::open().await;
    (0..5).for_each(|_| office.refuses(Reason::TokenInvalid, "2001:db8:1:2::9"));
    let blocks = eventually("the automatic block", async || {
        let data = office.admin().get("/blocks").await.data();
        (data["total"] == 1).then_some(data)
    })
    .await;
    let block = &blocks["blocks"][0];
    assert_eq!(
        (&block["ip"], &block["origin"], &block["by"]),
        (&json!("2001:db8:1:2::/64"), &json!("automatic"), &json!("picket"))
    );
    let record = office.audited("eventType=IP_BLOCKED&text=automatic", 1).await.remove(0);
    assert_eq!((&record["severity"], &record["metadata"]["parts"]), (&json!("high"), &json!({ "token_invalid": 5.0 })));
    assert_eq!(record["metadata"]["durationMs"], 600_000);

    office.refuses(Reason::TokenInvalid, "2001:db8:1:2::9");
    eventually("the score to go on rising", async || {
        let standing = office.admin().get("/reputation/2001:db8:1:2::5").await.data();
        (standing["score"] == 6.0).then_some(())
    })
    .await;
    office.admin().post("/unblock-ip", json!({ "ip": "2001:db8:1:2::9", "reason": "a mistake" })).await.data();
    let standing = office.admin().get("/reputation/2001:db8:1:2::9").await.data();
    assert_eq!(
        (&standing["score"], &standing["relapses"], &standing["subject"]),
        (&json!(0.0), &json!(1), &json!("2001:db8:1:2::/64"))
    );
}

#[tokio::test]
async fn r16_bad_origins_alone_block_nobody() {
    let office = Office::open().await;
    (0..100).for_each(|_| office.refuses(Reason::OriginNotAllowed, "192.0.2.1"));
    office.audited("limit=1000&eventType=INVALID_ORIGIN", 100).await;
    let standing = office.admin().get("/reputation/192.0.2.1").await.data();
    assert_eq!(
        (&standing["score"], &standing["block"], &standing["threshold"]),
        (&json!(1.0), &json!(null), &json!(5))
    );
    assert_eq!(office.admin().get("/blocks").await.data()["total"], 0);
    assert_eq!(office.admin().get("/reputation/nowhere").await.mistakes(), ["ip"]);
}

#[tokio::test]
async fn part_of_a_wider_block_is_not_unblocked_alone() {
    let office = Office::open().await;
    office.admin().post("/block-ip", json!({ "ip": "192.0.2.0/24", "reason": "x" })).await.data();
    let problem = eventually("the view knows the block", async || {
        let problem = office.admin().post("/unblock-ip", json!({ "ip": "192.0.2.7" })).await.fails_with(404);
        problem["detail"].as_str().unwrap().contains("192.0.2.0/24").then_some(problem)
    })
    .await;
    assert!(problem["detail"].as_str().unwrap().contains("unblock that"), "{problem}");
}

#[tokio::test]
async fn a_block_that_is_sent_again_with_its_key_is_made_once() {
    let office = Office::open().await;
    let send = async |path: &str, key: &str, ip: &str| {
        let body = json!({ "ip": ip, "reason": "scan" });
        let admin = office.admin();
        admin.asks(Method::POST, path, |request| request.header("Idempotency-Key", key).json(&body)).await
    };
    let path = "/api/security/block-ip";
    let first = send(path, "\"8e03978e\"", "192.0.2.66").await;
    office.clock.advance(Duration::from_secs(60));
    let again = send(path, "8e03978e", "192.0.2.66").await;
    assert_eq!(first.data(), again.data());
    assert_eq!(again.header("content-type"), "application/json");
    assert_eq!(send(path, "8e03978e", "192.0.2.67").await.mistakes(), ["Idempotency-Key"]);
    let other = "/api/security/block-ip?unheardOf=1";
    assert_eq!(send(other, "8e03978e", "192.0.2.66").await.mistakes(), ["Idempotency-Key"]);
    send(path, "", "192.0.2.66").await.fails_with(400);
    send(path, &"k".repeat(256), "192.0.2.66").await.fails_with(400);
    assert_eq!(office.audited("eventType=IP_BLOCKED", 1).await.len(), 1, "one act, one record");

    let lift = "/api/security/unblock-ip";
    send(lift, "8e03978e", "192.0.2.66").await.data();
    send(lift, "8e03978e", "192.0.2.66").await.data();
    send(lift, "another", "192.0.2.66").await.fails_with(404);

    let refused = send(path, "loopback", "127.0.0.1").await;
    refused.fails_with(409);
    assert_eq!(send(path, "loopback", "127.0.0.1").await.text, refused.text);
    office.clock.advance(Duration::from_secs(86_400));
    assert_ne!(send(path, "8e03978e", "192.0.2.66").await.data(), first.data(), "a day later it is another request");
}

#[tokio::test]
async fn a_request_waits_for_the_one_under_way_and_takes_its_place_when_that_was_not_made() {
    let office = Office::open().await;
    let body = json!({ "ip": "192.0.2.66", "reason": "scan" });
    let sent = serde_json::to_vec(&body).unwrap();
    let of = |account| Change::of(account, "/block-ip", "8e03978e", &[b"", &sent]);
    let (elsewhere, of_another) = (of(super::office::ADMIN), of("somebody else"));
    for change in [&elsewhere, &of_another] {
        assert_eq!(office.state.answers.begin(change, office.clock.now()).await.unwrap(), Begun::First);
    }
    let send = async || {
        let with = |request: reqwest::RequestBuilder| request.header("Idempotency-Key", "8e03978e").json(&body);
        office.admin().asks(Method::POST, "/api/security/block-ip", with).await
    };
    let under_way = send().await;
    under_way.fails_with(409);
    assert_eq!(under_way.header("retry-after"), "1");
    office.state.answers.forget(&elsewhere).await.unwrap();
    send().await.data();
    let known = office.state.answers.begin(&elsewhere, office.clock.now()).await.unwrap();
    assert!(matches!(&known, Begun::Again(told) if told.contains("192.0.2.66")), "{known:?}");
    assert_eq!(office.audited("eventType=IP_BLOCKED", 1).await.len(), 1);
}

#[tokio::test]
async fn nobody_waits_for_a_change_whose_beginning_was_not_told_nor_makes_one_again_whose_answer_was_not_remembered() {
    let failing = [Call::Begin, Call::Forget, Call::Answer, Call::Answer];
    let lossy = LossyAnswers::before(State::memory().answers, &failing);
    let office = Office::builder().state(|state| state.answers = lossy).start().await;
    let body = json!({ "ip": "192.0.2.66", "reason": "scan" });
    let send = async || {
        let with = |request: reqwest::RequestBuilder| request.header("Idempotency-Key", "8e03978e").json(&body);
        office.admin().asks(Method::POST, "/api/security/block-ip", with).await
    };
    send().await.fails_with(503);
    let made = eventually("the claim that nobody works on is given up", async || {
        let reply = send().await;
        (reply.status == 200).then_some(reply)
    })
    .await;
    let again = eventually("the answer remembered after all", async || {
        let reply = send().await;
        (reply.status == 200).then_some(reply)
    })
    .await;
    assert_eq!(again.text, made.text);
    assert_eq!(office.audited("eventType=IP_BLOCKED", 1).await.len(), 1, "one act, one record");
}

#[tokio::test]
async fn a_block_is_made_and_on_the_record_though_its_caller_has_gone() {
    let slow = SlowBlocks::before(State::memory().blocks);
    let office = Office::builder().state(|state| state.blocks = slow.clone()).start().await;
    let admin = office.admin();
    tokio::select! {
        reply = admin.post("/block-ip", json!({ "ip": "192.0.2.66", "reason": "scan" })) => panic!("{}", reply.text),
        () = slow.put.notified() => {}
    }
    office.admin().get("/blocks").await.data();
    slow.answers.add_permits(1);
    let record = office.audited("eventType=IP_BLOCKED", 1).await.remove(0);
    assert_eq!((&record["ip"], &record["metadata"]["actor"]), (&json!("192.0.2.66"), &json!("warden")));
}

#[tokio::test]
async fn a_change_that_failed_on_this_side_is_on_the_record_as_one_that_may_have_been_made() {
    let slow = SlowBlocks::before(State::memory().blocks);
    let office = Office::builder().state(|state| state.blocks = slow.clone()).start().await;
    slow.answers.close();
    office.admin().post("/block-ip", json!({ "ip": "192.0.2.66", "reason": "scan" })).await.fails_with(503);
    let record = office.audited("eventType=ADMIN_ACTION&text=may have been made", 1).await.remove(0);
    let expected = json!({ "actor": "warden", "method": "POST", "path": "/api/security/block-ip", "status": 503 });
    assert_eq!(record["metadata"], expected);
    office.admin().get("/blocks").await.data();
}

#[tokio::test]
async fn a_preview_says_whom_a_block_would_hit_and_blocks_nobody() {
    let key = api_keys::generate();
    let office = Office::builder()
        .with_key("fail2ban", &key, &[Scope::BlocksWrite])
        .policy(|policy| policy.security.allow_list = vec!["192.0.2.9/32".parse().unwrap()])
        .start()
        .await;
    let seen = |user: &str, ip: &str, reason: Option<Reason>| {
        let (ip, now) = (ip.parse().unwrap(), office.clock.now());
        let record = match reason {
            Some(reason) => AuditRecord::refusal(reason, ip, now),
            None => AuditRecord::new(EventType::AuthenticationSuccess, Severity::Low, ip, "in", now),
        };
        office.hears(AuditRecord { user_id: Some(user.into()), ..record });
    };
    seen("yesterday", "192.0.2.7", None);
    office.clock.advance(Duration::from_secs(90_000));
    seen("alice", "192.0.2.7", None);
    seen("bob", "192.0.2.8", None);
    seen("mallory", "192.0.2.7", Some(Reason::HostileContent));
    seen("elsewhere", "198.51.100.7", None);
    office.audited("since=2025-11-25T16:30:00Z&ip=192.0.2.0/24", 3).await;
    let claims = |keys: Vec<LeaseKey>| keys.into_iter().map(|key| Claim { key, cap: 9 }).collect::<Vec<_>>();
    let address = AddressKey::of("192.0.2.7".parse().unwrap());
    let held = claims(vec![LeaseKey::Anonymous, LeaseKey::AnonymousOf(address), LeaseKey::User("alice".into())]);
    office.state.leases.acquire(&held, office.clock.now()).await.unwrap();
    office.admin().post("/block-ip", json!({ "ip": "192.0.0.0/16", "reason": "wide", "force": true })).await.data();
    office.admin().post("/block-ip", json!({ "ip": "192.0.2.7", "reason": "same" })).await.data();

    let preview =
        office.admin().post("/block-ip?dryRun=true", json!({ "ip": "192.0.2.7", "reason": "x" })).await.data();
    let of_key = office.with_key(&key).post("/block-ip?dryRun=true", json!({ "ip": "192.0.2.7", "reason": "x" })).await;
    let of_key = of_key.data();
    assert_eq!((&of_key["users"], &of_key["cleanUsers"]), (&json!(null), &json!(1)), "who is there is `audit:read`");
    let read = office.audited("eventType=ADMIN_ACTION&text=audit trail read&severity=low", 1).await;
    assert!(read.iter().all(|record| record["metadata"]["actor"] == "warden"), "{read:?}");
    let users = preview["users"].as_array().unwrap().iter();
    let mut users: Vec<_> =
        users.map(|user| (user["userId"].clone(), user["clean"].clone(), user["connections"].clone())).collect();
    users.sort_by_key(|(user, ..)| user.to_string());
    assert_eq!(users, [(json!("alice"), json!(true), json!(1)), (json!("mallory"), json!(false), json!(0))]);
    assert_eq!((&preview["cleanUsers"], &preview["anonymousConnections"]), (&json!(1), &json!(1)));
    assert_eq!(preview["conflicts"]["replaces"]["reason"], "same");
    assert_eq!(preview["conflicts"]["wider"][0]["ip"], "192.0.0.0/16");
    assert_eq!((&preview["objection"], &preview["allowListed"]), (&json!(null), &json!(false)));

    let wide =
        office.admin().post("/block-ip?dryRun=true", json!({ "ip": "192.0.2.0/24", "reason": "x" })).await.data();
    assert_eq!((&wide["cleanUsers"], &wide["anonymousConnections"]), (&json!(2), &json!(null)));
    assert_eq!((&wide["allowListed"], &wide["conflicts"]["narrower"]), (&json!(true), &json!(1)));
    assert!(wide["objection"].as_str().unwrap().contains("allow list"), "{wide}");
    assert_eq!(office.admin().get("/blocks").await.data()["total"], 2, "nobody was blocked");
}
