//! One block list: what is blocked at one coordinator, or earned on one node, is in force on all; a hint is never believed.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Answer, Client, Cluster, Outcome, Redis, eventually};

const MALLORY: &str = "203.0.113.66";

async fn on_every_node(cluster: &Cluster, address: &str) -> Vec<Client> {
    join_all(cluster.nodes().iter().map(|node| node.caller(address).comes_in())).await
}

/// For each node whether it refuses the address as blocked.
async fn verdicts(cluster: &Cluster, address: &str) -> Vec<bool> {
    let outcomes = join_all(cluster.nodes().iter().map(|node| node.caller(address).connects())).await;
    outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Admitted(_) => false,
            refused => refused.refused_with(403, "address_blocked").head.status() == 403,
        })
        .collect()
}

#[tokio::test]
async fn a_manual_block_cuts_open_sockets_on_every_node_within_a_second_and_unblocking_lets_in_again() {
    let redis = Redis::start().await;
    let cluster = Cluster::of(3).on(&redis).start().await;
    let mut mallory = on_every_node(&cluster, MALLORY).await;
    let mut bystanders = on_every_node(&cluster, "203.0.113.67").await;

    let start = Instant::now();
    cluster.admin().blocks(MALLORY).await;
    for socket in &mut mallory {
        socket.closes_with(1008, "address_blocked").await;
    }
    let cut = start.elapsed();
    assert_eq!(verdicts(&cluster, MALLORY).await, [true; 3]);
    for bystander in &mut bystanders {
        bystander.is_still_served().await;
    }

    let start = Instant::now();
    cluster.admin().unblocks(MALLORY).await.succeeds();
    for node in cluster.nodes() {
        node.caller(MALLORY).comes_in_within(Duration::from_secs(1)).await;
    }
    eprintln!("a block cut the sockets on three nodes in {cut:?}, its end let in again in {:?}", start.elapsed());
    assert!(cut <= Duration::from_secs(1), "{cut:?}");
}

#[tokio::test]
async fn a_block_earned_on_one_node_cuts_the_socket_on_another() {
    let redis = Redis::start().await;
    let cluster = Cluster::of(3).on(&redis).policy(guarded()).start().await;
    let mut sockets = on_every_node(&cluster, MALLORY).await;
    let mut bystanders = on_every_node(&cluster, "203.0.113.67").await;

    for _ in 0..3 {
        sockets[0].sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
        sockets[0].is_refused("hostile_content").await;
    }
    let start = Instant::now();
    sockets[2].closes_with(1008, "address_blocked").await;
    eprintln!("the third offence on node 1 cut the socket on node 3 within {:?}", start.elapsed());
    sockets[0].closes_with(1008, "address_blocked").await;
    sockets[1].closes_with(1008, "address_blocked").await;

    assert_eq!(verdicts(&cluster, MALLORY).await, [true; 3]);
    for bystander in &mut bystanders {
        bystander.is_still_served().await;
    }
    cluster.admin().unblocks(MALLORY).await.succeeds();
    for node in cluster.nodes() {
        node.caller(MALLORY).comes_in_within(Duration::from_secs(1)).await.0.is_still_served().await;
    }
}

pub fn guarded() -> serde_json::Value {
    json!({
        "validation": { "content": { "mode": "reject" } },
        "security": { "blockSuspiciousIps": true, "suspiciousActivityThreshold": 3 },
    })
}

#[tokio::test]
async fn x20_two_coordinators_block_an_offender_of_all_nodes_once() {
    let redis = Redis::start().await;
    let cluster = Cluster::of(3).on(&redis).coordinators(2).policy(guarded()).start().await;
    let admins = [cluster.coordinator(0).admin(), cluster.coordinator(1).admin()];

    // One offence on each node is just enough; of eight on each, most are under way when the block comes.
    for (offender, offences) in [(MALLORY, 1), ("203.0.113.99", 8)] {
        let mut sockets = on_every_node(&cluster, offender).await;
        for socket in &mut sockets {
            for _ in 0..offences {
                socket.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
            }
        }
        for socket in &mut sockets {
            socket.closes_with(1008, "address_blocked").await;
        }
        let records = eventually("the record of the block", async || {
            let mut records = Vec::new();
            for admin in &admins {
                records.extend(admin.audit(&format!("eventType=IP_BLOCKED&ip={offender}")).await);
            }
            let stored = admins[0].get("/health").await.json()["auditLag"] == 0;
            (stored && !records.is_empty()).then_some(records)
        })
        .await;
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!(records[0]["metadata"]["relapse"], 0, "{}", records[0]);
        for admin in &admins {
            assert!(admin.lists_block(offender).await);
        }
    }
}

