//! `GET /nodes`: who is alive, in which mode and with which policy.

use axum::extract::State;
use picket_shared::clock::Timestamp;
use picket_shared::policy::Enforce;
use picket_shared::state::{CoordinatorStatus, Mode, NodeStatus};
use schemars::JsonSchema;
use serde::Serialize;

use super::auth::Caller;
use super::input::NoQuery;
use super::openapi::Operation;
use super::{Answer, Shared, Success};
use crate::scope::Scope;

#[derive(Serialize, JsonSchema)]
pub(super) struct Members {
    nodes: Vec<Node>,
    coordinators: Vec<Coordinator>,
}

#[derive(Serialize, JsonSchema)]
struct Coordinator {
    #[serde(flatten)]
    status: CoordinatorStatus,
    /// whether it stores, scores and blocks, and the others stand by
    leads: bool,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Node {
    id: String,
    version: String,
    mode: Mode,
    policy_version: u64,
    connections: u64,
    last_seen: Timestamp,
    /// what it does with refusals
    enforce: Enforce,
    /// whether that is the word of its own switch
    is_switched: bool,
    /// whether it runs a policy on trial
    on_trial: bool,
}

impl From<NodeStatus> for Node {
    fn from(status: NodeStatus) -> Self {
        Node {
            id: status.id,
            version: status.version,
            mode: status.mode,
            policy_version: status.policy_version,
            connections: status.connections,
            last_seen: status.last_seen,
            enforce: status.enforce,
            is_switched: status.is_switched,
            on_trial: status.on_trial,
        }
    }
}

pub(super) async fn get(State(api): Shared, _: Caller, _: NoQuery) -> Answer<Members> {
    let now = api.clock.now();
    let nodes = api.state.nodes.nodes(now).await?.into_iter().map(Node::from).collect();
    let living = api.state.nodes.coordinators(now).await?;
    let leader = CoordinatorStatus::leader(&living).map(|leader| leader.id.clone());
    let coordinator = |status: CoordinatorStatus| Coordinator { leads: Some(&status.id) == leader.as_ref(), status };
    Ok(Success(Members { nodes, coordinators: living.into_iter().map(coordinator).collect() }))
}

pub(super) fn describe() -> Operation {
    Operation::new(Scope::MetricsRead, "Who is alive, in which mode and with which policy")
        .gives::<Members>("heard of in the last 10 s")
}
