//! The store of the audit trail: one that several coordinators share, and one that cannot be written for a while.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::audit::{TAKEOVER, addresses, offends, slowest_message, stored};
use crate::harness::{Admin, Cluster, DATABASE_PASSWORD, Postgres, Program, Redis, eventually, soon};

const BEFORE: usize = 40;

#[tokio::test]
async fn x18_coordinators_share_a_postgres_and_the_next_goes_on_where_the_dead_one_was() {
    let redis = Redis::start().await;
    let postgres = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    let url = postgres.database();
    let store = json!({ "coordinator": { "auditStore": url } });
    let mut cluster = Cluster::of(1).on(&redis).coordinators(2).with(store).start().await;
    for number in 0..BEFORE {
        offends(cluster.nodes(), number).await;
    }
    for coordinator in [0, 1] {
        are_stored(&cluster.coordinator(coordinator).admin(), BEFORE).await;
    }

    let doomed = leader(&cluster).await;
    let mut doomed = cluster.takes_out_coordinator(doomed);
    doomed.dies();
    for number in BEFORE..2 * BEFORE {
        offends(cluster.nodes(), number).await;
    }
    let admin = cluster.admin();
    let (all, took) =
        soon("the other goes on", TAKEOVER, async || Some(stored(&admin).await).filter(|all| all.len() >= 2 * BEFORE))
            .await;
    eprintln!("x18: in one PostgreSQL, all of {} records {took:?} after the leader's death", all.len());
    assert_eq!((all.len(), addresses(&all).len()), (2 * BEFORE, 2 * BEFORE), "each once");

    let said =
        tokio::task::spawn_blocking(move || Program::new().runs(&["audit", "verify", "--store", &url]).succeeds());
    let said = said.await.unwrap();
    assert!(said.contains("2 chains") && said.contains("is what was written"), "{said}");
    for picket in [&doomed, cluster.coordinator(0)] {
        let said = picket.everything_it_said();
        assert!(!said.contains(DATABASE_PASSWORD), "r15: {said}");
    }
}

#[tokio::test]
async fn x33_a_full_disk_stops_the_store_and_nothing_else_and_no_record_is_lost() {
    const DISK_BYTES: u64 = 1024 * 1024;
    let redis = Redis::start().await;
    let mut cluster = Cluster::of(1).on(&redis).start().await;
    let mut roomy = cluster.takes_out_coordinator(0);
    roomy.dies();
    let mut alice = cluster.node(0).caller("198.51.100.7").comes_in().await;
    let quiet = slowest_message(&mut alice).await;

    let coordinator = cluster.another_coordinator("coordinator-2").with_files_up_to(DISK_BYTES).start().await;
    let admin = coordinator.admin();
    offends(cluster.nodes(), 0).await;
    soon("it leads", TAKEOVER, async || (!stored(&admin).await.is_empty()).then_some(())).await;
    let mut offenders = 1;
    let is_full = || coordinator.log().iter().any(|line| line.contains("ingest waits"));
    let give_up = Instant::now() + Duration::from_secs(60);
    while !is_full() {
        // Not as fast as a node lets nobody more in.
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(Instant::now() < give_up, "the disk did not fill with {offenders} records");
        offends(cluster.nodes(), offenders).await;
        offenders += 1;
    }
    for _ in 0..20 {
        offends(cluster.nodes(), offenders).await;
        offenders += 1;
    }
    let full = slowest_message(&mut alice).await;
    let waiting = eventually("records that wait", async || {
        admin.get("/health").await.json()["auditLag"].as_u64().filter(|lag| *lag > 0)
    })
    .await;
    eprintln!(
        "x33: disk full after {offenders} records, {waiting} wait; the slowest of 100 messages {quiet:?} before, {full:?} then"
    );

    coordinator.may_write_on();
    let all = eventually("all of them", async || {
        let lag = admin.get("/health").await.json()["auditLag"].as_u64()?;
        let mut all = stored(&admin).await;
        all.retain(|record| record["ip"].as_str().is_some_and(|ip| ip.starts_with("10.18.")));
        (lag == 0 && all.len() >= offenders).then_some(all)
    })
    .await;
    assert_eq!((all.len(), addresses(&all).len()), (offenders, offenders), "each once");
    alice.is_still_served().await;
}

