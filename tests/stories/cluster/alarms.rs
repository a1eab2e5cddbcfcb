//! Whoever is on call is told when Redis is away, when it is too slow for a node, and when a node is lost, and not when one leaves.

use std::time::Duration;

use serde_json::{Value, json};

use super::audit::who_stores;
use crate::harness::{Admin, Cluster, Detour, Pager, Redis, eventually, soon};

/// Three heartbeats that fail, each of which may wait for a second.
const OUTAGE_TOLD_WITHIN: Duration = Duration::from_secs(8);
/// Ten seconds of silence, and a heartbeat.
const LOSS_TOLD_WITHIN: Duration = Duration::from_secs(14);

fn told(pager: &Pager) -> Value {
    json!({ "monitoring": { "notifications": [pager.entry()] } })
}

async fn issues(admin: &Admin, kind: &str) -> Vec<String> {
    let health = admin.get("/health").await.json();
    let issues = health["issues"].as_array().unwrap().iter().filter(|issue| issue["kind"] == kind);
    issues.map(|issue| issue["message"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn x02_a_redis_that_dies_is_told_while_it_is_away() {
    let (mut redis, mut pager) = (Redis::start().await, Pager::listens().await);
    let cluster = Cluster::of(1).on(&redis).coordinators(2).policy(told(&pager)).start().await;
    let leader = who_stores(&cluster).await;

    redis.dies();
    let (alarm, took) = pager.rings_soon_for("stateOutage", OUTAGE_TOLD_WITHIN).await;

    eprintln!("x02: {took:?} after the death of Redis: {alarm}");
    assert_eq!((&alarm["type"], &alarm["data"]["severity"]), (&json!("alarm.raised"), &json!("critical")));
    assert_eq!(alarm["data"]["coordinator"], format!("coordinator-{}", leader + 1), "who led tells");
    assert_eq!(issues(&cluster.admin(), "state").await.len(), 1);
}

#[tokio::test]
async fn x15_a_redis_that_permits_nothing_any_more_is_told() {
    let (redis, mut pager) = (Redis::start().await, Pager::listens().await);
    let _cluster = Cluster::of(1).on(&redis).policy(told(&pager)).start().await;

    redis.does(&["ACL", "SETUSER", "default", "-eval", "-evalsha", "-ping"]).await;

    let (alarm, took) = pager.rings_soon_for("stateOutage", OUTAGE_TOLD_WITHIN).await;
    eprintln!("x15: after {took:?}: {alarm}");
}

#[tokio::test]
async fn x24_a_node_that_is_killed_or_cut_off_is_told_and_one_that_says_goodbye_is_not() {
    let (redis, mut pager) = (Redis::start().await, Pager::listens().await);
    let detour = Detour::to(&redis).await;
    let mut cluster = Cluster::of(4).on(&redis).node_over(1, &detour).policy(told(&pager)).start().await;
    let (mut leaving, mut doomed) = (cluster.takes_out_node(3), cluster.takes_out_node(2));

    leaving.terminates();
    assert_eq!(leaving.exit_code().await, Some(0));
    doomed.dies();
    detour.is_cut();

    let (alarm, took) = pager.rings_soon_for("lostNodes", LOSS_TOLD_WITHIN).await;
    eprintln!("x24: after {took:?}: {alarm}");
    assert_eq!(alarm["type"], "alarm.raised");
    let admin = cluster.admin();
    let names = "not heard of any more, without a goodbye: edge-2, edge-3";
    soon("both in health", LOSS_TOLD_WITHIN, async || (issues(&admin, "lostNodes").await == [names]).then_some(()))
        .await;

    detour.heals();
    let name = "not heard of any more, without a goodbye: edge-3";
    eventually("one that came back", async || (issues(&admin, "lostNodes").await == [name]).then_some(())).await;
}

#[tokio::test]
async fn x04_a_node_for_which_redis_is_too_slow_is_told() {
    let (redis, mut pager) = (Redis::start().await, Pager::listens().await);
    let detour = Detour::to(&redis).await;
    let cluster = Cluster::of(2).on(&redis).node_over(1, &detour).policy(told(&pager)).start().await;

    detour.slows_answers(Duration::from_millis(100));

    let alarm = pager.rings_for("degradedNodes").await;
    eprintln!("x04: {alarm}");
    let named = ["node edge-2 decides without the shared state"];
    eventually("its name", async || (issues(&cluster.admin(), "node").await == named).then_some(())).await;
}
