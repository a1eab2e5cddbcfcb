//! Shares of quotas: a node takes a part of a subject's remaining quota in one trip and decides from it in memory.
//!
//! A share is charged at once, dated at the latest moment it could be used, and stored under its id. With its next take, or when
//! the share lapses, the node reports the real uses; the same step moves only what that id still holds. A lost reply or report
//! leaves the late date standing, so sharing only ever admits less: no trailing window holds more than the limit. When nothing is
//! to be had, the state says when enough will be free, and until then the node refuses from memory.

use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;

use super::identities::Place;
use super::{Charge, CounterKey, Counters, Identities, Ledger, Permit, StateError};
use crate::clock::{Clock, Timestamp};
use crate::window::Quota;

/// quotas that this node holds something of, or remembers as used up; beyond it each use is counted by itself
const HOLDINGS_MAX: usize = 500_000;
const SHARDS: usize = 64;
/// how often lapsed shares are looked for
const SETTLE_PERIOD: Duration = Duration::from_millis(500);
/// reports on their way at once
const SETTLING_MAX: usize = 64;

/// names a share for ever: the process that took it, and how many it had taken before
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShareId {
    pub holder: u64,
    pub number: u32,
}

/// what was used of a share, by moments, in the state's time or later
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    pub share: ShareId,
    pub uses: Vec<(Timestamp, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// so many uses, to be made within the life of the share; `at` is the state's time
    Share { units: u32, at: Timestamp },
    /// enough will be free after this time, if nobody else takes it
    Nothing { retry_after: Duration },
}

#[async_trait]
pub trait Shares: Send + Sync {
    /// reports `spent` and takes the next share, in one step; no more than a tenth of what remains, or of the limit by the number
    /// of holders, whichever is more; and rather nothing than less than seven tenths of the latter
    async fn take(
        &self,
        key: &CounterKey,
        quota: Quota,
        share: ShareId,
        life: Duration,
        spent: Option<&Spent>,
        now: Timestamp,
    ) -> Result<Taken, StateError>;

    /// reports what was used of a share that has lapsed; what was not is free again
    async fn settle(&self, key: &CounterKey, quota: Quota, spent: &Spent, now: Timestamp) -> Result<(), StateError>;
}

/// what this node holds of every quota
pub struct Holdings {
    counters: Arc<dyn Counters>,
    shares: Arc<dyn Shares>,
    clock: Arc<dyn Clock>,
    identities: Identities,
    holder: u64,
    taken: AtomicU32,
    hasher: RandomState,
    shards: [Mutex<HashMap<CounterKey, Arc<Holding>>>; SHARDS],
}

/// what this node holds of one quota
#[derive(Default)]
struct Holding {
    local: Mutex<Local>,
    /// one asks for the next share, and the others wait for it
    taking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Local {
    share: Option<Share>,
    /// nothing was to be had of this quota until then
    exhausted: Option<(Quota, Timestamp)>,
}

struct Share {
    id: ShareId,
    quota: Quota,
    units: u32,
    used: u32,
    uses: Vec<(Timestamp, u32)>,
    /// when it was asked for, by this node's clock, and answered, by the state's
    sent: Timestamp,
    at: Timestamp,
    until: Timestamp,
}

impl Share {
    /// one use; dated by the time since it was asked for, so not before the state would date it
    fn use_one(&mut self, now: Timestamp) -> Option<Timestamp> {
        if now >= self.until || now < self.sent || self.used >= self.units {
            return None;
        }
        self.used += 1;
        let at = self.at.plus(now.since(self.sent));
        match self.uses.last_mut() {
            Some((last, uses)) if same_slot(self.quota, *last, at) => *uses += 1,
            _ => self.uses.push((at, 1)),
        }
        Some(at)
    }

    fn give_back(&mut self, at: Timestamp) -> bool {
        let Some(place) = self.uses.iter().rposition(|(used, _)| *used <= at) else {
            return false;
        };
        self.uses[place].1 -= 1;
        if self.uses[place].1 == 0 {
            self.uses.remove(place);
        }
        self.used -= 1;
        true
    }

