//! Several nodes and coordinators over one Redis, before one application. At most two clusters run at a time.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::admin::Admin;
use super::detour::Detour;
use super::patience::{eventually, soon};
use super::picket::{Picket, PicketBuilder};
use super::redis::Redis;
use super::tokens::issuer;
use super::topology::Topology;
use super::upstream::Upstream;

static CLUSTERS: Semaphore = Semaphore::const_new(2);

pub struct ClusterBuilder {
    /// what nodes and coordinators know of their redis
    states: Option<(Value, Value)>,
    nodes: usize,
    coordinators: usize,
    changes: Vec<Value>,
    detour: Option<(usize, String)>,
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
        ClusterBuilder { states: None, nodes, coordinators: 1, changes: Vec::new(), detour: None }
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
        self.plan.clone().lone_node(id)
    }

    /// What one more coordinator would start with.
    pub fn another_coordinator(&self, id: &str) -> PicketBuilder {
        self.plan.clone().lone_coordinator(id)
    }

    /// It runs on; what becomes of it is the story's.
    pub fn takes_out_node(&mut self, index: usize) -> Picket {
        self.nodes.remove(index)
    }

    pub fn takes_out_coordinator(&mut self, index: usize) -> Picket {
        self.coordinators.remove(index)
    }

    /// A coordinator that died comes back to its own store.
    pub async fn brings_back_coordinator(&mut self, id: &str, dead: &Picket) {
        self.coordinators.push(self.plan.clone().lone_coordinator(id).after(dead).start().await);
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

    /// Every node has heard, by a heartbeat of its own, of all the others: what `share` divides by.
    pub async fn knows_its_size(&self) {
        let admin = self.admin();
        let heartbeats = async || {
            let nodes = admin.get("/nodes").await.data()["nodes"].clone();
            let nodes = nodes.as_array().unwrap().iter();
            nodes.map(|node| node["lastSeen"].to_string()).collect::<Vec<_>>()
        };
        let first = heartbeats().await;
        assert_eq!(first.len(), self.nodes.len(), "all nodes in GET /nodes");
        eventually("another heartbeat of every node", async || {
            let next = heartbeats().await;
            first.iter().zip(&next).all(|(before, after)| before != after).then_some(())
        })
        .await;
    }

    /// The coordinators know all members, and every node runs the policy of the state.
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

    pub fn on(mut self, redis: &Redis) -> Self {
        let state = json!({ "state": { "url": redis.url() } });
        self.states = Some((state.clone(), state));
        self
    }

    pub fn on_topology(mut self, topology: &Topology) -> Self {
        self.states = Some((topology.for_nodes(), topology.for_coordinators()));
        self
    }

    /// This node's way to Redis is another than the others'.
    pub fn node_over(mut self, index: usize, detour: &Detour) -> Self {
        self.detour = Some((index, detour.url()));
        self
    }

    pub async fn start(self) -> Cluster {
        let (of_nodes, of_coordinators) = self.states.expect("a cluster is on a redis");
        let turn = CLUSTERS.acquire().await.unwrap();
        let upstream = Upstream::echo().await;
        let mut plan = Picket::guarding(&upstream).patient().issuer(issuer()).with(of_nodes);
        for change in self.changes {
            plan = plan.with(change);
        }
        let nodes = (0..self.nodes).map(|index| {
            let node = plan.clone().lone_node(&format!("edge-{}", index + 1));
            match &self.detour {
                Some((detoured, url)) if *detoured == index => node.with(json!({ "state": { "url": url } })).start(),
                _ => node.start(),
            }
        });
        let coordinators = (1..=self.coordinators).map(|number| {
            plan.clone().with(of_coordinators.clone()).lone_coordinator(&format!("coordinator-{number}")).start()
        });
        let (nodes, coordinators) = tokio::join!(join_all(nodes), join_all(coordinators));
        let cluster = Cluster { nodes, coordinators, plan, upstream, _turn: turn };
        cluster.settles().await;
        cluster
    }
}
