//! What an audit trail on its way loses when the master behind Sentinels dies: what it had acknowledged and not yet told its replica.

use std::time::{Duration, Instant};

use serde_json::json;

use super::audit::{addresses, offends, stored};
use crate::harness::{Cluster, Topology, soon};

const BEFORE: usize = 200;
const MEANWHILE: usize = 100;
const BLOCKED: &str = "203.0.113.77";
/// Sentinels agree, promote, and tell; clients find the new master.
const OVER_WITHIN: Duration = Duration::from_secs(30);

struct Trial {
    /// of what happened before the master's death
    lost: usize,
    /// of what happened while there was none
    lost_meanwhile: usize,
    /// from the master's death until the node is normal
    away: Duration,
}

/// One trial proves the way; `PICKET_FAILOVER_TRIALS=20` measures it.
#[tokio::test]
async fn x09_x23_when_the_master_dies_durable_blocks_stay_and_records_on_their_way_are_stored_but_for_what_no_replica_had()
 {
    let trials =
        std::env::var("PICKET_FAILOVER_TRIALS").map_or(1, |number| number.parse().expect("a number of trials"));
    let (mut lost, mut lost_meanwhile, mut hit, mut longest) = (0, 0, 0, Duration::ZERO);
    for number in 1..=trials {
        let trial = fails_over().await;
        eprintln!(
            "x23: trial {number}: lost {} of {BEFORE} and {}, normal after {:?}",
            trial.lost, trial.lost_meanwhile, trial.away
        );
        lost += trial.lost;
        lost_meanwhile += trial.lost_meanwhile;
        hit += usize::from(trial.lost > 0);
        longest = longest.max(trial.away);
    }
    eprintln!(
        "x23: {trials} failovers: {lost} of {} records lost, in {hit} of them; {lost_meanwhile} of {} without a master; normal again after {longest:?} at most",
        trials * BEFORE,
        trials * MEANWHILE
    );
    assert_eq!(lost_meanwhile, 0, "a node keeps what nobody has acknowledged");
    // The last batch and what was under way with it.
    assert!(lost <= trials * BEFORE / 10, "{lost} records in {trials} failovers");
}

/// The coordinator stands still meanwhile, so that records are in Redis and nowhere else.
async fn fails_over() -> Trial {
    let mut topology = Topology::sentinel().await;
    let cluster = Cluster::of(1).on_topology(&topology).start().await;
    let coordinator = cluster.coordinator(0);
    let admin = coordinator.admin();
    soon("a block that a replica has too", OVER_WITHIN, async || {
        let answer = admin.post("/block-ip", json!({ "ip": BLOCKED, "reason": "a story" })).await;
        (answer.status < 300 && answer.data()["durable"] == true).then_some(())
    })
    .await;
    coordinator.stands_still();
    for number in 0..BEFORE {
        offends(cluster.nodes(), number).await;
    }
    topology.loses_its_master();
    let died = Instant::now();
    cluster.is_in_mode("degraded", Duration::from_secs(3)).await;
    for number in BEFORE..BEFORE + MEANWHILE {
        offends(cluster.nodes(), number).await;
    }
    cluster.is_in_mode("normal", OVER_WITHIN).await;
    let away = died.elapsed();
    coordinator.goes_on();

    let last = offends(cluster.nodes(), BEFORE + MEANWHILE).await;
    soon("nothing waits to be stored", OVER_WITHIN, async || {
        let health = admin.get("/health").await;
        let all = stored(&admin).await;
        (health.status == 200 && health.json()["auditLag"] == 0 && addresses(&all).contains(&last)).then_some(())
    })
    .await;
    assert!(admin.lists_block(BLOCKED).await, "x09: a durable block outlives its master");
    let all = stored(&admin).await;
    let found = addresses(&all);
    assert_eq!(found.len(), all.len(), "each once");
    let before = found.iter().filter(|address| is_before(address)).count();
    Trial { lost: BEFORE - before, lost_meanwhile: MEANWHILE + 1 - (found.len() - before), away }
}

/// `10.18.0.N` with N from 1 to 200
fn is_before(address: &str) -> bool {
    address.strip_prefix("10.18.0.").is_some_and(|host| host.parse::<usize>().is_ok_and(|host| host <= BEFORE))
}
