//! Promise and truth of a limit in service: what went beyond it is counted, and while Redis answers that is nothing.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::meter::{all_hammer, all_say, everywhere, message_limit, worst_window};
use super::outage::NOTICED_WITHIN;
use crate::harness::{Cluster, Redis, soon};

const LIMIT: usize = 30;
const NODES: usize = 3;

/// A counter's sum over labels and nodes.
async fn counted(cluster: &Cluster, name: &str) -> usize {
    join_all(cluster.nodes().iter().map(|node| node.metric(name))).await.into_iter().sum::<f64>() as usize
}

#[tokio::test]
async fn x01_attackers_on_three_nodes_overshoot_nothing_while_redis_answers() {
    const WINDOW: Duration = Duration::from_millis(1200);
    let redis = Redis::start().await;
    let cluster = Cluster::of(NODES).on(&redis).policy(message_limit(LIMIT, WINDOW)).start().await;
    let mut alice = everywhere(&cluster, "alice").await;

    let passages = all_hammer(&mut alice, Instant::now() + WINDOW * 3).await;

    let alone = counted(&cluster, "picket_limits_alone_total").await;
    eprintln!("{} passages, {alone} of them let through by a node alone", passages.len());
    // On a machine that is too busy to answer in time nodes decide alone, and only that can overshoot.
    let told = counted(&cluster, "picket_limits_overshoot_total").await;
    assert!(told <= alone, "{told} beyond the limit");
    assert!(worst_window(&passages, WINDOW) <= LIMIT + alone);
    let metrics = cluster.node(0).ops("/metrics").await.text;
    for line in [
        r#"picket_limits_overshoot_total{picket_limit="messages""#,
        r#"picket_limits_overshoot_max{picket_limit="connections""#,
        r#"picket_limits_alone_total{picket_limit="places""#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn x03_what_nodes_let_through_alone_counts_after_the_heal_and_the_excess_is_told() {
    let redis = Redis::start().await;
    let cluster = Cluster::of(NODES).on(&redis).policy(message_limit(LIMIT, Duration::from_secs(60))).start().await;
    let mut alice = everywhere(&cluster, "alice").await;
    let before = all_say(&mut alice, 6).await;
    cluster.knows_its_size().await;

    redis.pauses();
    let during = all_say(&mut alice, LIMIT).await;
    cluster.is_in_mode("degraded", NOTICED_WITHIN).await;
    let alone = counted(&cluster, "picket_limits_alone_total").await;
    redis.resumes();
    cluster.is_in_mode("normal", Duration::from_secs(10)).await;

    let excess = before + during - LIMIT;
    let ((), took) = soon("the excess at /metrics", Duration::from_secs(10), async || {
        // Somebody has to ask Redis before a node knows that it answers.
        all_say(&mut alice, 1).await;
        (counted(&cluster, "picket_limits_overshoot_total").await > 0).then_some(())
    })
    .await;
    // In this order: both grow while nodes still report.
    let most = counted(&cluster, "picket_limits_overshoot_max").await;
    let told = counted(&cluster, "picket_limits_overshoot_total").await;
    eprintln!(
        "x03: {before} passed before and {during} while redis stood still, {alone} of them by a node alone; the limit \
         is {LIMIT}; {told} told as beyond it after {took:?}, {most} at once"
    );
    assert!(alone > 0 && told <= excess && most <= told, "{told} of {excess}, {most} at once, {alone} alone");
}
