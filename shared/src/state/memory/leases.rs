//! Concurrent connections as plain counts; an absent key is zero, so the map is as large as what is held.

use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;

use super::Memory;
use crate::clock::Timestamp;
use crate::state::{Acquired, Claim, LeaseKey, Leases, StateError};

#[derive(Default)]
pub(super) struct Table {
    held: Mutex<HashMap<LeaseKey, u32>>,
}

#[async_trait]
impl Leases for Memory {
    async fn acquire(&self, claims: &[Claim], _now: Timestamp) -> Result<Acquired, StateError> {
        let mut held = self.leases.held.lock();
        let full = claims.iter().position(|claim| held.get(&claim.key).copied().unwrap_or(0) >= claim.cap);
        if let Some(claim) = full {
            return Ok(Acquired::Full { claim });
        }
        for claim in claims {
            *held.entry(claim.key.clone()).or_default() += 1;
        }
        Ok(Acquired::Granted)
    }

    fn adopt(&self, keys: &[LeaseKey]) {
        let mut held = self.leases.held.lock();
        for key in keys {
            *held.entry(key.clone()).or_default() += 1;
        }
    }

    fn held_here(&self, key: &LeaseKey) -> u32 {
        self.leases.held.lock().get(key).copied().unwrap_or(0)
    }

    fn release(&self, keys: &[LeaseKey]) {
        let mut held = self.leases.held.lock();
        for key in keys {
            match held.get_mut(key) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(held.remove(key)),
            }
        }
    }

    async fn held(&self, key: &LeaseKey) -> Result<u32, StateError> {
        Ok(self.held_here(key))
    }
}
