//! Limits that hold over all nodes: strict sliding windows by subject.

use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

use super::StateError;
use crate::address::AddressKey;
use crate::clock::Timestamp;
use crate::window::Quota;

/// whose uses are added up
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    Address(AddressKey),
    User(Arc<str>),
}

/// which limit they are added up against
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LimitName {
    Connections,
    Messages,
    /// a limit of `rateLimiting.events`; the name comes from the policy, never from a client
    Event(Arc<str>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CounterKey {
    pub subject: Subject,
    pub limit: LimitName,
}

/// one use that was counted
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    pub key: CounterKey,
    pub at: Timestamp,
    pub ledger: Ledger,
}

/// where a use was counted, and goes back to
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ledger {
    Shared,
    /// this node's own memory, while the state was not reachable
    Local,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Charge {
    Granted(Permit),
    Exhausted { retry_after: Duration },
}

#[async_trait]
pub trait Counters: Send + Sync {
    /// counts one use if every trailing window then still holds at most the limit
    async fn charge(&self, key: CounterKey, quota: Quota, now: Timestamp) -> Result<Charge, StateError>;

    /// gives back a use that came to nothing
    async fn refund(&self, permit: Permit) -> Result<(), StateError>;
}
