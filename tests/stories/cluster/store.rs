//! The store of the audit trail: one that several coordinators share, and one that cannot be written for a while.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::audit::{TAKEOVER, addresses, offends, stored};
use super::meter::says;
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
    let quiet = slowest(&mut alice).await;

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
    let full = slowest(&mut alice).await;
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

/// How long the slowest of a hundred messages took.
async fn slowest(client: &mut crate::harness::Client) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..100 {
        let start = Instant::now();
        assert_eq!(says(client, 1).await, 1);
        slowest = slowest.max(start.elapsed());
    }
    slowest
}
