//! The audit trail over two coordinators: a record is in one of their stores at least, and in none of them twice.

use std::cell::Cell;
use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::meter::says;
use crate::harness::{Admin, Answer, Client, Cluster, Picket, Postgres, Redis, eventually, soon};

pub const TAKEOVER: Duration = Duration::from_secs(15);

#[tokio::test]
async fn x18_a_coordinator_killed_while_audit_flows_loses_nothing_and_repeats_nothing() {
    let redis = Redis::start().await;
    let mut cluster = Cluster::of(3).on(&redis).coordinators(2).start().await;
    let doomed_index = who_stores(&cluster).await;
    let mut doomed = cluster.takes_out_coordinator(doomed_index);
    let (doomed_admin, admin) = (doomed.admin(), cluster.admin());

    let is_over = Cell::new(false);
    let (offenders, killed) = tokio::join!(offend(cluster.nodes(), &is_over), async {
        eventually("records at the doomed coordinator", async || {
            (stored(&doomed_admin).await.len() >= 20).then_some(())
        })
        .await;
        doomed.dies();
        let killed = Instant::now();
        tokio::time::sleep(Duration::from_millis(200)).await;
        is_over.set(true);
        killed
    });

    let left = TAKEOVER.saturating_sub(killed.elapsed());
    soon("nothing waits to be stored", left, async || {
        (admin.get("/health").await.json()["auditLag"] == 0).then_some(())
    })
    .await;
    eprintln!("x18: all of {} records were taken over {:?} after the kill", offenders.len(), killed.elapsed());

    cluster.brings_back_coordinator(&format!("coordinator-{}", doomed_index + 1), &doomed).await;
    let stores = [stored(&admin).await, stored(&cluster.coordinator(1).admin()).await];
    for store in &stores {
        let ids: HashSet<_> = store.iter().map(|record| record["id"].to_string()).collect();
        assert_eq!((ids.len(), addresses(store).len()), (store.len(), store.len()), "a record stands twice in a store");
    }
    let [first, second] = stores.map(|store| addresses(&store));
    let both = first.intersection(&second).count();
    eprintln!("x18: {} in one store, {} in the other, {both} in both", first.len(), second.len());
    assert!(!first.is_empty() && !second.is_empty(), "both coordinators stored records");
    let lost: Vec<_> = offenders.iter().filter(|one| !first.contains(*one) && !second.contains(*one)).collect();
    assert!(lost.is_empty(), "{} of {} records are lost: {lost:?}", lost.len(), offenders.len());
    for node in cluster.nodes() {
        assert_eq!(node.metric("picket_audit_dropped_total").await, 0.0);
    }
}

#[tokio::test]
async fn x19_what_happens_without_a_coordinator_is_stored_when_one_comes() {
    without_a_coordinator(json!({})).await;
}

#[tokio::test]
async fn x19_what_happens_without_a_coordinator_is_stored_in_postgres_when_one_comes() {
    let postgres = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    without_a_coordinator(json!({ "coordinator": { "auditStore": postgres.database() } })).await;
}

async fn without_a_coordinator(store: Value) {
    const OFFENDERS: usize = 400;
    /// About a hundred a second.
    const PAUSE: Duration = Duration::from_millis(10);
    /// What comes with pauses is stored so many times faster.
    const FASTER: u32 = 5;
    /// As a busy machine has it; a message that waits for a coordinator would wait for seconds.
    const SLOWEST: Duration = Duration::from_secs(2);
    let redis = Redis::start().await;
    let mut cluster = Cluster::of(3).on(&redis).with(store).start().await;
    let mut coordinator = cluster.takes_out_coordinator(0);
    coordinator.dies();

    let mut alice = cluster.node(0).caller("198.51.100.7").comes_in().await;
    let start = Instant::now();
    let mut offenders = Vec::new();
    while offenders.len() < OFFENDERS {
        offenders.push(offends(cluster.nodes(), offenders.len()).await);
        tokio::time::sleep(PAUSE).await;
    }
    let arrived = start.elapsed();
    let mut slowest = slowest_message(&mut alice).await;

    cluster.brings_back_coordinator("coordinator-1", &coordinator).await;
    let (admin, back) = (cluster.admin(), cluster.coordinator(0));
    let caught_up = async {
        soon("it leads", TAKEOVER, async || leads(back).then_some(())).await;
        let left = async || (admin.get("/health").await.json()["auditLag"] == 0).then_some(());
        soon("all records", arrived, left).await.1
    };
    let (took, meanwhile) = tokio::join!(caught_up, slowest_message(&mut alice));
    slowest = slowest.max(meanwhile);
    eprintln!(
        "x19: {OFFENDERS} records came in {arrived:?} and were stored in {took:?}; the slowest of 200 messages {slowest:?}"
    );
    assert!(took * FASTER <= arrived, "{took:?} for what came in {arrived:?}");
    assert!(slowest <= SLOWEST, "{slowest:?}");

    let store = stored(&admin).await;
    assert_eq!((store.len(), addresses(&store)), (OFFENDERS, offenders.into_iter().collect()));
    eventually("a stream without what is stored", async || {
        let mut entries = 0;
        for key in redis.keys().await {
            if let Answer::Number(length) = redis.answers(&[b"XLEN", &key]).await {
                entries += length;
            }
        }
        (entries < 50).then_some(())
    })
    .await;
}

