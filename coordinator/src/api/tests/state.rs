//! What the cluster is doing: metrics, nodes, health; and the coordinator's own start and end.

use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use picket_shared::state::TrafficSnapshot;
use serde_json::{Value, json};
use std::time::Duration;

use super::office::{Office, START, eventually};

fn traffic(active: u64, events: u64, refusals: u64) -> TrafficSnapshot {
    TrafficSnapshot {
        total_connections: active + 1,
        active_connections: active,
        authenticated_connections: active,
        events,
        refusals,
        ..TrafficSnapshot::default()
    }
}

#[tokio::test]
async fn the_metrics_are_the_sum_of_the_nodes() {
    let office = Office::open().await;
    office.has_node("edge-1", traffic(2, 0, 0)).await;
    office.has_node("edge-2", traffic(3, 0, 0)).await;
    let metrics = office.admin().get("/metrics").await.data();
    assert_eq!(
        (&metrics["totalConnections"], &metrics["activeConnections"], &metrics["authenticatedConnections"]),
        (&json!(7), &json!(5), &json!(5))
    );
    assert_eq!((&metrics["nodes"][1]["id"], &metrics["nodes"][1]["activeConnections"]), (&json!("edge-2"), &json!(3)));
    for field in
        ["anonymousConnections", "blockedAttempts", "suspiciousActivities", "rateLimitViolations", "payloadViolations"]
    {
        assert_eq!(metrics[field], 0, "{field}");
    }
    assert_eq!(Timestamp::parse_rfc3339(metrics["lastUpdated"].as_str().unwrap()), Some(START));
}

#[tokio::test]
async fn the_members_are_listed() {
    let office = Office::open().await;
    office.has_node("edge-1", traffic(2, 0, 0)).await;
    let members = eventually("the first heartbeat", async || {
        let members = office.admin().get("/nodes").await.data();
        let coordinator = &members["coordinators"][0];
        (coordinator["id"] == "office-1" && coordinator["leads"] == true).then_some(members)
    })
    .await;
    let node = &members["nodes"][0];
    assert_eq!(
        (&node["id"], &node["mode"], &node["policyVersion"], &node["connections"]),
        (&json!("edge-1"), &json!("normal"), &json!(1), &json!(2))
    );
    let node = json!({ "id": "edge-1", "policyVersion": 1, "enforce": "on", "isSwitched": false, "onTrial": false });
    assert_eq!(office.admin().get("/config").await.data()["nodes"], json!([node]));
}

#[tokio::test]
async fn health_is_a_word_for_strangers_and_the_whole_for_the_administrator() {
    let office = Office::open().await;
    office.has_node("edge-1", traffic(2, 0, 0)).await;
    let word = office.stranger().get("/health").await;
    assert_eq!((word.status, word.json()), (200, json!({ "status": "healthy" })));
    let whole = office.admin().get("/health").await.json();
    assert_eq!(
        (&whole["status"], &whole["issues"], &whole["state"]["reachable"]),
        (&json!("healthy"), &json!([]), &json!(true))
    );
    assert_eq!((&whole["nodes"][0]["id"], &whole["metrics"]["activeConnections"]), (&json!("edge-1"), &json!(2)));
    assert!(whole["auditLag"].is_u64(), "{whole}");
    office.visitor("warden", "wrong").get("/health").await.fails_with(401);
}

#[tokio::test]
async fn x16_health_warns_of_a_clock_that_is_more_than_two_seconds_off() {
    let office = Office::open().await;
    for (offset_ms, issues) in [(2000, 0), (-2000, 0), (2001, 1), (-300_000, 1)] {
        office.has_node_that("edge-1", traffic(0, 0, 0), |node| node.clock_offset_ms = offset_ms).await;
        let health = office.admin().get("/health").await.json();
        let clocks = health["issues"].as_array().unwrap().iter().filter(|issue| issue["kind"] == "clock");
        let clocks: Vec<_> = clocks.collect();
        println!("x16: a clock that is {offset_ms} ms off: {clocks:?}");
        assert_eq!(clocks.len(), issues, "{health}");
    }
}

#[tokio::test]
async fn health_warns_beyond_the_thresholds() {
    let office = Office::builder()
        .policy(|policy| {
            policy.monitoring.alert_thresholds.high_connection_count = 10;
            policy.monitoring.alert_thresholds.high_message_rate = 100;
        })
        .start()
        .await;
    office.has_node("edge-1", traffic(11, 0, 0)).await;
    let kinds = |health: &Value| {
        health["issues"]
            .as_array()
            .unwrap()
            .iter()
            .map(|issue| issue["kind"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let health = office.admin().get("/health").await.json();
    assert_eq!((health["status"].as_str(), kinds(&health)), (Some("warning"), vec!["highConnectionCount".to_owned()]));
    assert_eq!(office.stranger().get("/health").await.json(), json!({ "status": "warning" }));

    // The rates need a heartbeat before and one after.
    let mut events = 0;
    let health = eventually("the rates", async || {
        events += 200;
        office.has_node("edge-1", traffic(11, events, events / 2)).await;
        let health = office.admin().get("/health").await.json();
        (kinds(&health).len() == 3).then_some(health)
    })
    .await;
    assert_eq!(kinds(&health), ["highConnectionCount", "highMessageRate", "errorRate"]);
}

#[tokio::test]
async fn health_warns_when_no_node_is_left() {
    let office = Office::open().await;
    office.clock.advance(Duration::from_secs(11));
    let health = office.admin().get("/health").await.json();
    assert_eq!((&health["status"], &health["issues"][0]["kind"]), (&json!("warning"), &json!("nodes")));
}

#[tokio::test]
async fn what_was_recorded_before_the_stop_is_there_after_the_start() {
    let office = Office::open().await;
    (0..300).for_each(|n| office.refuses(Reason::AddressBlocked, &format!("192.0.{}.{}", n / 250, n % 250)));
    let folder = office.closes().await;
    let url = format!("sqlite:{}", folder.path().join("data/audit.db").display());
    let store = crate::store::AuditStore::open(&url).await.unwrap();
    assert_eq!(store.total(&crate::store::Filter::default()).await.unwrap().count, 300);
}

#[tokio::test]
async fn the_instruments_are_there() {
    let office = Office::open().await;
    office.refuses(Reason::TokenInvalid, "192.0.2.1");
    office.audited("ip=192.0.2.1", 1).await;
    let text = office.metrics.render().unwrap();
    for name in ["picket_audit_records_stored", "picket_coordinator_logins", "picket_coordinator_requests"] {
        assert!(text.contains(name), "{name}: {text}");
    }
}

#[tokio::test]
async fn a_coordinator_by_itself_tells_probes_and_prometheus_how_it_is() {
    let office = Office::open().await;
    let asked = async |path: &str| {
        let answer = reqwest::get(format!("http://{}{path}", office.ops)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(asked("/livez").await.0, 200);
    let (status, readiness) = asked("/readyz").await;
    assert_eq!((status, readiness.contains("\"store\":true")), (200, true), "{readiness}");
    let (status, metrics) = asked("/metrics").await;
    assert_eq!((status, metrics.contains("# TYPE picket_coordinator_")), (200, true), "{metrics}");
    assert_eq!(asked("/api/security/metrics").await.0, 404);
}
