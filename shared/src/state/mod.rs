//! What nodes and coordinators know in common, as small contracts. Each method is one atomic step of its backend.
//!
//! `now` is an argument everywhere; a backend with a clock of its own (Redis) uses that clock and says so. The laws that every
//! backend keeps are in [`laws`].

mod blocks;
mod counters;
mod leases;
mod memory;
mod nodes;
mod policies;

#[cfg(any(test, feature = "laws"))]
#[expect(clippy::unwrap_used, clippy::panic, reason = "laws are the bodies of tests")]
pub mod laws;

pub use blocks::{Block, BlockChange, BlockLog, BlockOrigin, BlockSet, BlockView, Blocks, LoggedChange, follow_blocks};
pub use counters::{Charge, CounterKey, Counters, LimitName, Permit, Subject};
pub use leases::{Acquired, Claim, Lease, LeaseKey, Leases};
pub use memory::Memory;
pub use nodes::{CoordinatorStatus, Mode, NodeStatus, Nodes, Traffic, TrafficSnapshot};
pub use policies::{LivePolicy, Policies, PolicyVersion, Published, follow_policy};

use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

use crate::audit::AuditRecord;

/// the state could not be asked; what follows is the caller's outage stance
#[derive(Clone, Debug, thiserror::Error)]
#[error("shared state is not reachable: {0}")]
pub struct StateError(pub String);

/// every contract, by the backend that `state.url` names
#[derive(Clone)]
pub struct State {
    pub counters: Arc<dyn Counters>,
    pub leases: Arc<dyn Leases>,
    pub blocks: Arc<dyn Blocks>,
    pub policies: Arc<dyn Policies>,
    pub audit: Arc<dyn AuditLog>,
    pub nodes: Arc<dyn Nodes>,
}

impl State {
    /// the embedded backend: one process, nothing kept over a restart
    pub fn memory() -> Self {
        let memory = Arc::new(Memory::default());
        State {
            counters: memory.clone(),
            leases: memory.clone(),
            blocks: memory.clone(),
            policies: memory.clone(),
            audit: memory.clone(),
            nodes: memory,
        }
    }
}

/// the audit stream between nodes and coordinators: at least once, in order of arrival
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// adds the records; when it returns they are held until a reader acknowledges them
    async fn append(&self, records: &[AuditRecord]) -> Result<(), StateError>;

    /// up to `max` records after the last acknowledged one, waiting at most `wait` for the first; reading again without
    /// acknowledging gives them again
    async fn read(&self, max: usize, wait: Duration) -> Result<Vec<(EntryId, AuditRecord)>, StateError>;

    /// everything up to and including `last` is stored and need not be held
    async fn acknowledge(&self, last: EntryId) -> Result<(), StateError>;

    /// how many records are held and not acknowledged
    async fn lag(&self) -> Result<u64, StateError>;
}

/// the place of a record in the audit stream
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId(pub u64);
