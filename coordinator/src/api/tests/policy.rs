//! The policy over the API: changed in parts, judged whole, with history and rollback.

use http::Method;
use picket_shared::policy::Enforce;
use picket_shared::state::{Decisions, NodeStatus, State, TrafficSnapshot};
use serde_json::{Value, json};
use std::time::Duration;

use super::faults::{BadlyRead, Reading};
use super::office::{Office, eventually};
use crate::api::BASE;

#[tokio::test]
async fn a_part_is_changed_and_the_rest_stays() {
    let office = Office::open().await;
    let before = office.admin().get("/config").await;
    assert_eq!(before.data()["version"], 1);
    let after = office
        .admin()
        .put("/config", json!({ "validation": { "maxMessageLength": 10, "allowedEventTypes": ["chat:*"] } }))
        .await
        .data();
    assert_eq!((&after["version"], &after["policy"]["validation"]["maxMessageLength"]), (&json!(2), &json!(10)));
    assert_eq!(after["policy"]["validation"]["maxDepth"], 64);
    let removed = office.admin().put("/config", json!({ "validation": { "allowedEventTypes": null } })).await.data();
    assert_eq!((&removed["version"], &removed["policy"]["validation"]["allowedEventTypes"]), (&json!(3), &Value::Null));
    let same = office.admin().put("/config", json!({ "validation": { "maxMessageLength": 10 } })).await.data();
    assert_eq!(same["version"], 3, "no change is no version");
    let records = office.audited("eventType=POLICY_CHANGED", 2).await;
    let record = records.iter().find(|record| record["metadata"]["version"] == 2).unwrap();
    assert_eq!(record["metadata"]["actor"], "warden");
    assert_eq!(record["metadata"]["changed"], json!(["validation.allowedEventTypes", "validation.maxMessageLength"]));
}

#[tokio::test]
async fn every_mistake_is_said_and_nothing_changes() {
    let office = Office::open().await;
    let shapes = json!({
        "validation": { "maxMessageLength": 10, "maxDepth": -1, "content": { "mode": "destroy" } },
        "rateLimiting": { "burstLimit": { "maxEvents": "many" } },
        "cors": { "allowedOrigin": ["https://typo.example"] },
    });
    let reply = office.admin().put("/config", shapes).await;
    assert_eq!(
        reply.mistakes(),
        ["cors.allowedOrigin", "rateLimiting.burstLimit.maxEvents", "validation.content.mode", "validation.maxDepth"]
    );
    assert!(reply.text.contains("did you mean `allowedOrigins`?"), "{}", reply.text);
    let meanings = json!({ "cors": { "allowedOrigins": ["*", "nonsense"] }, "security": { "allowList": ["x"] } });
    assert_eq!(
        office.admin().put("/config", meanings).await.mistakes(),
        ["cors.allowedOrigins[0]", "cors.allowedOrigins[1]", "security.allowList[0]"]
    );
    let receiver = json!([{ "kind": "webhook", "url": "ftp://canary.example", "minSeverity": "high" }]);
    let reply = office.admin().put("/config", json!({ "monitoring": { "notifications": receiver } })).await;
    assert_eq!(reply.mistakes(), ["monitoring.notifications[0].url"]);
    assert!(!reply.text.contains("canary"), "{}", reply.text);
    for body in [json!([]), json!("x"), Value::Null] {
        office.admin().put("/config", body).await.fails_with(422);
    }
    assert_eq!(office.admin().get("/config").await.data()["version"], 1);
}

#[tokio::test]
async fn a_change_on_top_of_another_version_is_412() {
    let office = Office::open().await;
    let put = async |version: &str, depth: u32| {
        let body = json!({ "validation": { "maxDepth": depth } });
        office
            .admin()
            .asks(Method::PUT, "/api/security/config", |request| request.header("If-Match", version).json(&body))
            .await
    };
    put("\"1\"", 40).await.data();
    put("\"1\"", 30).await.fails_with(412);
    put("\"2\"", 30).await.data();
    let shown = office.admin().get("/config").await.header("etag").to_owned();
    put(&shown, 25).await.data();
    put(&shown, 24).await.fails_with(412);
    put("\"three\"", 20).await.fails_with(400);
    put("*", 20).await.data();
    assert_eq!(office.admin().get("/config").await.data()["policy"]["validation"]["maxDepth"], 20);
}