    fn spent(self) -> Spent {
        Spent { share: self.id, uses: self.uses }
    }
}

fn same_slot(quota: Quota, one: Timestamp, other: Timestamp) -> bool {
    one.as_millis() / quota.slot_ms() == other.as_millis() / quota.slot_ms()
}

/// how long a share may be used: half a window, so that what a dead node held is free after a window and a half
fn life(quota: Quota) -> Duration {
    quota.window / 2
}

impl Local {
    fn charge(&mut self, key: &CounterKey, quota: Quota, now: Timestamp) -> Option<Charge> {
        if let Some(share) = self.share.as_mut().filter(|share| share.quota == quota)
            && let Some(at) = share.use_one(now)
        {
            return Some(Charge::Granted(Permit { key: key.clone(), at, ledger: Ledger::Share(share.id) }));
        }
        let (_, until) = self.exhausted.filter(|(of, until)| *of == quota && now < *until)?;
        Some(Charge::Exhausted { retry_after: until.since(now) })
    }
}

impl Holdings {
    pub fn new(
        counters: Arc<dyn Counters>,
        shares: Arc<dyn Shares>,
        clock: Arc<dyn Clock>,
        identities: Identities,
    ) -> Self {
        Holdings {
            counters,
            shares,
            clock,
            identities,
            holder: u64::from_le_bytes(crate::random::bytes()),
            taken: AtomicU32::new(0),
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    pub fn identities(&self) -> &Identities {
        &self.identities
    }

    /// reports shares that have lapsed until `stop` resolves, then all of them
    pub async fn settle_lapsed(self: Arc<Self>, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut tick = tokio::time::interval(SETTLE_PERIOD);
        loop {
            tokio::select! {
                _ = tick.tick() => self.settle(|share, now| now >= share.until || now < share.sent).await,
                () = &mut stop => return self.settle(|_, _| true).await,
            }
        }
    }

    async fn settle(&self, is_due: impl Fn(&Share, Timestamp) -> bool) {
        let now = self.clock.now();
        let mut due = Vec::new();
        for shard in &self.shards {
            shard.lock().retain(|key, holding| {
                let mut local = holding.local.lock();
                if let Some(share) = local.share.take_if(|share| is_due(share, now)) {
                    due.push((key.clone(), share.quota, share.spent()));
                }
                let is_full = local.exhausted.is_some_and(|(_, until)| now < until);
                local.share.is_some() || is_full || Arc::strong_count(holding) > 1
            });
        }
        let reports = due.into_iter().map(|(key, quota, spent)| {
            let shares = self.shares.clone();
            async move { shares.settle(&key, quota, &spent, now).await }
        });
        let failed = futures_util::stream::iter(reports)
            .buffer_unordered(SETTLING_MAX)
            .filter(|outcome| std::future::ready(outcome.is_err()))
            .count()
            .await;
        if failed > 0 {
            tracing::debug!(failed, "shares not reported, they stay charged as if they had been used at their end");
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits of a hash choose a shard")]
    fn shard(&self, key: &CounterKey) -> &Mutex<HashMap<CounterKey, Arc<Holding>>> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    /// by what is held already, without a trip and without a new place
    fn charge_held(&self, key: &CounterKey, quota: Quota, now: Timestamp) -> Option<Charge> {
        let holding = self.shard(key).lock().get(key).cloned()?;
        holding.local.lock().charge(key, quota, now)
    }

    fn holding(&self, key: &CounterKey) -> Option<Arc<Holding>> {
        let mut shard = self.shard(key).lock();
        if let Some(holding) = shard.get(key) {
            return Some(holding.clone());
        }
        if shard.len() >= HOLDINGS_MAX / SHARDS {
            return None;
        }
        let holding = Arc::new(Holding::default());
        shard.insert(key.clone(), holding.clone());
        Some(holding)
    }

    async fn take(&self, holding: &Holding, key: &CounterKey, quota: Quota) -> Result<Charge, StateError> {
        let _alone = holding.taking.lock().await;
        // Somebody else may have taken a share while this one waited.
        let sent = self.clock.now();
        let (known, spent) = {
            let mut local = holding.local.lock();
            match local.charge(key, quota, sent) {
                Some(charge) => (Some(charge), None),
                None => (None, local.share.take().map(|share| (share.quota, share.spent()))),
            }
        };
        if let Some(charge) = known {
            return Ok(charge);
        }
        // What was used under another quota has slots of another length.
        let spent = match spent {
            Some((old, spent)) if old.window != quota.window => {
                self.shares.settle(key, old, &spent, sent).await?;
                None
            }
            spent => spent.map(|(_, spent)| spent),
        };
        let id = ShareId { holder: self.holder, number: self.taken.fetch_add(1, Ordering::Relaxed) };
        let answer = self.shares.take(key, quota, id, life(quota), spent.as_ref(), sent).await?;
        let now = self.clock.now().max(sent);
        let mut local = holding.local.lock();
        match answer {
            Taken::Share { units, at } => {
                let until = sent.plus(life(quota));
                local.exhausted = None;
                local.share = Some(Share { id, quota, units, used: 0, uses: Vec::new(), sent, at, until });
            }
            Taken::Nothing { retry_after } => local.exhausted = Some((quota, now.plus(retry_after))),
        }
        let too_late = StateError("a share lapsed before it arrived".to_owned());
        local.charge(key, quota, now).ok_or(too_late)
    }
}

#[async_trait]
impl Counters for Holdings {
    async fn charge(&self, key: CounterKey, quota: Quota, now: Timestamp) -> Result<Charge, StateError> {
        if !quota.exact
            && let Some(charge) = self.charge_held(&key, quota, now)
        {
            return Ok(charge);
        }
        let (key, quota) = match self.identities.place(key, quota, now) {
            Place::Counter(key, quota) => (key, quota),
            Place::Nowhere(key) => return Ok(Charge::Granted(Permit { key, at: now, ledger: Ledger::None })),
        };
        let holding = if quota.exact { None } else { self.holding(&key) };
        let Some(holding) = holding else {
            return self.counters.charge(key, quota, now).await;
        };
        let known = holding.local.lock().charge(&key, quota, now);
        match known {
            Some(charge) => Ok(charge),
            None => self.take(&holding, &key, quota).await,
        }
    }

    /// a permit goes back to the share it came from. If that has been reported meanwhile, it goes back to the state: had the report
    /// been lost, the whole share would still be charged there, so no more is given back than was taken
    async fn refund(&self, permit: Permit) -> Result<(), StateError> {
        let id = match permit.ledger {
            Ledger::Share(id) => id,
            Ledger::None => return Ok(()),
            Ledger::Shared | Ledger::Local => return self.counters.refund(permit).await,
        };
        if let Some(holding) = self.holding(&permit.key) {
            let mut local = holding.local.lock();
            local.exhausted = None;
            if let Some(share) = local.share.as_mut().filter(|share| share.id == id)
                && share.give_back(permit.at)
            {
                return Ok(());
            }
        }
        self.counters.refund(Permit { ledger: Ledger::Shared, ..permit }).await
    }
}

#[cfg(test)]
#[path = "shares_tests.rs"]
mod tests;
