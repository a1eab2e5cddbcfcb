//! The stream of audit records over two coordinators that share a store.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::audit::offends;
use super::store::leader;
use crate::harness::{Cluster, Events, Postgres, Redis};

/// The next records, in any order: whom they are about, and their ids.
async fn hears(stream: &mut Events, count: usize) -> BTreeMap<String, String> {
    let mut heard = BTreeMap::new();
    for _ in 0..count {
        let told = stream.hears().await;
        assert_eq!(heard.insert(told.record["ip"].as_str().unwrap().to_owned(), told.id), None, "each once");
    }
    heard
}

#[tokio::test]
async fn what_a_node_refuses_is_heard_at_every_coordinator_and_who_loses_one_goes_on_at_the_other() {
    let redis = Redis::start().await;
    let postgres = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    let store = json!({ "coordinator": { "auditStore": postgres.database() } });
    let mut cluster = Cluster::of(1).on(&redis).coordinators(2).with(store).start().await;
    let filter = "eventType=INVALID_ORIGIN";
    let mut streams = Vec::new();
    for coordinator in [0, 1] {
        streams.push(cluster.coordinator(coordinator).admin().listens(filter, None).await);
    }
    let offender = offends(cluster.nodes(), 1).await;
    let first = hears(&mut streams[0], 1).await;
    assert_eq!(first.keys().collect::<Vec<_>>(), [&offender]);
    assert_eq!(hears(&mut streams[1], 1).await, first, "one coordinator stored it, both tell");

    let stores = leader(&cluster).await;
    let mut doomed = cluster.takes_out_coordinator(stores);
    doomed.dies();
    let offenders = BTreeSet::from([offends(cluster.nodes(), 2).await, offends(cluster.nodes(), 3).await]);
    let mut stayed = streams.swap_remove(1 - stores);
    // The listener of the dead one comes back to the other, and hears what it missed.
    let last = first.values().next().map(String::as_str);
    let mut came_back = cluster.coordinator(0).admin().listens(filter, last).await;
    let heard = hears(&mut stayed, 2).await;
    assert_eq!(heard.keys().cloned().collect::<BTreeSet<_>>(), offenders);
    assert_eq!(hears(&mut came_back, 2).await, heard);
}