#[tokio::test]
async fn who_has_the_answer_is_told_so_without_it_until_policy_nodes_or_trial_change() {
    let office = Office::open().await;
    office.has_node("edge-1", TrafficSnapshot::default()).await;
    let get = async |known: &str| {
        let path = "/api/security/config";
        office.admin().asks(Method::GET, path, |request| request.header("If-None-Match", known)).await
    };
    let tag = office.admin().get("/config").await.header("etag").to_owned();
    assert!(tag.starts_with("W/\"1-"), "{tag}");
    for known in [&tag, tag.trim_start_matches("W/"), &format!("\"7\", {tag}"), "*"] {
        let reply = get(known).await;
        assert_eq!((reply.status, reply.header("etag"), reply.text.as_str()), (304, tag.as_str(), ""), "{known}");
    }
    get("\"1\"").await.data();

    let changed = office.admin().put("/config", json!({ "validation": { "maxDepth": 40 } })).await;
    assert_eq!(changed.data()["applied"], false);
    assert_eq!(get(&tag).await.data()["version"], 2);
    assert_eq!(get(changed.header("etag")).await.status, 304);
    office.has_node_that("edge-1", TrafficSnapshot::default(), |node| node.policy_version = 2).await;
    let applied = get(changed.header("etag")).await;
    assert_eq!(applied.data()["applied"], true);
    office.admin().put("/config?canary=edge-1&seconds=45", json!({ "validation": { "maxDepth": 41 } })).await.data();
    let tried = get(applied.header("etag")).await;
    assert_eq!((&tried.data()["version"], &tried.data()["canary"]["node"]), (&json!(2), &json!("edge-1")));
}

#[tokio::test]
async fn a_state_that_does_not_answer_is_not_taken_for_a_policy_that_cannot_be_read() {
    let state = State::memory();
    let policies = BadlyRead::before(state.policies.clone());
    let office = Office::builder().state(|own| own.policies = policies.clone()).start().await;
    *policies.reading.lock() = Reading::Away;
    let known = office.admin().get("/config").await.data();
    assert_eq!((&known["version"], &known["isStale"], &known["applied"]), (&json!(1), &json!(true), &json!(false)));
    office.admin().put("/config", json!({ "validation": { "maxDepth": 40 } })).await.fails_with(503);
    assert_eq!(state.policies.newest_version().await.unwrap(), 1, "nothing was put over what was not read");

    *policies.reading.lock() = Reading::Corrupt;
    let in_force = office.admin().get("/config").await.data();
    assert_eq!(in_force["isStale"], false);
    assert_eq!((&in_force["version"], &in_force["policy"]["validation"]["maxDepth"]), (&json!(1), &json!(64)));
    let put = office.admin().put("/config", json!({ "validation": { "maxDepth": 40 } })).await.data();
    assert_eq!((&put["version"], &put["policy"]["validation"]["maxDepth"]), (&json!(2), &json!(40)));
}

#[tokio::test]
async fn no_country_is_named_where_a_node_knows_none() {
    let office = Office::open().await;
    let deny = json!({ "security": { "countries": { "deny": ["KP"], "unknown": "deny" } } });
    let knows = async |knows: bool| {
        office.has_node_that("edge-1", TrafficSnapshot::default(), |node| node.knows_countries = Some(knows)).await;
    };
    knows(false).await;
    let refused = office.admin().put("/config", deny.clone()).await;
    assert_eq!(refused.mistakes(), ["security.countries"]);
    assert!(refused.text.contains("edge-1") && refused.text.contains("node.geoip"), "{}", refused.text);
    knows(true).await;
    office.admin().put("/config", deny).await.data();
    knows(false).await;
    office.admin().put("/config", json!({ "enforce": "off" })).await.data();
}

/// what became of a trial at a node that was on trial before it began, or said so after it
async fn trial_at(began: impl AsyncFnOnce(&Office)) -> (Office, Value) {
    let office = Office::open().await;
    office.has_node_that("edge-1", TrafficSnapshot::default(), |node| node.on_trial = true).await;
    office.clock.advance(Duration::from_secs(1));
    let patch = json!({ "validation": { "maxDepth": 40 } });
    office.admin().put("/config?canary=edge-1&seconds=5", patch).await.data();
    began(&office).await;
    let mut records = office.audited("eventType=POLICY_CHANGED", 2).await;
    assert!(
        records.iter().all(|record| record["metadata"]["changed"] == json!(["validation.maxDepth"])),
        "{records:?}"
    );
    records.retain(|record| record["metadata"]["why"] != "begun");
    (office, records.remove(0))
}

