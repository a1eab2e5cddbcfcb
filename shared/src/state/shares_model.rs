//! The reference model of the state's side of shares: what `share.lua` does, as plainly as it can be said. For tests.

use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::{CounterKey, Excess, ShareId, Shares, Spent, StateError, Taken};
use crate::clock::Timestamp;
use crate::window::Quota;

#[derive(Default)]
pub struct Book {
    subjects: Mutex<HashMap<CounterKey, Subject>>,
}

/// uses by slot, and the shares that are out by id: the slot that they are dated at, and their units
#[derive(Clone, Default)]
struct Subject {
    slots: BTreeMap<u64, u32>,
    out: BTreeMap<ShareId, (u64, u32)>,
}

impl Subject {
    fn forget(&mut self, quota: Quota, now: Timestamp) {
        let first = now.minus(quota.window).as_millis() / quota.slot_ms();
        self.slots.retain(|slot, _| *slot >= first);
        self.out.retain(|_, (slot, _)| *slot >= first);
    }

    /// moves what was used of a share to its slots; how many uses nobody had charged and are beyond the limit
    fn report(&mut self, quota: Quota, spent: &Spent, now: Timestamp) -> Excess {
        self.forget(quota, now);
        let (_, charged) = self.out.remove(&spent.share).unwrap_or_default();
        let before: u32 = self.slots.values().sum();
        for (at, uses) in &spent.uses {
            *self.slots.entry(at.as_millis() / quota.slot_ms()).or_default() += uses;
        }
        self.forget(quota, now);
        let total: u32 = self.slots.values().sum();
        (total - before).saturating_sub(charged).min(total.saturating_sub(quota.limit.get()))
    }

    fn used(&self) -> u32 {
        self.slots.values().sum::<u32>() + self.out.values().map(|(_, units)| units).sum::<u32>()
    }

    fn take(&mut self, quota: Quota, share: ShareId, life: Duration, now: Timestamp) -> Taken {
        let others: std::collections::BTreeSet<_> =
            self.out.keys().map(|id| id.holder).filter(|holder| *holder != share.holder).collect();
        let limit = quota.limit.get();
        let holders = u32::try_from(others.len()).unwrap() + 1;
        let free = i64::from(limit) - i64::from(self.used());
        let least = i64::from((limit / 10 / holders).max(1));
        let enough = (least * 7 / 10).max(1);
        let units = free.min(least.max(free.div_euclid(10)));
        if units >= enough {
            let units = u32::try_from(units).unwrap();
            self.out.insert(share, (now.plus(life).as_millis() / quota.slot_ms(), units));
            return Taken::Share { units, at: now };
        }
        let mut aging: Vec<_> =
            self.slots.iter().map(|(slot, uses)| (*slot, *uses)).chain(self.out.values().copied()).collect();
        aging.sort_by_key(|(slot, _)| *slot);
        let mut missing = enough - free;
        for (slot, units) in aging {
            missing -= i64::from(units);
            if missing <= 0 {
                let leaves = Timestamp::from_millis((slot + 1) * quota.slot_ms()).plus(quota.window);
                return Taken::Nothing { retry_after: leaves.since(now) };
            }
        }
        Taken::Nothing { retry_after: quota.slot() }
    }
}

impl Book {
    /// an older state of everything, as a replica may have it
    pub fn copy(&self) -> Book {
        Book { subjects: Mutex::new(self.subjects.lock().clone()) }
    }

    /// what counts of a quota, charges of shares included
    pub fn charged(&self, key: &CounterKey, quota: Quota, now: Timestamp) -> u32 {
        self.subjects.lock().get_mut(key).map_or(0, |subject| {
            subject.forget(quota, now);
            subject.used()
        })
    }
}

#[async_trait]
impl Shares for Book {
    async fn take(
        &self,
        key: &CounterKey,
        quota: Quota,
        share: ShareId,
        life: Duration,
        spent: Option<&Spent>,
        now: Timestamp,
    ) -> Result<(Taken, Excess), StateError> {
        let mut subjects = self.subjects.lock();
        let subject = subjects.entry(key.clone()).or_default();
        let excess = spent.map_or(0, |spent| subject.report(quota, spent, now));
        subject.forget(quota, now);
        Ok((subject.take(quota, share, life, now), excess))
    }

    async fn settle(
        &self,
        key: &CounterKey,
        quota: Quota,
        spent: &Spent,
        now: Timestamp,
    ) -> Result<Excess, StateError> {
        Ok(self.subjects.lock().entry(key.clone()).or_default().report(quota, spent, now))
    }
}