#[tokio::test]
async fn x33_what_happens_while_postgres_is_dead_or_hangs_is_stored_once_when_it_is_back() {
    /// records before it goes away
    const ENOUGH: usize = 20;
    let redis = Redis::start().await;
    let postgres = Arc::new(tokio::task::spawn_blocking(Postgres::start).await.unwrap());
    let url = postgres.database();
    let store = json!({ "coordinator": { "auditStore": url } });
    let cluster = Cluster::of(1).on(&redis).coordinators(2).with(store).start().await;
    let admins = [cluster.coordinator(0).admin(), cluster.coordinator(1).admin()];
    let stranger = cluster.coordinator(0).stranger();
    let mut alice = cluster.node(0).caller("198.51.100.7").comes_in().await;
    let becomes = async |change: fn(&Postgres)| {
        let postgres = postgres.clone();
        tokio::task::spawn_blocking(move || change(&postgres)).await.unwrap();
    };

    let offenders = Cell::new(0);
    for (how, away, back) in [
        ("dead", Postgres::dies as fn(&Postgres), Postgres::returns as fn(&Postgres)),
        ("still", Postgres::stands_still, Postgres::goes_on),
    ] {
        // Records arrive all the time, so that some are on their way when it goes and when it comes back.
        let is_over = Cell::new(false);
        let ((), took) = tokio::join!(
            async {
                while !is_over.get() {
                    offends(cluster.nodes(), offenders.get()).await;
                    offenders.set(offenders.get() + 1);
                    // Not so fast that there are more of them than a page of the trail holds.
                    tokio::time::sleep(Duration::from_millis(60)).await;
                }
            },
            async {
                are_stored(&admins[0], offenders.get() + ENOUGH).await;
                becomes(away).await;
                for admin in &admins {
                    says_so(admin).await;
                }
                assert_eq!(stranger.get("/health").await.json(), json!({ "status": "degraded" }));
                alice.is_still_served().await;
                becomes(back).await;
                let start = Instant::now();
                for admin in &admins {
                    soon("a store that is back", Duration::from_secs(10), async || {
                        (admin.get("/health").await.json()["state"]["store"] == "ok").then_some(())
                    })
                    .await;
                }
                is_over.set(true);
                start.elapsed()
            }
        );
        let offenders = offenders.get();
        for admin in &admins {
            let all = eventually("all of them", async || {
                let lag = admin.get("/health").await.json()["auditLag"].as_u64()?;
                let all = stored(admin).await;
                (lag == 0 && all.len() >= offenders).then_some(all)
            })
            .await;
            assert_eq!((all.len(), addresses(&all).len()), (offenders, offenders), "each once");
        }
        eprintln!(
            "x33: PostgreSQL {how}: all of {offenders} records are stored, health said so {took:?} after it was back"
        );
    }
    alice.is_still_served().await;
    assert_eq!(cluster.node(0).metric("picket_audit_dropped_total").await, 0.0);
    let verify = move || Program::new().runs(&["audit", "verify", "--store", &url]).succeeds();
    let said = tokio::task::spawn_blocking(verify).await.unwrap();
    assert!(said.contains("is what was written"), "{said}");
}

/// 503, because the store is away.
async fn says_so(admin: &Admin) {
    let health = eventually("a word of the store in health", async || {
        let health = admin.get("/health").await;
        (health.status == 503).then(|| health.json())
    })
    .await;
    assert_eq!((&health["status"], &health["state"]["store"]), (&json!("degraded"), &json!("failed")), "{health}");
    assert!(health["issues"].as_array().unwrap().iter().any(|issue| issue["kind"] == "store"), "{health}");
}

async fn are_stored(admin: &Admin, count: usize) {
    eventually("all records at each coordinator", async || (stored(admin).await.len() >= count).then_some(())).await;
}

/// The longest-living one.
pub async fn leader(cluster: &Cluster) -> usize {
    let members = cluster.admin().get("/nodes").await.data();
    let living = members["coordinators"].as_array().unwrap();
    let key =
        |member: &&Value| (member["since"].as_str().unwrap().to_owned(), member["id"].as_str().unwrap().to_owned());
    let leader = living.iter().min_by_key(key).unwrap()["id"].as_str().unwrap();
    usize::from(leader == "coordinator-2")
}