fn leads(coordinator: &Picket) -> bool {
    coordinator
        .log()
        .iter()
        .any(|line| line.contains("leadership of the coordinators") && line.contains(r#""leads":true"#))
}

#[tokio::test]
async fn x21_a_poisoned_record_is_put_aside_and_holds_up_nobody() {
    let redis = Redis::start().await;
    let cluster = Cluster::of(2).on(&redis).coordinators(2).start().await;
    offends(cluster.nodes(), 0).await;
    let admins = [cluster.coordinator(0).admin(), cluster.coordinator(1).admin()];
    let is_stored = async |address: &str| {
        soon("a record beside the poison", Duration::from_secs(2), async || {
            for admin in &admins {
                if addresses(&stored(admin).await).contains(address) {
                    return Some(());
                }
            }
            None
        })
        .await
        .1
    };
    is_stored("10.18.0.1").await;

    for key in redis.keys().await {
        if redis.answers(&[b"TYPE", &key]).await == Answer::Bytes(b"stream".to_vec()) {
            let entry = redis.answers(&[b"XREVRANGE", &key, b"+", b"-", b"COUNT", b"1"]).await;
            let field = match entry {
                Answer::List(mut entries) if !entries.is_empty() => {
                    let mut fields = entries.remove(0).list().remove(1).list();
                    fields.remove(0).bytes()
                }
                _ => b"record".to_vec(),
            };
            for poison in [&b""[..], b"\xc1", b"\xdf\xff\xff\xff\xff", b"{}", &[0x91; 4096]] {
                let id = redis.answers(&[b"XADD", &key, b"*", &field, poison]).await;
                assert!(matches!(id, Answer::Bytes(_)), "{id:?}");
            }
        }
    }
    offends(cluster.nodes(), 1).await;
    let delay = is_stored("10.18.0.2").await;
    eprintln!("x21: a record behind the poison was stored in {delay:?}");
    assert!(delay <= Duration::from_secs(1), "{delay:?}");
    for coordinator in [0, 1] {
        assert!(cluster.coordinator(coordinator).admin().get("/health").await.status == 200);
    }
    soon("dead letters in health", Duration::from_secs(5), async || {
        admins[0].get("/health").await.text.to_lowercase().contains("dead").then_some(())
    })
    .await;
}

/// The coordinator that stores what happens at this moment: to kill another would prove nothing.
pub async fn who_stores(cluster: &Cluster) -> usize {
    let caller = cluster.node(0).caller("10.99.99.99").origin("https://evil.example");
    caller.connects().await.refused_with(403, "origin_not_allowed");
    let admins = [cluster.coordinator(0).admin(), cluster.coordinator(1).admin()];
    eventually("a coordinator that stores a record", async || {
        for (index, admin) in admins.iter().enumerate() {
            if !admin.audit("ip=10.99.99.99").await.is_empty() {
                return Some(index);
            }
        }
        None
    })
    .await
}

/// Callers from a foreign site at every node, each from an address of its own, until it is over; who they were.
async fn offend(nodes: &[Picket], is_over: &Cell<bool>) -> Vec<String> {
    const OFFENDERS_MAX: usize = 950;
    let mut offenders = Vec::new();
    while !is_over.get() && offenders.len() < OFFENDERS_MAX {
        offenders.push(offends(nodes, offenders.len()).await);
    }
    assert!(is_over.get(), "the traffic ended before the kill");
    offenders
}

/// The address of the one with this number.
pub async fn offends(nodes: &[Picket], number: usize) -> String {
    let address = format!("10.18.{}.{}", number / 250, number % 250 + 1);
    let caller = nodes[number % nodes.len()].caller(&address).origin("https://evil.example");
    caller.connects().await.refused_with(403, "origin_not_allowed");
    address
}

/// How long the slowest of a hundred messages took.
pub async fn slowest_message(client: &mut Client) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..100 {
        let start = Instant::now();
        assert_eq!(says(client, 1).await, 1);
        slowest = slowest.max(start.elapsed());
    }
    slowest
}

pub async fn stored(admin: &Admin) -> Vec<Value> {
    admin.audit("eventType=INVALID_ORIGIN&limit=1000").await
}

pub fn addresses(store: &[Value]) -> HashSet<String> {
    store.iter().map(|record| record["ip"].as_str().unwrap().to_owned()).collect()
}
