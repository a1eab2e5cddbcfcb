//! Limits that hold over all nodes: strict sliding windows by subject.

use async_trait::async_trait;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

use super::{ShareId, StateError};
use crate::address::AddressKey;
use crate::clock::Timestamp;
use crate::window::Quota;

/// whose uses are added up
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    Address(AddressKey),
    User(Arc<str>),
    /// users who came when a node had no place for counters of their own
    Crowd(u16),
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
    /// a share of the quota that this node holds
    Share(ShareId),
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

    /// the same where it can be said at once and without the state; `None` if only `charge` can say
    fn charge_at_once(&self, _key: &CounterKey, _quota: Quota, _now: Timestamp) -> Option<Charge> {
        None
    }

    /// gives back a use that came to nothing
    async fn refund(&self, permit: Permit) -> Result<(), StateError>;

    /// takes note of a use that was let through while the state did not answer, to tell of it when it does; here: nobody is told
    fn remember(&self, _permit: &Permit, _quota: Quota) {}

    /// such a use came to nothing
    fn forget(&self, _permit: &Permit) {}
}

/// permits for one use: usually one, which needs no allocation
pub type Permits = SmallVec<[Permit; 1]>;

/// what became of one use that counts against several limits
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joint {
    Granted(Permits),
    /// the limit at this place had no room; nothing stays counted
    Exhausted {
        place: usize,
        retry_after: Duration,
    },
}

/// counts one use against each of these limits, or against none
pub async fn charge_all(
    counters: &dyn Counters,
    limits: impl IntoIterator<Item = (CounterKey, Quota)>,
    now: Timestamp,
) -> Result<Joint, StateError> {
    let mut permits = Permits::new();
    for (place, (key, quota)) in limits.into_iter().enumerate() {
        let charge = match counters.charge_at_once(&key, quota, now) {
            Some(charge) => Ok(charge),
            None => counters.charge(key, quota, now).await,
        };
        match charge {
            Ok(Charge::Granted(permit)) => permits.push(permit),
            Ok(Charge::Exhausted { retry_after }) => {
                refund_all(counters, permits).await;
                return Ok(Joint::Exhausted { place, retry_after });
            }
            Err(error) => {
                refund_all(counters, permits).await;
                return Err(error);
            }
        }
    }
    Ok(Joint::Granted(permits))
}

/// gives back a use that came to nothing; what the state does not hear of stays counted, and leaves with its window
pub async fn refund_all(counters: &dyn Counters, permits: Permits) {
    for permit in permits {
        if let Err(error) = counters.refund(permit).await {
            tracing::debug!(%error, "a use that came to nothing stays counted");
        }
    }
}