#[tokio::test]
async fn a_trial_that_its_node_never_took_up_is_taken_back_and_one_that_it_ran_is_published() {
    let says_so = async |office: &Office| {
        office.has_node_that("edge-1", TrafficSnapshot::default(), |node| node.on_trial = true).await;
    };
    let ((ignored, taken_back), (ran, published)) = tokio::join!(trial_at(async |_: &Office| ()), trial_at(says_so));
    let why = taken_back["metadata"]["why"].as_str().unwrap();
    assert!(taken_back["message"].as_str().unwrap().contains("taken back") && why.contains("ran it in 0 of"), "{why}");
    let config = ignored.admin().get("/config").await.data();
    assert_eq!((&config["version"], &config["canary"]), (&json!(1), &Value::Null));
    assert_eq!(published["metadata"]["version"], 2, "{published}");
    assert_eq!(ran.admin().get("/config").await.data()["policy"]["validation"]["maxDepth"], 40);
    assert_eq!(published["message"], "policy changed after a trial with nobody there");
}

#[tokio::test]
async fn x30_a_trial_that_refused_few_but_most_or_whose_node_was_switched_off_is_taken_back() {
    let why = async |says: fn(&mut NodeStatus)| {
        let began = async |office: &Office| {
            let on_trial = |node: &mut NodeStatus| {
                node.on_trial = true;
                says(node);
            };
            office.has_node_that("edge-1", TrafficSnapshot::default(), on_trial).await;
        };
        let (office, record) = trial_at(began).await;
        assert_eq!(office.admin().get("/config").await.data()["version"], 1, "{record}");
        record["metadata"]["why"].as_str().unwrap().to_owned()
    };
    let (few, switched) = tokio::join!(
        why(|node| {
            let decisions = Decisions { connections_refused: 7, events_cleared: 5_000, ..Decisions::default() };
            node.decisions = Some(decisions);
        }),
        why(|node| (node.is_switched, node.enforce) = (true, Enforce::Off)),
    );
    assert_eq!(few, "7 of 7 connections refused, which is more than half");
    assert_eq!(switched, "its node refuses nobody, by its switch that says `off`");
}

#[tokio::test]
async fn x30_no_trial_begins_at_a_node_whose_switch_hides_what_it_would_do() {
    let office = Office::open().await;
    let tries = async |patch: Value| office.admin().put("/config?canary=edge-1&seconds=5", patch).await;
    for word in [Enforce::Off, Enforce::Shadow] {
        let switched = |node: &mut NodeStatus| (node.is_switched, node.enforce) = (true, word);
        office.has_node_that("edge-1", TrafficSnapshot::default(), switched).await;
        let answer = tries(json!({ "validation": { "maxDepth": 40 } })).await;
        answer.fails_with(409);
        assert!(answer.text.contains(word.as_str()) && answer.text.contains("enforceFile"), "{}", answer.text);
    }
    assert_eq!(office.admin().get("/config").await.data()["canary"], Value::Null);
    tries(json!({ "enforce": "shadow" })).await.data();
}

#[tokio::test]
async fn x30_a_switch_that_says_on_hides_nothing() {
    let office = Office::open().await;
    office.has_node_that("edge-1", TrafficSnapshot::default(), |node| node.is_switched = true).await;
    office.admin().put("/config?canary=edge-1&seconds=5", json!({ "validation": { "maxDepth": 40 } })).await.data();
}

#[tokio::test]
async fn a_dry_run_is_judged_and_changes_nothing() {
    let office = Office::open().await;
    let would_be = office.admin().put("/config?dryRun=true", json!({ "validation": { "maxDepth": 40 } })).await.data();
    assert_eq!((&would_be["version"], &would_be["policy"]["validation"]["maxDepth"]), (&json!(1), &json!(40)));
    assert_eq!(
        office.admin().put("/config?dryRun=true", json!({ "validation": { "maxDepth": 0 } })).await.mistakes(),
        ["validation.maxDepth"]
    );
    assert_eq!(office.admin().put("/config?dryRun=maybe", json!({})).await.mistakes(), ["dryRun"]);
    assert_eq!(office.admin().get("/config").await.data()["policy"]["validation"]["maxDepth"], 64);
}

