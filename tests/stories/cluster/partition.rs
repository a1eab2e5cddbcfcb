//! One node whose way to Redis is bad, while the others' is good.

use std::time::{Duration, Instant};

use super::meter::{all_say, everywhere, hammers, message_limit, says, spread};
use crate::harness::{Cluster, Detour, Redis, Token, soon};

const LIMIT: usize = 30;
const NODES: usize = 3;
const MINUTE: Duration = Duration::from_secs(60);
const MALLORY: &str = "203.0.113.66";

async fn is_in_mode(cluster: &Cluster, mode: &str) -> Duration {
    let node = cluster.node(2);
    soon(mode, Duration::from_secs(2), async || (node.mode().await == mode).then_some(())).await.1
}

#[tokio::test]
async fn x06_a_node_cut_off_from_redis_admits_its_share_and_learns_of_blocks_within_a_second_of_the_end() {
    let redis = Redis::start().await;
    let detour = Detour::to(&redis).await;
    let cluster =
        Cluster::of(NODES).on(&redis).node_over(2, &detour).policy(message_limit(LIMIT, MINUTE)).start().await;
    let mut alice = everywhere(&cluster, "alice").await;
    let mut mallory = cluster.node(2).caller(MALLORY).comes_in().await;
    cluster.knows_its_size().await;

    detour.is_cut();
    mallory.is_still_served().await;
    is_in_mode(&cluster, "degraded").await;
    let passed = all_say(&mut alice, LIMIT).await;
    eprintln!("x06: with one of three nodes cut off {passed} messages passed, the limit is {LIMIT}");
    assert!((LIMIT..=LIMIT + LIMIT / NODES).contains(&passed), "{passed}");
    for node in &cluster.nodes()[..2] {
        assert_eq!(node.mode().await, "normal");
    }
    cluster.admin().blocks(MALLORY).await;
    cluster.node(0).caller(MALLORY).gets_refused_eventually().await;
    mallory.is_still_served().await;

    detour.heals();
    let healed = Instant::now();
    mallory.closes_with(1008, "address_blocked").await;
    let took = healed.elapsed();
    eprintln!("x06: a block of the time apart cut its socket {took:?} after the way was open");
    assert!(took <= Duration::from_secs(2), "normal in two seconds at most");
    is_in_mode(&cluster, "normal").await;
}

#[tokio::test]
async fn x04_a_slow_redis_is_not_waited_for() {
    let redis = Redis::start().await;
    let detour = Detour::to(&redis).await;
    let cluster = Cluster::of(NODES).on(&redis).node_over(2, &detour).start().await;
    let mut alice = cluster.node(2).caller("198.51.100.1").bearing(&Token::of("alice").signed()).comes_in().await;
    let before = hammers(&mut alice, Instant::now() + Duration::from_millis(300)).await;

    detour.slows_answers(Duration::from_millis(100));
    let failing_over = hammers(&mut alice, Instant::now() + Duration::from_secs(2)).await;
    assert_eq!(cluster.node(2).mode().await, "degraded");
    let after = hammers(&mut alice, Instant::now() + Duration::from_secs(1)).await;

    let figures = [&before, &failing_over, &after].map(|part| spread(part.iter().map(|one| one.took())));
    eprintln!("x04: round trips (p50, p99, max) before, in the first two seconds, after: {figures:?}");
    let added = failing_over.iter().filter(|one| one.took() > Duration::from_millis(30)).count();
    assert!(added <= 10, "{added} messages waited for redis");
    assert!(figures[1].2 <= Duration::from_millis(150), "the longest wait");
    assert!(figures[2].1 <= Duration::from_millis(30), "nobody waits any more");

    detour.heals();
    is_in_mode(&cluster, "normal").await;
    assert_eq!(says(&mut alice, 5).await, 5);
}

#[tokio::test]
async fn x07_a_node_that_hears_no_hint_learns_of_a_block_within_five_seconds_and_a_half() {
    let redis = Redis::start().await;
    let detour = Detour::to(&redis).await;
    let cluster = Cluster::of(NODES).on(&redis).node_over(2, &detour).start().await;
    let mut mallory = cluster.node(2).caller(MALLORY).comes_in().await;

    detour.swallows_hints();
    let start = Instant::now();
    cluster.admin().blocks(MALLORY).await;
    mallory.closes_with(1008, "address_blocked").await;

    eprintln!("x07: without a hint the block cut the socket after {:?}", start.elapsed());
    assert!(start.elapsed() <= Duration::from_millis(5500));
    is_in_mode(&cluster, "normal").await;
}
