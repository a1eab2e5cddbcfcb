//! A coordinator that leads, stands still, and wakes up to find that another one has taken over.

use std::time::Duration;

use serde_json::json;

use super::audit::who_stores;
use super::blocks::guarded;
use crate::harness::{Cluster, Redis, eventually, soon};

const OFFENDER: &str = "203.0.113.66";

#[tokio::test]
async fn x20_a_leader_that_stood_still_does_not_judge_again_when_it_wakes_up() {
    let redis = Redis::start().await;
    let mut cluster = Cluster::of(1).on(&redis).coordinators(2).policy(guarded()).start().await;
    let leader = who_stores(&cluster).await;
    let stale = cluster.takes_out_coordinator(leader);
    let admin = cluster.admin();
    let mut offender = cluster.node(0).caller(OFFENDER).comes_in().await;

    stale.stands_still();
    for _ in 0..3 {
        offender.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
        offender.is_refused("hostile_content").await;
    }
    let (_, took) =
        soon("a block by the other", Duration::from_secs(13), async || admin.lists_block(OFFENDER).await.then_some(()))
            .await;
    offender.closes_with(1008, "address_blocked").await;
    stale.goes_on();
    let woken = stale.admin();
    eventually("a heartbeat of the one that woke up", async || {
        let members = woken.get("/nodes").await;
        (members.status == 200 && members.data()["coordinators"].as_array().is_some_and(|all| all.len() == 2))
            .then_some(())
    })
    .await;

    // Somebody else offends: the one that took over still judges, with a score that nobody splits.
    let mut second = cluster.node(0).caller("203.0.113.67").comes_in().await;
    for _ in 0..3 {
        second.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
        second.is_refused("hostile_content").await;
    }
    second.closes_with(1008, "address_blocked").await;
    // A record is on its way for a moment in which nothing lags yet.
    admin.audited("eventType=IP_BLOCKED", 2).await;
    let mut blocks = Vec::new();
    for (name, one) in [("woken", &woken), ("successor", &admin)] {
        let count = eventually("all is stored", async || {
            (one.get("/health").await.json()["auditLag"] == 0).then_some(one.audit("eventType=IP_BLOCKED").await.len())
        })
        .await;
        blocks.push((name, count));
    }
    eprintln!("x20: another led {took:?} after the leader stood still; blocks recorded: {blocks:?}");
    assert_eq!(blocks, [("woken", 0), ("successor", 2)], "each block is judged once, by who leads");
}
