//! A Redis that comes back, or is emptied under the nodes: what each holds is told again, and until then no cap gives way.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::meter::{message_limit, says};
use crate::harness::{Client, Cluster, Outcome, Redis, Token};

const NODES: usize = 3;
const CAP: usize = 9;

fn cap() -> Value {
    json!({ "security": { "maxAnonymousConnections": CAP } })
}

/// So many on each node ask at once; who came in.
async fn race(cluster: &Cluster, on_each: usize, round: usize) -> Vec<Client> {
    let racers = (0..on_each * NODES)
        .map(|number| cluster.node(number % NODES).caller(&format!("10.8.{round}.{number}")).connects());
    let came_in = |outcome| match outcome {
        Outcome::Admitted(client) => Some(*client),
        Outcome::Refused(_) => None,
    };
    join_all(racers).await.into_iter().filter_map(came_in).collect()
}

/// Asks until nothing is free any more, and a while longer; after how many races, with never more than so many inside.
async fn races_on(cluster: &Cluster, inside: &mut Vec<Client>, until: Instant, bound: usize) -> usize {
    let mut round = 1;
    while Instant::now() < until {
        inside.extend(race(cluster, 2, round).await);
        assert!(inside.len() <= bound, "{} are in, the cap is {CAP}", inside.len());
        round += 1;
    }
    round
}

#[tokio::test]
async fn x05_a_cap_raced_from_three_nodes_from_the_return_of_redis_on_holds() {
    let mut redis = Redis::start().await;
    let cluster = Cluster::of(NODES).on(&redis).policy(cap()).start().await;
    let mut inside = race(&cluster, 2, 0).await;
    cluster.knows_its_size().await;
    redis.dies();
    cluster.is_in_mode("degraded", Duration::from_secs(3)).await;
    redis.returns().await;

    let until = Instant::now() + Duration::from_secs(5);
    let rounds = races_on(&cluster, &mut inside, until, CAP).await;
    eprintln!("x05: {} are in after {rounds} races from the return on, the cap is {CAP}", inside.len());
    assert_eq!(inside.len(), CAP);
}

#[tokio::test]
async fn x08_a_cap_raced_from_three_nodes_right_after_flushall_gives_way_by_no_more_than_their_shares() {
    // Until all have told what they hold, a node knows only its own: who holds less than a share may fill it.
    const BOUND: usize = CAP + (NODES - 1) * CAP / NODES;
    let redis = Redis::start().await;
    let cluster = Cluster::of(NODES).on(&redis).policy(cap()).start().await;
    let mut inside = race(&cluster, 2, 0).await;
    cluster.knows_its_size().await;

    for time in 0..2 {
        redis.flushes().await;
        let until = Instant::now() + Duration::from_secs(3);
        let rounds = races_on(&cluster, &mut inside, until, BOUND).await;
        eprintln!("x08: {} are in after {rounds} races from FLUSHALL {time} on, the cap is {CAP}", inside.len());
        if let Some(leaver) = inside.pop() {
            leaver.leaves().await;
        }
    }
}

#[tokio::test]
async fn x02_a_node_whose_redis_dies_right_after_its_start_does_not_think_that_it_is_alone() {
    const LIMIT: usize = 30;
    let mut redis = Redis::start().await;
    let limit = message_limit(LIMIT, Duration::from_secs(60));
    let cluster = Cluster::of(NODES).on(&redis).policy(limit).start().await;
    cluster.knows_its_size().await;
    let newcomer = cluster.another_node("edge-4").start().await;
    redis.dies();

    let mut alice = newcomer.caller("198.51.100.1").bearing(&Token::of("alice").signed()).comes_in().await;
    let passed = says(&mut alice, LIMIT).await;
    eprintln!("x02: the newcomer, one of four, lets {passed} messages through, the limit is {LIMIT}");
    assert!(passed <= LIMIT.div_ceil(NODES + 1), "{passed}");
}
