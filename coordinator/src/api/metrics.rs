//! `GET /metrics`: what the nodes have counted, over the cluster and per node.

use axum::extract::State;
use picket_shared::clock::Timestamp;
use picket_shared::state::{NodeStatus, TrafficSnapshot};
use schemars::JsonSchema;
use serde::Serialize;

use super::auth::Caller;
use super::input::NoQuery;
use super::openapi::Operation;
use super::{Answer, Shared, Success};
use crate::scope::Scope;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterMetrics {
    #[serde(flatten)]
    traffic: TrafficSnapshot,
    last_updated: Timestamp,
    nodes: Vec<NodeMetrics>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NodeMetrics {
    id: String,
    #[serde(flatten)]
    traffic: TrafficSnapshot,
    last_updated: Timestamp,
}

pub(super) async fn get(State(api): Shared, _: Caller, _: NoQuery) -> Answer<ClusterMetrics> {
    let now = api.clock.now();
    let nodes = api.state.nodes.nodes(now).await?;
    Ok(Success(ClusterMetrics::of(nodes, now)))
}

pub(super) fn describe() -> Operation {
    Operation::new(Scope::MetricsRead, "What the nodes have counted, over the cluster and per node")
        .gives::<ClusterMetrics>(
            "counts since each node's start; active, anonymous and authenticated are open connections",
        )
}

impl ClusterMetrics {
    pub(super) fn of(nodes: Vec<NodeStatus>, now: Timestamp) -> Self {
        let mut traffic = TrafficSnapshot::default();
        nodes.iter().for_each(|node| traffic += node.traffic);
        let last_updated = nodes.iter().map(|node| node.last_seen).max().unwrap_or(now);
        let nodes = nodes.into_iter().map(|node| NodeMetrics {
            id: node.id,
            traffic: node.traffic,
            last_updated: node.last_seen,
        });
        ClusterMetrics { traffic, last_updated, nodes: nodes.collect() }
    }
}
