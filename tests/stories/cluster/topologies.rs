//! One story on every Redis that one may run: nodes and a coordinator, each with the permissions of `deploy/redis-acl.conf`,
//! share budgets and blocks, and ask for nothing that they may not.

use std::time::{Duration, Instant};

use serde_json::json;

use super::meter::{all_say, everywhere, message_limit};
use crate::harness::{Cluster, DOWN_AFTER, Token, Topology, eventually, soon};

const LIMIT: usize = 30;
const MINUTE: Duration = Duration::from_secs(60);
const MALLORY: &str = "203.0.113.66";

async fn one_budget_and_one_block_list(topology: Topology) {
    let cluster = Cluster::of(2).on_topology(&topology).policy(message_limit(LIMIT, MINUTE)).start().await;

    let mut alice = everywhere(&cluster, "alice").await;
    assert_eq!(all_say(&mut alice, 25).await, LIMIT, "over both nodes");

    let mut mallory = cluster.node(1).caller(MALLORY).comes_in().await;
    let start = Instant::now();
    cluster.admin().blocks(MALLORY).await;
    mallory.closes_with(1008, "address_blocked").await;
    eprintln!("a block cut the socket on another node after {:?}", start.elapsed());
    assert!(start.elapsed() <= Duration::from_secs(1));
    cluster.node(0).caller(MALLORY).gets_refused_eventually().await;
    cluster.admin().unblocks(MALLORY).await.succeeds();
    cluster.node(0).caller(MALLORY).comes_in_within(Duration::from_secs(1)).await.0.is_still_served().await;

    let admin = cluster.admin();
    eventually("every record in the store", async || {
        let health = admin.get("/health").await.json();
        (health["auditLag"] == 0 && !admin.audit("eventType=RATE_LIMIT_EXCEEDED").await.is_empty()).then_some(())
    })
    .await;
    nothing_more_was_asked_for(&topology).await;
}

/// Besides a node that came before every coordinator, and offered its file's policy.
async fn nothing_more_was_asked_for(topology: &Topology) {
    let mut refusals = topology.refusals().await;
    refusals.retain(|refusal| refusal != "picket-node key picket:{policy}:versions");
    assert_eq!(refusals, Vec::<String>::new());
}

#[tokio::test]
async fn on_a_single_redis_with_a_user_for_each_role() {
    one_budget_and_one_block_list(Topology::single().await).await;
}

#[tokio::test]
async fn x13_on_a_cluster_of_three_masters() {
    one_budget_and_one_block_list(Topology::cluster().await).await;
}

#[tokio::test]
async fn behind_sentinels() {
    one_budget_and_one_block_list(Topology::sentinel().await).await;
}

#[tokio::test]
async fn on_valkey() {
    one_budget_and_one_block_list(Topology::valkey().await).await;
}

#[tokio::test]
async fn r04_over_tls_with_an_authority_of_ones_own() {
    one_budget_and_one_block_list(Topology::with_tls().await).await;
}

#[tokio::test]
async fn r04_over_tls_a_redis_that_nobody_known_vouches_for_gets_no_password() {
    let topology = Topology::with_tls().await;
    let cluster = Cluster::of(1).on_topology(&topology).start().await;
    let trusting_the_system = cluster
        .another_node("edge-2")
        .with(json!({ "state": { "caFile": null } }))
        .node(json!({ "startWithoutState": true }));

    let node = trusting_the_system.start().await;

    assert_eq!(node.mode().await, "degraded");
    assert!(node.log().iter().any(|line| line.contains("UnknownIssuer")), "it says why");
}

#[tokio::test]
async fn x09_when_the_master_behind_sentinels_hangs_nodes_are_normal_again_on_the_replica() {
    let topology = Topology::sentinel().await;
    let cluster = Cluster::of(2).on_topology(&topology).policy(message_limit(LIMIT, MINUTE)).start().await;
    let mut alice = everywhere(&cluster, "alice").await;
    let before = all_say(&mut alice, 5).await;
    cluster.admin().blocks(MALLORY).await;
    cluster.node(0).caller(MALLORY).gets_refused_eventually().await;
    cluster.knows_its_size().await;

    topology.master().pauses();
    let hung = Instant::now();
    cluster.is_in_mode("degraded", Duration::from_secs(3)).await;
    let noticed = hung.elapsed();
    for socket in &mut alice {
        socket.is_still_served().await;
    }
    cluster.node(1).caller(MALLORY).connects().await.refused_with(403, "address_blocked");
    let promised = DOWN_AFTER + Duration::from_secs(3);
    let degraded = cluster.is_in_mode("normal", promised).await;
    eprintln!(
        "x09: {noticed:?} after the master hung, degraded for {degraded:?}; promised {promised:?} (down-after {DOWN_AFTER:?})"
    );

    let admin = cluster.admin();
    // A coordinator has a connection of its own, and finds the replica by itself.
    let (blocks, _) = soon("an answer of the coordinator", Duration::from_secs(3), async || {
        let reply = admin.get("/blocks").await;
        (reply.status == 200).then_some(reply.text)
    })
    .await;
    assert!(blocks.contains(MALLORY), "the replica knew it: {blocks}");
    let passed = all_say(&mut alice, LIMIT).await;
    eprintln!("x09: {before} messages passed before, {passed} after, the limit is {LIMIT}");
    assert!(before + passed <= 2 * LIMIT);
    let mut oscar = cluster.node(1).caller("203.0.113.67").comes_in().await;
    soon("a block on the new master", Duration::from_secs(3), async || {
        let body = json!({ "ip": "203.0.113.67", "reason": "a story" });
        (admin.post("/block-ip", body).await.status < 300).then_some(())
    })
    .await;
    oscar.closes_with(1008, "address_blocked").await;
}

#[tokio::test]
async fn x15_nodes_whose_user_is_revoked_keep_their_sockets_and_do_not_storm() {
    const NODES: usize = 2;
    let topology = Topology::single().await;
    let cluster = Cluster::of(NODES).on_topology(&topology).start().await;
    let token = Token::of("alice").signed();
    let mut alice = cluster.node(0).caller("198.51.100.1").bearing(&token).comes_in().await;
    let redis = topology.master();
    // The login that was refused is counted, whether or not the connection was.
    let attempts = async || {
        let stats = redis.does(&["INFO", "stats"]).await.text();
        let count = |name: &str| stats.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<i64>().ok());
        count("total_connections_received:").expect("how many connections redis received")
    };

    redis.does(&["ACL", "SETUSER", "picket-node", "off"]).await;
    redis.does(&["CLIENT", "KILL", "USER", "picket-node"]).await;
    cluster.is_in_mode("degraded", Duration::from_secs(3)).await;
    let (start, before) = (Instant::now(), attempts().await);
    let mut most_in_a_second = 0;
    let mut last = before;
    for second in 1..=5 {
        tokio::time::sleep_until((start + Duration::from_secs(second)).into()).await;
        // The story's own question is a connection too.
        let now = attempts().await;
        most_in_a_second = most_in_a_second.max(now - last - 1);
        last = now;
    }
    alice.is_still_served().await;
    eprintln!(
        "x15: with their user revoked {NODES} nodes connected {} times in 5 s, at most {most_in_a_second} in one",
        last - before - 5
    );
    assert!(last > before + 5, "they try");
    // Four each in a second; the others of the cluster are connected.
    assert!(most_in_a_second <= 4 * NODES as i64, "{most_in_a_second}");

    redis.does(&["ACL", "SETUSER", "picket-node", "on"]).await;
    cluster.is_in_mode("normal", Duration::from_secs(5)).await;
    alice.is_still_served().await;
}
