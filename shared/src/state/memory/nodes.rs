//! Heartbeats by id, forgotten when they are old.

use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;

use super::Memory;
use crate::clock::Timestamp;
use crate::state::{CoordinatorStatus, NodeStatus, Nodes, StateError};

/// a member that was not heard of for so long is dead
const DEAD_AFTER: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Roster {
    nodes: Mutex<BTreeMap<String, NodeStatus>>,
    coordinators: Mutex<BTreeMap<String, CoordinatorStatus>>,
}

fn alive(last_seen: Timestamp, now: Timestamp) -> bool {
    now.since(last_seen) < DEAD_AFTER
}

#[async_trait]
impl Nodes for Memory {
    async fn node_alive(&self, status: NodeStatus) -> Result<(), StateError> {
        self.nodes.nodes.lock().insert(status.id.clone(), status);
        Ok(())
    }

    async fn coordinator_alive(&self, status: CoordinatorStatus) -> Result<(), StateError> {
        self.nodes.coordinators.lock().insert(status.id.clone(), status);
        Ok(())
    }

    async fn nodes(&self, now: Timestamp) -> Result<Vec<NodeStatus>, StateError> {
        let mut nodes = self.nodes.nodes.lock();
        nodes.retain(|_, status| alive(status.last_seen, now));
        Ok(nodes.values().cloned().collect())
    }

    async fn coordinators(&self, now: Timestamp) -> Result<Vec<CoordinatorStatus>, StateError> {
        let mut coordinators = self.nodes.coordinators.lock();
        coordinators.retain(|_, status| alive(status.last_seen, now));
        Ok(coordinators.values().cloned().collect())
    }
}
