//! Starting a node: on a Redis that is there, that is not there yet, or on none.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{HOME, Picket, PicketBuilder, Program, Redis, Upstream, eventually, soon};

fn node(upstream: &Upstream, redis: &Redis) -> PicketBuilder {
    Picket::guarding(upstream).with(json!({ "state": { "url": redis.url() } })).lone_node("edge-1")
}

#[test]
fn a_lone_role_on_memory_does_not_start_and_says_why() {
    let program = Program::new().with_admin();
    let file = program.writes_config(&json!({
        "environment": "production",
        "state": { "url": "memory://" },
        "node": {
            "listen": "127.0.0.1:0",
            "opsListen": "127.0.0.1:0",
            "routes": [{ "path": "/ws", "upstream": "ws://127.0.0.1:1/ws", "protocol": "json", "eventField": "type" }],
        },
        "coordinator": { "listen": "127.0.0.1:0" },
        "policy": { "cors": { "allowedOrigins": [HOME] } },
    }));

    for role in ["node", "coordinator"] {
        let said = program.runs(&[role, "--config", file.to_str().unwrap()]).refuses_the_configuration();
        assert!(said.contains("state.url") && said.contains("redis://"), "{role}: how to mend it is not in:\n{said}");
    }
}

#[tokio::test]
async fn a_second_coordinator_on_the_same_store_refuses_to_start() {
    let redis = Redis::start().await;
    let upstream = Upstream::echo().await;
    let plan = Picket::guarding(&upstream).with(json!({ "state": { "url": redis.url() } }));
    let mut first = plan.lone_coordinator("coordinator-1").start().await;

    let program = Program::new().with_admin();
    let config = changed(&first, "coordinator-2", |_| {});
    let file = program.writes_config(&config);
    let second = program.runs(&["coordinator", "--config", file.to_str().unwrap()]);

    assert!(second.code.is_some_and(|code| code != 0), "{}", second.everything());
    assert!(second.stderr.contains("another coordinator"), "it says why: {}", second.everything());
    assert!(first.is_running());
    first.admin().get("/metrics").await.succeeds();
}

/// the configuration of a process, for another one
fn changed(process: &Picket, id: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut config: Value = serde_json::from_slice(&std::fs::read(process.config_file()).unwrap()).unwrap();
    config["node"]["id"] = id.into();
    change(&mut config);
    config
}

#[tokio::test]
async fn a_second_coordinator_of_the_same_id_refuses_to_start_and_one_that_comes_back_does_not() {
    let redis = Redis::start().await;
    let upstream = Upstream::echo().await;
    let plan = Picket::guarding(&upstream).with(json!({ "state": { "url": redis.url() } }));
    let mut first = plan.clone().lone_coordinator("coordinator-1").start().await;
    let seen = async || first.admin().get("/nodes").await.data()["coordinators"][0]["lastSeen"].clone();
    eventually("its first heartbeat", async || seen().await.is_string().then_some(())).await;

    let program = Program::new().with_admin();
    let store = program.writes("second.db", "").display().to_string();
    let config = changed(&first, "coordinator-1", |config| {
        config["coordinator"]["auditStore"] = format!("sqlite:{store}").into();
    });
    let file = program.writes_config(&config);
    let said = program.runs(&["coordinator", "--config", file.to_str().unwrap()]).refuses_the_configuration();
    assert!(said.contains("coordinator-1") && said.contains("node.id"), "how to mend it is not in:\n{said}");
    assert!(first.is_running());

    first.dies();
    let again = plan.lone_coordinator("coordinator-1").after(&first);
    let start = Instant::now();
    let again = again.start().await;
    eprintln!("a coordinator that died was back under its id after {:?}", start.elapsed());
    again.admin().get("/nodes").await.succeeds();
}

#[tokio::test]
async fn x31_without_redis_and_snapshot_a_node_is_not_ready_until_redis_comes() {
    let upstream = Upstream::echo().await;
    let mut redis = Redis::away();
    let node = node(&upstream, &redis).start_unready().await;
    let unready = node.ops("/readyz").await;
    assert_eq!(unready.status, 503, "{}", unready.text);
    assert_eq!(node.ops("/livez").await.status, 200);

    redis.returns().await;
    let (_, took) = soon("readiness", Duration::from_secs(5), async || {
        let readiness = node.ops("/readyz").await;
        (readiness.status == 200 && readiness.json()["mode"] == "normal").then_some(())
    })
    .await;
    eprintln!("x31: ready {took:?} after redis came");
    node.caller("198.51.100.7").comes_in().await.is_still_served().await;
}

#[tokio::test]
async fn x31_a_node_that_may_start_without_state_is_ready_in_degraded() {
    let upstream = Upstream::echo().await;
    let redis = Redis::away();
    let node = node(&upstream, &redis).node(json!({ "startWithoutState": true })).start_unready().await;

    soon("readiness", Duration::from_secs(5), async || (node.ops("/readyz").await.status == 200).then_some(())).await;
    assert_eq!(node.mode().await, "degraded");
    node.caller("198.51.100.7").comes_in().await.is_still_served().await;
}
