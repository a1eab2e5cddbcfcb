//! Several nodes and coordinators over one Redis, before one application. At most two clusters run at a time.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::admin::Admin;
use super::patience::{eventually, soon};
use super::picket::{Picket, PicketBuilder};
use super::redis::Redis;
use super::upstream::Upstream;

static CLUSTERS: Semaphore = Semaphore::const_new(2);

pub struct ClusterBuilder {
    nodes: usize,
    coordinators: usize,
    changes: Vec<Value>,
}

pub struct Cluster {
    nodes: Vec<Picket>,
    coordinators: Vec<Picket>,
    plan: PicketBuilder,
    upstream: Upstream,
    _turn: SemaphorePermit<'static>,
}

impl Cluster {
    /// Nodes that refuse events without end, and one coordinator.
    pub fn of(nodes: usize) -> ClusterBuilder {
        ClusterBuilder { nodes, coordinators: 1, changes: Vec::new() }
    }

    pub fn node(&self, index: usize) -> &Picket {
        &self.nodes[index]
    }

    pub fn nodes(&self) -> &[Picket] {
        &self.nodes
    }

    pub fn coordinator(&self, index: usize) -> &Picket {
        &self.coordinators[index]
    }

    /// The administrator at the first coordinator.
    pub fn admin(&self) -> Admin {
        self.coordinators[0].admin()
    }

    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// What one more node would start with.
    pub fn another_node(&self, id: &str) -> PicketBuilder {
        self.plan.clone().as_node(id)
    }

    pub fn loses_node(&mut self, index: usize) -> Picket {
        let mut lost = self.nodes.remove(index);
        lost.dies();
        lost
    }

    pub fn loses_coordinator(&mut self, index: usize) -> Picket {
        let mut lost = self.coordinators.remove(index);
        lost.dies();
        lost
    }

    /// A coordinator that was lost comes back to its own store.
    pub async fn brings_back_coordinator(&mut self, lost: &Picket) {
        let again = self.plan.clone().as_coordinator("coordinator-again").after(lost).start().await;
        self.coordinators.push(again);
    }

    /// Waits until every node says this mode, as promised; how long the slowest took.
    pub async fn is_in_mode(&self, mode: &str, promised: Duration) -> Duration {
        let start = Instant::now();
        for node in &self.nodes {
            let left = promised.saturating_sub(start.elapsed());
            soon(&format!("every node {mode}"), left, async || (node.mode().await == mode).then_some(())).await;
        }
        start.elapsed()
    }

    /// Every node knows the others, and runs the policy of the state.
    async fn settles(&self) {
        for coordinator in &self.coordinators {
            let admin = coordinator.admin();
            eventually("all members in GET /nodes", async || {
                let members = admin.get("/nodes").await.data();
                let count = |kind: &str| members[kind].as_array().map_or(0, Vec::len);
                (count("nodes") == self.nodes.len() && count("coordinators") == self.coordinators.len()).then_some(())
            })
            .await;
        }
        for node in &self.nodes {
            eventually("the policy of the state", async || (node.policy_version().await > 0).then_some(())).await;
        }
        self.is_in_mode("normal", Duration::from_secs(10)).await;
    }
}

impl ClusterBuilder {
    pub fn coordinators(mut self, coordinators: usize) -> Self {
        self.coordinators = coordinators;
        self
    }

    /// Laid over every member's configuration.
    pub fn with(mut self, patch: Value) -> Self {
        self.changes.push(patch);
        self
    }

    pub fn policy(self, patch: Value) -> Self {
        self.with(json!({ "policy": patch }))
    }

    pub fn on(self, redis: &Redis) -> PlannedCluster {
        PlannedCluster { url: redis.url(), builder: self }
    }
}

/// A cluster that knows its Redis and can start.
pub struct PlannedCluster {
    url: String,
    builder: ClusterBuilder,
}

impl PlannedCluster {
    pub async fn start(self) -> Cluster {
        let Self { url, builder } = self;
        let turn = CLUSTERS.acquire().await.unwrap();
        let upstream = Upstream::echo().await;
        let mut plan = Picket::guarding(&upstream)
            .patient()
            .with(json!({ "state": { "url": url }, "auth": { "jwt": { "issuers": [super::issuer()] } } }));
        for change in builder.changes {
            plan = plan.with(change);
        }
        let nodes = (1..=builder.nodes).map(|number| plan.clone().as_node(&format!("edge-{number}")).start());
        let coordinators =
            (1..=builder.coordinators).map(|number| plan.clone().as_coordinator(&format!("coordinator-{number}")).start());
        let (nodes, coordinators) = tokio::join!(join_all(nodes), join_all(coordinators));
        let cluster = Cluster { nodes, coordinators, plan, upstream, _turn: turn };
        cluster.settles().await;
        cluster
    }
}
