//! One block list: what is blocked at one coordinator, or earned on one node, is in force on all; a hint is never believed.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::audit::who_stores;
use crate::harness::{Answer, Client, Cluster, Outcome, Redis, eventually, soon};

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
async fn x20_offences_that_different_coordinators_store_add_up_to_one_score() {
    let redis = Redis::start().await;
    let cluster = Cluster::of(2).on(&redis).coordinators(2).policy(guarded()).start().await;
    let admins = [cluster.coordinator(0).admin(), cluster.coordinator(1).admin()];
    let mut offenders = Vec::new();
    for number in 0..5 {
        offenders.push(cluster.node(number % 2).caller(&format!("203.0.113.{number}")).comes_in().await);
    }

    // One after the other, each stored before the next, so that now one and now the other coordinator takes it.
    for _ in 0..3 {
        for offender in &mut offenders {
            offender.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
            offender.is_refused("hostile_content").await;
            eventually("the offence stored", async || {
                (admins[0].get("/health").await.json()["auditLag"] == 0).then_some(())
            })
            .await;
        }
    }

    let mut stored = Vec::new();
    for admin in &admins {
        stored.push(admin.audit("eventType=SUSPICIOUS_ACTIVITY&limit=100").await.len());
    }
    eprintln!("x20: the coordinators stored {stored:?} offences");
    for offender in &mut offenders {
        offender.closes_with(1008, "address_blocked").await;
    }
}

#[tokio::test]
async fn x20_when_the_coordinator_that_judges_dies_the_other_blocks_within_13_seconds() {
    let redis = Redis::start().await;
    let mut cluster = Cluster::of(1).on(&redis).coordinators(2).policy(guarded()).start().await;
    let judge = who_stores(&cluster).await;
    let mut offender = cluster.node(0).caller(MALLORY).comes_in().await;

    cluster.takes_out_coordinator(judge).dies();
    for _ in 0..3 {
        offender.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
        offender.is_refused("hostile_content").await;
    }

    let admin = cluster.admin();
    let (_, took) =
        soon("a block by the other", Duration::from_secs(13), async || admin.lists_block(MALLORY).await.then_some(()))
            .await;
    eprintln!("x20: blocked {took:?} after the coordinator that judged died");
    offender.closes_with(1008, "address_blocked").await;
}

#[tokio::test]
async fn what_is_forgiven_at_a_stand_by_while_the_leader_lags_stays_forgiven() {
    let redis = Redis::start().await;
    let mut cluster = Cluster::of(1).on(&redis).coordinators(2).policy(guarded()).start().await;
    let leader = who_stores(&cluster).await;
    let leader = cluster.takes_out_coordinator(leader);
    let (stand_by, node) = (cluster.admin(), cluster.node(0));
    let mut forgiven = node.caller(MALLORY).comes_in().await;

    // The offences wait in the stream while an administrator blocks the address and thinks better of it.
    leader.stands_still();
    attacks(&mut forgiven).await;
    stand_by.blocks(MALLORY).await;
    forgiven.closes_with(1008, "address_blocked").await;
    stand_by.unblocks(MALLORY).await.succeeds();
    let mut forgiven = node.caller(MALLORY).comes_in_eventually().await;
    leader.goes_on();

    // Records are scored in their order: when the later offender is cut, what was forgiven was weighed.
    let mut other = node.caller("203.0.113.67").comes_in().await;
    attacks(&mut other).await;
    other.closes_with(1008, "address_blocked").await;
    leader.admin().audited(&format!("eventType=IP_UNBLOCKED&ip={MALLORY}"), 1).await;
    assert_eq!(leader.admin().audit(&format!("eventType=SUSPICIOUS_ACTIVITY&ip={MALLORY}")).await.len(), 3);
    forgiven.is_still_served().await;
    assert!(!stand_by.lists_block(MALLORY).await, "{}", stand_by.get("/blocks").await.text);

    // Three more are too many, as they are for anybody.
    attacks(&mut forgiven).await;
    forgiven.closes_with(1008, "address_blocked").await;
}

async fn attacks(client: &mut Client) {
    for _ in 0..3 {
        client.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
        client.is_refused("hostile_content").await;
    }
}

#[tokio::test]
async fn x42_garbage_among_the_blocks_is_passed_over() {
    let redis = Redis::start().await;
    let cluster = Cluster::of(2).on(&redis).start().await;
    let admin = cluster.admin();
    admin.blocks(MALLORY).await;
    let mut alice = on_every_node(&cluster, "198.51.100.7").await;

    for key in redis.keys().await {
        if !String::from_utf8_lossy(&key).contains("blocks") {
            continue;
        }
        for garbage in [&b""[..], b"\xc1", b"\xdf\xff\xff\xff\xff", b"text", b"\x82\xa2ip\xc0"] {
            match redis.answers(&[b"TYPE", &key]).await.bytes().as_slice() {
                b"hash" => drop(redis.answers(&[b"HSET", &key, b"198.51.100.7/32", garbage]).await),
                b"zset" => drop(redis.answers(&[b"ZADD", &key, b"9999999999999", garbage]).await),
                b"stream" => drop(redis.answers(&[b"XADD", &key, b"*", b"change", garbage]).await),
                _ => {}
            }
        }
    }
    for channel in redis.does(&["PUBSUB", "CHANNELS", "*"]).await.list() {
        redis.answers(&[b"PUBLISH", &channel.bytes(), b"1"]).await;
    }

    admin.blocks("203.0.113.68").await;
    for node in cluster.nodes() {
        node.caller("203.0.113.68").gets_refused_eventually().await;
        node.caller(MALLORY).connects().await.refused_with(403, "address_blocked");
        assert_eq!(node.metric("picket_panics_total").await, 0.0);
    }
    for socket in &mut alice {
        socket.is_still_served().await;
    }
    let newcomer = cluster.another_node("edge-3").start().await;
    for address in [MALLORY, "203.0.113.68"] {
        newcomer.caller(address).gets_refused_eventually().await;
    }
    newcomer.caller("198.51.100.8").comes_in().await;
    assert!(admin.lists_block(MALLORY).await && admin.lists_block("203.0.113.68").await);
    let alarms: usize = cluster
        .nodes()
        .iter()
        .map(|node| node.log().iter().filter(|line| line.contains("ERROR") && line.contains("cannot be read")).count())
        .sum();
    eprintln!("x42: 0 panics, {alarms} alarms in the logs of two nodes");
    assert!(alarms > 0, "garbage is said");
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
    eprintln!("x40: {} forged messages on each channel changed nothing", 2 * forged.len());
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
