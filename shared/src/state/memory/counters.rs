//! Sliding windows by subject, in shards so that connections seldom wait for each other.

use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::Memory;
use crate::clock::Timestamp;
use crate::state::{Charge, CounterKey, Counters, Permit, StateError};
use crate::window::{Quota, Verdict, Window};

const SHARDS: usize = 16;
/// subjects that are counted at once, over all shards; beyond it idle ones go, then the least recently grown shard refuses
pub const SUBJECTS_MAX: usize = 1_000_000;
/// how many windows one charge looks at while it makes room: keeps a charge O(1)
const SWEEP_STEPS: usize = 64;

pub(super) struct Table {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    windows: HashMap<CounterKey, (Quota, Window)>,
    /// the charge count at which the next full sweep is due
    next_sweep: usize,
}

impl Default for Table {
    fn default() -> Self {
        Table { hasher: RandomState::new(), shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Table {
    #[expect(clippy::cast_possible_truncation, reason = "the low bits of a hash choose a shard")]
    fn shard(&self, key: &CounterKey) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }
}

impl Shard {
    fn charge(&mut self, key: CounterKey, quota: Quota, now: Timestamp) -> Charge {
        if !self.windows.contains_key(&key) && !self.make_room(now) {
            return Charge::Exhausted { retry_after: quota.window };
        }
        let (known, window) = self.windows.entry(key.clone()).or_insert_with(|| (quota, Window::default()));
        *known = quota;
        match window.admit(quota, now) {
            Verdict::Admitted => Charge::Granted(Permit { key, at: now }),
            Verdict::Refused { retry_after } => Charge::Exhausted { retry_after },
        }
    }

    /// forgets idle windows when the table has doubled since the last time, so that a charge costs amortised O(1)
    fn make_room(&mut self, now: Timestamp) -> bool {
        let full = SUBJECTS_MAX / SHARDS;
        if self.windows.len() >= self.next_sweep.max(SWEEP_STEPS).min(full) {
            self.windows.retain(|_, (quota, window)| !window.is_idle(*quota, now));
            self.next_sweep = self.windows.len() * 2;
        }
        self.windows.len() < full
    }
}

#[async_trait]
impl Counters for Memory {
    async fn charge(&self, key: CounterKey, quota: Quota, now: Timestamp) -> Result<Charge, StateError> {
        Ok(self.counters.shard(&key).lock().charge(key, quota, now))
    }

    async fn refund(&self, permit: Permit) -> Result<(), StateError> {
        if let Some((_, window)) = self.counters.shard(&permit.key).lock().windows.get_mut(&permit.key) {
            window.refund(permit.at);
        }
        Ok(())
    }
}
