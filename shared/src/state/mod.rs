//! What nodes and coordinators know in common, as small contracts. Each method is one atomic step of its backend.
//!
//! `now` is an argument everywhere; a backend with a clock of its own (Redis) uses that clock and says so. The laws that every
//! backend keeps are in [`laws`].

mod answers;
mod audit;
mod block_table;
mod blocks;
mod counters;
mod identities;
mod leases;
mod memory;
mod nodes;
mod outage;
mod overshoot;
mod policies;
mod redis;
mod revocations;
mod shares;
#[cfg(test)]
mod shares_model;
mod trials;

#[cfg(any(test, feature = "laws"))]
#[expect(clippy::unwrap_used, clippy::panic, reason = "laws are the bodies of tests")]
pub mod laws;

pub use answers::{ANSWER_BYTES_MAX, ANSWER_LIFE, ANSWERS_MAX, Answers, Begun, CHANGE_LIFE, Change};
pub use audit::{AuditLog, EntryId};
pub use blocks::{
    BLOCK_USERS_MAX, BLOCKS_MAX, Block, BlockChange, BlockLog, BlockOrigin, BlockPosition, BlockScope, BlockSet,
    BlockView, Blocks, LIFTS_MAX, Lead, Lift, Put, Withdrawal, follow_and_seed_blocks, follow_blocks,
};
pub use counters::{
    Charge, CounterKey, Counters, Joint, Ledger, LimitName, Permit, Permits, Subject, charge_all, refund_all,
};
pub use identities::{CROWD_FACTOR, Identities};
pub use leases::{Acquired, Claim, Lease, LeaseKey, Leases};
pub use memory::Memory;
pub use nodes::{CoordinatorStatus, Decisions, Mode, NodeStatus, Nodes, Refused, Traffic, TrafficSnapshot};
pub use outage::{KnownNodes, Stance, Stances, WithStance};
pub use overshoot::{Overshoot, Overshot};
pub use policies::{FilePolicy, LivePolicy, Policies, PolicySource, PolicyVersion, Published, follow_policy};
pub use redis::{ClockSource, ConnectError, RedisOptions, RedisState, check_authorities};
pub use revocations::{
    Added, OnLostRevocations, REVOCATIONS_MAX, Revocation, RevocationLog, RevocationPosition, RevocationView,
    Revocations, Revoked, follow_revocations,
};
pub use shares::{Excess, Holdings, ShareId, Shares, Spent, Taken};
pub use trials::{Trial, Trials, follow_trials};

use std::sync::Arc;

/// the state could not be asked; what follows is the caller's outage stance
#[derive(Clone, Debug, thiserror::Error)]
#[error("shared state is not reachable: {0}")]
pub struct StateError(pub String);

/// every contract, by the backend that `state.url` names
#[derive(Clone)]
pub struct State {
    pub counters: Arc<dyn Counters>,
    /// shares of the counters' quotas; none where asking costs no trip
    pub shares: Option<Arc<dyn Shares>>,
    pub leases: Arc<dyn Leases>,
    pub blocks: Arc<dyn Blocks>,
    pub policies: Arc<dyn Policies>,
    pub revocations: Arc<dyn Revocations>,
    pub trials: Arc<dyn Trials>,
    pub answers: Arc<dyn Answers>,
    pub audit: Arc<dyn AuditLog>,
    pub nodes: Arc<dyn Nodes>,
}

impl State {
    /// the embedded backend: one process, nothing kept over a restart
    pub fn memory() -> Self {
        let memory = Arc::new(Memory::default());
        State {
            counters: memory.clone(),
            shares: None,
            leases: memory.clone(),
            blocks: memory.clone(),
            policies: memory.clone(),
            revocations: memory.clone(),
            trials: memory.clone(),
            answers: memory.clone(),
            audit: memory.clone(),
            nodes: memory,
        }
    }
}