#[tokio::test]
async fn x41_blocks_and_unblocks_on_two_coordinators_leave_all_nodes_equal_within_a_second() {
    let redis = Redis::start().await;
    let cluster = Cluster::of(3).on(&redis).coordinators(2).start().await;
    let admins = [cluster.coordinator(0).admin(), cluster.coordinator(1).admin()];
    let addresses: Vec<String> = (1..=8).map(|n| format!("203.0.113.{n}")).collect();

    let quarrels = addresses.iter().enumerate().map(async |(index, address)| {
        let (one, other) = (&admins[index % 2], &admins[(index + 1) % 2]);
        one.blocks(address).await;
        for _ in 0..3 {
            tokio::join!(other.unblocks(address), one.blocks(address));
        }
    });
    join_all(quarrels).await;

    // The promise is a second; nothing tells from outside that there is nothing left to hear of.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut blocked = 0;
    for address in &addresses {
        let listed = admins[0].lists_block(address).await;
        assert_eq!(admins[1].lists_block(address).await, listed, "{address} at the second coordinator");
        assert_eq!(verdicts(&cluster, address).await, [listed; 3], "{address}");
        blocked += usize::from(listed);
    }
    eprintln!("x41: {blocked} of 8 addresses ended as blocked, equal on three nodes and two coordinators");
}

#[tokio::test]
async fn x40_r05_forged_and_garbled_messages_on_every_channel_change_nothing() {
    let redis = Redis::start().await;
    let cluster = Cluster::of(3).on(&redis).start().await;
    let admin = cluster.admin();
    admin.blocks(MALLORY).await;
    let mut alice = on_every_node(&cluster, "198.51.100.7").await;
    for node in cluster.nodes() {
        node.caller(MALLORY).gets_refused_eventually().await;
    }
    let before = admin.get("/config").await.data();

    let channels = redis.does(&["PUBSUB", "CHANNELS", "*"]).await.list();
    assert!(!channels.is_empty(), "the nodes listen to hints");
    let huge = "9".repeat(1 << 20);
    let forged: [&[u8]; 12] = [
        b"",
        b"0",
        b"1",
        b"-1",
        b"18446744073709551615",
        b"unblock 203.0.113.66",
        br#"{"lifted":"203.0.113.66/32"}"#,
        br#"{"put":{"ip":"198.51.100.7/32","reason":"forged","origin":"manual","by":"admin","since":0}}"#,
        br#"{"policy":{"enforce":"off"},"version":9999}"#,
        b"\xc1\xff\x00\xdf\xff\xff\xff\xff",
        b"\x82\xa2ip\xaf198.51.100.7/32\xa6origin\xa6manual",
        huge.as_bytes(),
    ];
    for channel in channels {
        let channel = channel.bytes();
        for message in forged.iter().chain(forged.iter().rev()) {
            let heard = redis.answers(&[b"PUBLISH", &channel, message]).await;
            assert!(matches!(heard, Answer::Number(_)), "{heard:?}");
        }
    }

    // A hint that is true comes after them on the same connection, so they were all read.
    admin.blocks("203.0.113.68").await;
    for node in cluster.nodes() {
        node.caller("203.0.113.68").gets_refused_eventually().await;
    }
    assert_eq!(verdicts(&cluster, MALLORY).await, [true; 3]);
    for socket in &mut alice {
        socket.is_still_served().await;
    }
    assert_eq!(verdicts(&cluster, "198.51.100.7").await, [false; 3]);
    let after = admin.get("/config").await.data();
    assert_eq!((&after["policy"], &after["version"]), (&before["policy"], &before["version"]));
    cluster.is_in_mode("normal", Duration::from_secs(1)).await;
}

#[tokio::test]
async fn x07_while_those_who_listen_are_thrown_out_again_and_again_a_block_still_cuts_in_time() {
    const PROMISED: Duration = Duration::from_millis(5500);
    let redis = Redis::start().await;
    let cluster = Cluster::of(3).on(&redis).start().await;
    let mut mallory = on_every_node(&cluster, MALLORY).await;

    // Whoever listens is thrown out again and again.
    let deaf = async {
        loop {
            redis.does(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let start = Instant::now();
    let cut = async {
        cluster.admin().blocks(MALLORY).await;
        for socket in &mut mallory {
            socket.closes_with(1008, "address_blocked").await;
        }
        start.elapsed()
    };
    let took = tokio::select! {
        took = cut => took,
        () = deaf => unreachable!("it never ends"),
    };
    eprintln!("x07: with subscriptions torn all the time the block cut the sockets on three nodes in {took:?}");
    assert!(took <= PROMISED, "{took:?}");
}
