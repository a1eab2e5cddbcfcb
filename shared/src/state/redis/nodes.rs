//! Heartbeats by id; when each was heard of is Redis's time.

use async_trait::async_trait;
use fred::types::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

use super::link::Lane;
use super::reply::Reply;
use super::{Redis, millis, number, wire};
use crate::clock::Timestamp;
use crate::state::{CoordinatorStatus, NodeStatus, Nodes, StateError};

/// a member that was not heard of for so long is dead
const DEAD_AFTER: Duration = Duration::from_secs(10);
const KEY_LIFE: Duration = Duration::from_secs(60);
/// members of one kind
const MEMBERS_MAX: u64 = 4096;

#[async_trait]
impl Nodes for Redis {
    async fn node_alive(&self, status: NodeStatus) -> Result<(), StateError> {
        let arguments = self.alive(&status.id, status.last_seen, &status)?;
        // Whose circuit is open says so.
        self.link.tell(&self.scripts.member_alive, self.keys.nodes().into(), arguments).await.map(drop)
    }

    async fn coordinator_alive(&self, status: CoordinatorStatus) -> Result<(), StateError> {
        let arguments = self.alive(&status.id, status.last_seen, &status)?;
        let keys = self.keys.coordinators().into();
        // One that cannot read who lives must not be taken for one that leads.
        self.link.call(Lane::Upkeep, &self.scripts.member_alive, keys, arguments).await.map(drop)
    }

    async fn nodes(&self, now: Timestamp) -> Result<Vec<NodeStatus>, StateError> {
        let seen = |last_seen, status: NodeStatus| NodeStatus { last_seen, ..status };
        let mut nodes = self.members(self.keys.nodes(), now, seen).await?;
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(nodes)
    }

    async fn coordinators(&self, now: Timestamp) -> Result<Vec<CoordinatorStatus>, StateError> {
        let seen = |last_seen, status: CoordinatorStatus| CoordinatorStatus { last_seen, ..status };
        let mut coordinators = self.members(self.keys.coordinators(), now, seen).await?;
        coordinators.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(coordinators)
    }
}

impl Redis {
    fn alive<T: Serialize>(&self, id: &str, now: Timestamp, status: &T) -> Result<Vec<Value>, StateError> {
        let status = Value::Bytes(wire::encode(status)?.into());
        Ok(vec![self.now(now), id.into(), status, millis(KEY_LIFE), number(MEMBERS_MAX)])
    }

    async fn members<T: DeserializeOwned>(
        &self,
        keys: [String; 2],
        now: Timestamp,
        seen: impl Fn(Timestamp, T) -> T,
    ) -> Result<Vec<T>, StateError> {
        let arguments = vec![self.now(now), millis(DEAD_AFTER)];
        let reply = self.link.call(Lane::Upkeep, &self.scripts.members, keys.into(), arguments).await?;
        let mut reply = Reply::from(reply);
        let mut members = Vec::new();
        while !reply.is_empty() {
            let last_seen = Timestamp::from_millis(reply.number()?);
            match reply.bytes()?.and_then(|bytes| wire::decode(&bytes)) {
                Some(status) => members.push(seen(last_seen, status)),
                None => self.skip_corrupt("heartbeat"),
            }
        }
        Ok(members)
    }
}
