//! Another coordinator leads: the one that did stands still and wakes up, or it is dead.

use std::time::Duration;

use serde_json::{Value, json};

use super::audit::{TAKEOVER, who_stores};
use super::blocks::guarded;
use super::store::leader;
use crate::harness::{Admin, Client, Cluster, Postgres, Redis, eventually, soon};

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
    offends(&mut offender, 3).await;
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
    offends(&mut second, 3).await;
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

#[tokio::test]
async fn x20_who_leads_next_on_the_same_postgres_goes_on_with_the_points_and_the_blocks_of_the_dead_one() {
    const RELAPSER: &str = "203.0.113.67";
    let redis = Redis::start().await;
    let postgres = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    let store = json!({ "coordinator": { "auditStore": postgres.database() } });
    let cluster = Cluster::of(1).on(&redis).coordinators(2).with(store).policy(guarded());
    let mut cluster = cluster.start().await;
    let doomed = leader(&cluster).await;
    let mut doomed = cluster.takes_out_coordinator(doomed);
    let (first, admin) = (doomed.admin(), cluster.admin());

    // Under the first: a block, and points that are one too few for another.
    let mut relapser = cluster.node(0).caller(RELAPSER).comes_in().await;
    offends(&mut relapser, 3).await;
    relapser.closes_with(1008, "address_blocked").await;
    let mut offender = cluster.node(0).caller(OFFENDER).comes_in().await;
    offends(&mut offender, 2).await;
    eventually("the points at the first", async || (score(&first, OFFENDER).await > 1.9).then_some(())).await;
    let block = first.audited(&format!("eventType=IP_BLOCKED&ip={RELAPSER}"), 1).await.remove(0);
    doomed.dies();

    // Under the next: the one that was missing.
    offends(&mut offender, 1).await;
    let (_, took) =
        soon("a block by the next", TAKEOVER, async || admin.lists_block(OFFENDER).await.then_some(())).await;
    offender.closes_with(1008, "address_blocked").await;
    let of_offender = admin.audited(&format!("eventType=IP_BLOCKED&ip={OFFENDER}"), 1).await.remove(0);
    // Some of it has decayed meanwhile.
    let points = of_offender["metadata"]["parts"]["hostile_content"].as_f64().unwrap();
    assert!((2.9..=3.0).contains(&points), "{of_offender}");
    assert_eq!((&block["metadata"]["relapse"], &of_offender["metadata"]["relapse"]), (&json!(0), &json!(0)));

    // And who was blocked by the dead one is blocked longer by the next.
    admin.unblocks(RELAPSER).await.succeeds();
    let mut relapser = cluster.node(0).caller(RELAPSER).comes_in_eventually().await;
    eventually("a clean sheet", async || (score(&admin, RELAPSER).await == 0.0).then_some(())).await;
    offends(&mut relapser, 3).await;
    relapser.closes_with(1008, "address_blocked").await;
    let relapse = admin.audited(&format!("eventType=IP_BLOCKED&ip={RELAPSER}"), 2).await.remove(0);
    let millis = |record: &Value| record["metadata"]["durationMs"].as_u64().unwrap();
    assert_eq!((&relapse["metadata"]["relapse"], millis(&relapse)), (&json!(1), 4 * millis(&block)), "{relapse}");
    eprintln!("x20: the next leader blocked {took:?} after the death of the first");
}

async fn offends(client: &mut Client, times: usize) {
    for _ in 0..times {
        client.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
        client.is_refused("hostile_content").await;
    }
}

async fn score(admin: &Admin, address: &str) -> f64 {
    admin.get(&format!("/reputation/{address}")).await.data()["score"].as_f64().unwrap()
}
