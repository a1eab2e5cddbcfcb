//! An incident from its beginning to its end: an attack over three nodes, the alarm, the appeal, the explanation, the report, the proof.

use serde_json::{Value, json};

use super::blocks::guarded;
use crate::harness::{Cluster, Pager, Program, Redis, eventually};

const MALLORY: &str = "203.0.113.66";

#[tokio::test]
async fn an_attack_is_blocked_told_appealed_explained_lifted_and_reported() {
    let (redis, mut pager) = (Redis::start().await, Pager::listens().await);
    let receivers = json!({ "monitoring": { "notifications": [pager.entry()] } });
    let cluster = Cluster::of(3).on(&redis).policy(guarded()).policy(receivers).start().await;
    let admin = cluster.admin();

    // The attack: one hostile message at each node.
    let mut told = String::new();
    for node in cluster.nodes() {
        let mut mallory = node.caller(MALLORY).comes_in().await;
        mallory.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
        told = mallory.is_refused("hostile_content").await["appeal"].as_str().unwrap().to_owned();
    }

    // The alarm.
    let alarm = pager.rings_for("IP_BLOCKED").await;
    assert_eq!((&alarm["type"], &alarm["data"]["severity"]), (&json!("alarm.noticed"), &json!("high")));
    assert_eq!(alarm["data"]["record"]["metadata"]["network"], MALLORY);

    // The appeal: what the client is told, read out to an operator.
    let refusal = cluster.node(1).caller(MALLORY).gets_refused_eventually().await;
    let body: Value = serde_json::from_str(&refusal.body).unwrap();
    assert_eq!(body["reason"], "address_blocked");
    let code = body["appeal"].as_str().unwrap().to_lowercase();

    // The explanation, over the API and in words, as soon as the record is stored.
    let explanation = eventually("the record of the code", async || {
        let answer = admin.get(&format!("/audit-logs/{code}/explanation")).await;
        (answer.status == 200).then(|| answer.data())
    })
    .await;
    assert_eq!((&explanation["node"], &explanation["record"]["ip"]), (&json!("edge-2"), &json!(MALLORY)));
    let block = &explanation["block"];
    assert_eq!(block["made"]["metadata"]["parts"], json!({ "hostile_content": 3.0 }), "{block}");
    let nodes: Vec<_> =
        block["behind"].as_array().unwrap().iter().map(|record| record["node"].as_str().unwrap()).collect();
    assert_eq!(nodes, ["edge-3", "edge-2", "edge-1"]);
    let api = format!("http://{}", cluster.coordinator(0).address("management"));
    let said = Program::new().with_admin().runs(&["explain", &code, "--api", &api]).succeeds();
    eprintln!("{said}");
    for words in ["this address is blocked", "3.0 for hostile_content", "edge-2", "To lift:", "blocked as 203.0.113.66"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    // What was refused as an event has a code of its own.
    let of_event = admin.get(&format!("/audit-logs/{told}/explanation")).await.data();
    assert_eq!((&of_event["node"], &of_event["record"]["reason"]), (&json!("edge-3"), &json!("hostile_content")));
    let stranger = Program::new().runs(&["explain", &code, "--api", &api]);
    assert_eq!(stranger.code, Some(64), "{}", stranger.everything());

    // Lifted, and on the record.
    admin.unblocks(MALLORY).await.succeeds();
    cluster.node(1).caller(MALLORY).comes_in_eventually().await.is_still_served().await;
    admin.audited("eventType=IP_UNBLOCKED", 1).await;
    let report = admin.get("/report?period=1h").await.data();
    let text = report.to_string();
    assert!(text.contains("IP_BLOCKED") && text.contains("IP_UNBLOCKED"), "{text}");

    // The trail is whole, and an export of it proves itself elsewhere.
    let export = admin.get("/audit-logs/export?format=ndjson").await.text;
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("incident.ndjson");
    let verified = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Program::new().runs(&["audit", "verify", "--export", file.to_str().unwrap()])
    };
    eprintln!("{}", verified(&export).succeeds());
    let falsified = export.replacen("\"high\"", "\"low\"", 1);
    assert_ne!(falsified, export);
    assert_ne!(verified(&falsified).code, Some(0), "a record was changed");
    assert!(!cluster.coordinator(0).everything_it_said().contains("/pager"), "the URL of a receiver is a secret");
}
