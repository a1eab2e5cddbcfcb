//! A change that is sent again with its `Idempotency-Key` is made once, whichever coordinator the balancer takes it to.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Admin, Cluster, Reply, Topology, eventually};

async fn sends(admin: &Admin, path: &str, key: &str, ip: &str) -> Reply {
    let body = json!({ "ip": ip, "reason": "scan" });
    admin.asks(Method::POST, path, |request| request.header("Idempotency-Key", key).json(&body)).await
}

/// How many records of the kind the coordinators have together, once all are stored: each is asked for one act more, whose record
/// comes behind those of all before.
async fn recorded(admins: &[Admin], kind: &str) -> usize {
    for (number, admin) in admins.iter().enumerate() {
        let last = format!("after-{kind}-{number}");
        admin.post("/revoke", json!({ "jti": last })).await.succeeds();
        eventually("all is stored", async || {
            found(admins, "eventType=ADMIN_ACTION")
                .await
                .iter()
                .any(|act| act.to_string().contains(&last))
                .then_some(())
        })
        .await;
    }
    found(admins, &format!("eventType={kind}")).await.len()
}

async fn found(admins: &[Admin], query: &str) -> Vec<Value> {
    let mut records = Vec::new();
    for admin in admins {
        records.extend(admin.audit(&format!("{query}&limit=100")).await);
    }
    records
}

#[tokio::test]
async fn a_retry_at_the_other_coordinator_is_answered_as_the_first_was_and_made_once() {
    let mut redis = Topology::single().await;
    let cluster = Cluster::of(1).on_topology(&redis).coordinators(2).start().await;
    let admins = [cluster.coordinator(0).admin(), cluster.coordinator(1).admin()];

    let first = sends(&admins[0], "/block-ip", "8e03978e", "203.0.113.66").await;
    first.succeeds();
    for admin in &admins {
        let again = sends(admin, "/block-ip", "8e03978e", "203.0.113.66").await;
        assert_eq!((again.status, &again.text, again.content_type()), (200, &first.text, first.content_type()));
        let other = sends(admin, "/block-ip", "8e03978e", "203.0.113.67").await.fails_with(422);
        assert_eq!(other["errors"][0]["path"], "Idempotency-Key");
    }
    let refused = sends(&admins[1], "/block-ip", "loopback", "127.0.0.1").await;
    refused.fails_with(409);
    assert_eq!(sends(&admins[0], "/block-ip", "loopback", "127.0.0.1").await.text, refused.text);
    assert_eq!(recorded(&admins, "IP_BLOCKED").await, 1, "one act, one record");

    sends(&admins[1], "/unblock-ip", "8e03978e", "203.0.113.66").await.succeeds();
    sends(&admins[0], "/unblock-ip", "8e03978e", "203.0.113.66").await.succeeds();
    sends(&admins[0], "/unblock-ip", "another", "203.0.113.66").await.fails_with(404);
    assert_eq!(recorded(&admins, "IP_UNBLOCKED").await, 1);

    admins[0].blocks("203.0.113.70").await;
    eventually("the coordinator knows the block", async || {
        admins[0].get("/reputation/203.0.113.70").await.data()["block"].is_object().then_some(())
    })
    .await;
    redis.loses_its_master();
    sends(&admins[0], "/block-ip", "8e03978e", "203.0.113.66").await.fails_with(503);
    // What is known is still shown.
    let (blocks, policy) = (admins[0].get("/blocks").await.data(), admins[0].get("/config").await.data());
    assert_eq!((&blocks["blocks"][0]["ip"], &blocks["isStale"]), (&json!("203.0.113.70"), &json!(true)));
    assert_eq!((&policy["version"], &policy["isStale"]), (&json!(1), &json!(true)));
    let dashboard = admins[0].get("/dashboard").await.data();
    assert_eq!((&dashboard["metrics"], dashboard["recentLogs"].is_array()), (&Value::Null, true));
}

#[tokio::test]
async fn what_two_coordinators_are_asked_at_once_with_one_key_is_made_once() {
    const ACTS: usize = 12;
    let redis = Topology::single().await;
    let cluster = Cluster::of(1).on_topology(&redis).coordinators(2).start().await;
    let admins = [cluster.coordinator(0).admin(), cluster.coordinator(1).admin()];

    let asks = (0..ACTS * 4).map(|n| {
        let (admin, act) = (&admins[n % 2], n / 4);
        async move { (act, sends(admin, "/block-ip", &format!("act-{act}"), &format!("203.0.113.{act}")).await) }
    });
    let mut made = vec![Vec::new(); ACTS];
    for (act, reply) in join_all(asks).await {
        match reply.status {
            409 => drop(reply.fails_with(409)),
            _ => made[act].push(reply.data()),
        }
    }
    for (act, blocks) in made.into_iter().enumerate() {
        assert!(!blocks.is_empty(), "somebody made act {act}");
        assert!(blocks.iter().all(|block| *block == blocks[0]), "{blocks:?}");
        for admin in &admins {
            let again = sends(admin, "/block-ip", &format!("act-{act}"), &format!("203.0.113.{act}")).await;
            assert_eq!(again.data(), blocks[0]);
        }
    }
    assert_eq!(recorded(&admins, "IP_BLOCKED").await, ACTS);
}
