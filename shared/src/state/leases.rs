//! Concurrent connections: slots that are held for a while and come back by themselves.

use async_trait::async_trait;
use std::sync::Arc;

use super::StateError;
use crate::address::AddressKey;
use crate::clock::Timestamp;

/// what is counted
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeaseKey {
    /// all anonymous connections of the cluster
    Anonymous,
    /// the anonymous ones of one address
    AnonymousOf(AddressKey),
    User(Arc<str>),
}

/// one more of `key`, if there are fewer than `cap`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub key: LeaseKey,
    pub cap: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    Granted,
    /// the claim at this place was full; nothing was taken
    Full {
        claim: usize,
    },
}

#[async_trait]
pub trait Leases: Send + Sync {
    /// takes all claims or none
    async fn acquire(&self, claims: &[Claim], now: Timestamp) -> Result<Acquired, StateError>;

    /// counts slots that were granted without asking, while the state was not reachable; never waits
    fn adopt(&self, keys: &[LeaseKey]);

    /// gives slots back; never waits, the backend delivers in its own time
    fn release(&self, keys: &[LeaseKey]);

    /// whether the state may know of fewer slots than are held: it lost its counts, or was away, and they are told again
    fn is_recounting(&self) -> bool {
        false
    }

    /// how many this process holds
    fn held_here(&self, key: &LeaseKey) -> u32;

    /// how many are held in all
    async fn held(&self, key: &LeaseKey) -> Result<u32, StateError>;
}

/// slots that are held until this is dropped
pub struct Lease {
    leases: Arc<dyn Leases>,
    keys: Vec<LeaseKey>,
}

impl Lease {
    /// a place that counts nowhere, for whom no limit holds
    pub fn uncounted(leases: &Arc<dyn Leases>) -> Lease {
        Lease { leases: leases.clone(), keys: Default::default() }
    }

    /// takes all claims, or says which one was full
    pub async fn acquire(
        leases: &Arc<dyn Leases>,
        claims: &[Claim],
        now: Timestamp,
    ) -> Result<Result<Lease, usize>, StateError> {
        Ok(match leases.acquire(claims, now).await? {
            Acquired::Granted => {
                let keys = claims.iter().map(|claim| claim.key.clone()).collect();
                Ok(Lease { leases: leases.clone(), keys })
            }
            Acquired::Full { claim } => Err(claim),
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.release(&self.keys);
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lease").field(&self.keys).finish()
    }
}