#[tokio::test]
async fn changes_at_once_are_all_made() {
    let office = Office::open().await;
    let admin = office.admin();
    let changes = [
        json!({ "validation": { "maxDepth": 40 } }),
        json!({ "validation": { "maxMessageLength": 500 } }),
        json!({ "security": { "violationsBeforeClose": 9 } }),
    ];
    let replies = futures_util::future::join_all(changes.map(|change| admin.put("/config", change))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    let policy = office.admin().get("/config").await.data()["policy"].clone();
    assert_eq!(
        (&policy["validation"]["maxDepth"], &policy["validation"]["maxMessageLength"]),
        (&json!(40), &json!(500))
    );
    assert_eq!(policy["security"]["violationsBeforeClose"], 9);
}

#[tokio::test]
async fn the_history_says_who_changed_what_and_a_rollback_is_a_change_of_its_own() {
    let office = Office::open().await;
    let original = office.admin().get("/config").await.data();
    office.admin().put("/config", json!({ "validation": { "maxDepth": 40 } })).await.data();
    let history = office.admin().get("/config/history").await.data();
    let newest = &history["versions"][0];
    assert_eq!((&newest["version"], &newest["by"]), (&json!(2), &json!("warden")));
    assert_eq!(newest["changes"], json!([{ "path": "validation.maxDepth", "from": 64, "to": 40 }]));
    assert_eq!(history["versions"][1]["changes"], Value::Null);

    let path = format!("{BASE}/config/rollback");
    let on_another =
        |request: reqwest::RequestBuilder| request.header("If-Match", "\"1\"").json(&json!({ "version": 1 }));
    office.admin().asks(Method::POST, &path, on_another).await.fails_with(412);
    let back = office.admin().post("/config/rollback", json!({ "version": 1 })).await.data();
    assert_eq!(back, json!({ "version": 3, "restored": 1 }));
    assert_eq!(office.admin().get("/config").await.data()["policy"], original["policy"]);
    office.admin().post("/config/rollback", json!({ "version": 99 })).await.fails_with(404);
    assert_eq!(office.admin().post("/config/rollback", json!({ "version": "1" })).await.mistakes(), ["version"]);
    let record = office.audited("eventType=POLICY_CHANGED&text=rolled back", 1).await.remove(0);
    assert_eq!(record["metadata"]["changed"], json!(["validation.maxDepth"]));
}

#[tokio::test]
async fn scoring_follows_the_policy() {
    let office = Office::open().await;
    office.admin().put("/config", json!({ "security": { "suspiciousActivityThreshold": 1 } })).await.data();
    eventually("the threshold in force", async || {
        let standing = office.admin().get("/reputation/192.0.2.1").await.data();
        (standing["threshold"] == 1).then_some(())
    })
    .await;
    office.refuses(picket_shared::reason::Reason::TokenInvalid, "192.0.2.66");
    eventually("the block", async || (office.admin().get("/blocks").await.data()["total"] == 1).then_some(())).await;
}

#[tokio::test]
async fn r15_the_url_of_a_receiver_is_shown_masked_and_stays_when_it_is_written_back() {
    let office = Office::open().await;
    let receiver = json!({ "kind": "slack", "url": "https://hooks.example.com/unguessable" });
    let put = office.admin().put("/config", json!({ "monitoring": { "notifications": [receiver] } })).await;
    assert_eq!(put.data()["version"], 2);
    let shown = office.admin().get("/config").await;
    assert!(!put.text.contains("unguessable") && !shown.text.contains("unguessable"), "{}", shown.text);
    let monitoring = shown.data()["policy"]["monitoring"].clone();
    assert_eq!(monitoring["notifications"][0]["minSeverity"], "high");
    assert_eq!(office.admin().put("/config", json!({ "monitoring": monitoring })).await.data()["version"], 2);
    office.admin().put("/config", json!({ "validation": { "maxDepth": 40 } })).await.data();
    let kept = office.state.policies.current().await.unwrap().unwrap().policy;
    assert_eq!(kept.monitoring.notifications[0].url.expose(), "https://hooks.example.com/unguessable");
    let history = office.admin().get("/config/history").await;
    assert!(!history.text.contains("unguessable"), "{}", history.text);
    let elsewhere = json!([{ "kind": "slack", "url": "https://hooks.example.com/1" }, monitoring["notifications"][0]]);
    let reply = office.admin().put("/config", json!({ "monitoring": { "notifications": elsewhere } })).await;
    assert_eq!(reply.mistakes(), ["monitoring.notifications[1].url"], "a mask stands for the URL at its place only");
}
