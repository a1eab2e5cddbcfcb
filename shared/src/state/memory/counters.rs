//! Sliding windows by subject, in shards so that connections seldom wait for each other.

use async_trait::async_trait;
use parking_lot::Mutex;
use std::hash::{BuildHasher, RandomState};

use super::Memory;
use crate::clock::Timestamp;
use crate::state::{Charge, CounterKey, Counters, Ledger, Permit, StateError};
use crate::window::{Quota, Verdict};
use crate::window_table::{Full, WindowTable};

const SHARDS: usize = 16;
/// subjects that are counted at once, over all shards; a newcomer beyond it is refused while all others are active
const SUBJECTS_MAX: usize = 1_000_000;

pub(super) struct Table {
    hasher: RandomState,
    shards: [Mutex<WindowTable<CounterKey>>; SHARDS],
}

impl Default for Table {
    fn default() -> Self {
        let shard = |_| Mutex::new(WindowTable::with_capacity(SUBJECTS_MAX / SHARDS));
        Table { hasher: RandomState::new(), shards: std::array::from_fn(shard) }
    }
}

impl Table {
    #[expect(clippy::cast_possible_truncation, reason = "the low bits of a hash choose a shard")]
    fn shard(&self, key: &CounterKey) -> &Mutex<WindowTable<CounterKey>> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }
}

#[async_trait]
impl Counters for Memory {
    async fn charge(&self, key: CounterKey, quota: Quota, now: Timestamp) -> Result<Charge, StateError> {
        let verdict = self.counters.shard(&key).lock().admit(&key, quota, now);
        Ok(match verdict {
            Ok(Verdict::Admitted) => Charge::Granted(Permit { key, at: now, ledger: Ledger::Shared }),
            Ok(Verdict::Refused { retry_after }) => Charge::Exhausted { retry_after },
            Err(Full) => Charge::Exhausted { retry_after: quota.window },
        })
    }

    async fn refund(&self, permit: Permit) -> Result<(), StateError> {
        self.counters.shard(&permit.key).lock().refund(&permit.key, permit.at);
        Ok(())
    }
}
