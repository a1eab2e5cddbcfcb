//! Shares of quotas: a node takes a part of a subject's remaining quota in one trip and decides from it in memory.
//!
//! A share is charged at once, dated at the latest moment it could be used, and stored under its id. With its next take, or when
//! the share lapses, the node reports the real uses; the same step moves only what that id still holds. A lost reply or report
//! leaves the late date standing, so sharing only ever admits less: no trailing window holds more than the limit. When nothing is
//! to be had, the state says when enough will be free, and until then the node refuses from memory.
//!
//! A report may hold more uses than were charged: what the node let through alone while the state was away, or of a share that the
//! state has lost. Of these the state answers how many went beyond the limit, and the node counts them ([`Overshoot`]).

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;

use super::identities::Place;
use super::overshoot::Overshoot;
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

/// what was used of a share, and beside it, by moments, in the state's time or later
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

/// how many uses of a report were charged by nobody and are beyond the limit of the window that they fall into
pub type Excess = u32;

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
    ) -> Result<(Taken, Excess), StateError>;

    /// reports what was used of a share that has lapsed; what was not is free again
    async fn settle(&self, key: &CounterKey, quota: Quota, spent: &Spent, now: Timestamp)
    -> Result<Excess, StateError>;
}

/// what this node holds of every quota
pub struct Holdings {
    counters: Arc<dyn Counters>,
    shares: Arc<dyn Shares>,
    clock: Arc<dyn Clock>,
    identities: Arc<Identities>,
    holder: u64,
    taken: AtomicU32,
    /// whether the last trip was answered: what may not be told twice is told only then
    is_answered: AtomicBool,
    overshoot: Arc<Overshoot>,
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
    /// let through while the state did not answer, and not told yet
    alone: Option<Alone>,
}

struct Alone {
    quota: Quota,
    uses: Vec<(Timestamp, u32)>,
}

impl Alone {
    /// no more moments than a window has slots
    fn add(&mut self, quota: Quota, at: Timestamp) {
        self.quota = quota;
        add(&mut self.uses, quota, at);
        self.uses.retain(|(used, _)| used.plus(quota.window + quota.slot()) > at);
    }

    fn still_counts(&self, now: Timestamp) -> bool {
        self.uses.last().is_some_and(|(used, _)| used.plus(self.quota.window + self.quota.slot()) > now)
    }
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
        add(&mut self.uses, self.quota, at);
        Some(at)
    }

    fn give_back(&mut self, at: Timestamp) -> bool {
        let was_used = take_back(&mut self.uses, at);
        self.used -= u32::from(was_used);
        was_used
    }

    fn spent(self) -> Spent {
        Spent { share: self.id, uses: self.uses }
    }
}

fn add(uses: &mut Vec<(Timestamp, u32)>, quota: Quota, at: Timestamp) {
    match uses.last_mut() {
        Some((last, count)) if same_slot(quota, *last, at) => *count += 1,
        _ => uses.push((at, 1)),
    }
}

fn take_back(uses: &mut Vec<(Timestamp, u32)>, at: Timestamp) -> bool {
    let Some(place) = uses.iter().rposition(|(used, _)| *used <= at) else {
        return false;
    };
    uses[place].1 -= 1;
    if uses[place].1 == 0 {
        uses.remove(place);
    }
    true
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
        identities: impl Into<Arc<Identities>>,
        overshoot: Arc<Overshoot>,
    ) -> Self {
        Holdings {
            counters,
            shares,
            clock,
            identities: identities.into(),
            holder: u64::from_le_bytes(crate::random::bytes()),
            taken: AtomicU32::new(0),
            is_answered: AtomicBool::new(false),
            overshoot,
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// reports shares that have lapsed, and what was used alone, until `stop` resolves, then all of them
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
        let is_answered = self.is_answered.load(Ordering::Relaxed);
        let mut due = Vec::new();
        for shard in &self.shards {
            shard.lock().retain(|key, holding| {
                let mut local = holding.local.lock();
                if let Some(share) = local.share.take_if(|share| is_due(share, now)) {
                    due.push((key.clone(), share.quota, share.spent()));
                }
                if let Some(alone) = local.alone.take_if(|alone| is_answered || !alone.still_counts(now))
                    && alone.still_counts(now)
                {
                    due.push((key.clone(), alone.quota, self.beside_a_share(alone)));
                }
                let is_full = local.exhausted.is_some_and(|(_, until)| now < until);
                local.share.is_some() || is_full || local.alone.is_some() || Arc::strong_count(holding) > 1
            });
        }
        let reports =
            due.into_iter().map(|(key, quota, spent)| async move { self.report(&key, quota, &spent, now).await });
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
    fn shard(&self, key: &CounterKey) -> MutexGuard<'_, HashMap<CounterKey, Arc<Holding>>> {
        self.shards[self.hasher.hash_one(key) as usize % SHARDS].lock()
    }

    fn holding(&self, key: &CounterKey) -> Option<Arc<Holding>> {
        let mut shard = self.shard(key);
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
                None => (None, self.to_report(&mut local, quota)),
            }
        };
        if let Some(charge) = known {
            return Ok(charge);
        }
        // What was used under another quota has slots of another length.
        let spent = match spent {
            Some((old, spent)) if old.window != quota.window => {
                self.report(key, old, &spent, sent).await?;
                None
            }
            spent => spent.map(|(_, spent)| spent),
        };
        let id = self.next_id();
        let taken = self.shares.take(key, quota, id, life(quota), spent.as_ref(), sent).await;
        let answer = self.heard(key, taken)?;
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

    /// what was used of the share that is held, and alone. An answer that is late may have been lost on its way back, and a use
    /// told twice would count twice: so what was used alone goes with a trip that follows an answered one
    fn to_report(&self, local: &mut Local, quota: Quota) -> Option<(Quota, Spent)> {
        let share = local.share.take().map(|share| (share.quota, share.spent()));
        let Some(alone) = local.alone.take_if(|_| self.is_answered.load(Ordering::Relaxed)) else {
            return share;
        };
        Some(match share {
            Some((of, mut spent)) => {
                spent.uses.extend(alone.uses);
                (of, spent)
            }
            None => (quota, self.beside_a_share(alone)),
        })
    }

    /// under an id that was never charged
    fn beside_a_share(&self, alone: Alone) -> Spent {
        Spent { share: self.next_id(), uses: alone.uses }
    }

    fn next_id(&self) -> ShareId {
        ShareId { holder: self.holder, number: self.taken.fetch_add(1, Ordering::Relaxed) }
    }

    async fn report(&self, key: &CounterKey, quota: Quota, spent: &Spent, now: Timestamp) -> Result<(), StateError> {
        let settled = self.shares.settle(key, quota, spent, now).await;
        self.heard(key, settled.map(|excess| ((), excess)))
    }

    /// takes note of whether a trip was answered, and of what it says went beyond the limit
    fn heard<T>(&self, key: &CounterKey, answer: Result<(T, Excess), StateError>) -> Result<T, StateError> {
        self.is_answered.store(answer.is_ok(), Ordering::Relaxed);
        let (answer, excess) = answer?;
        self.overshoot.found(&key.limit, excess);
        Ok(answer)
    }
}

#[async_trait]
impl Counters for Holdings {
    async fn charge(&self, key: CounterKey, quota: Quota, now: Timestamp) -> Result<Charge, StateError> {
        if let Some(charge) = self.charge_at_once(&key, quota, now) {
            return Ok(charge);
        }
        let (key, quota) = match self.identities.place(key, quota, now) {
            Place::Counter(key, quota) => (key, quota),
            Place::Nowhere(key) => return Ok(Charge::Granted(Permit { key, at: now, ledger: Ledger::None })),
        };
        let holding = if quota.exact { None } else { self.holding(&key) };
        let Some(holding) = holding else {
            let charge = self.counters.charge(key, quota, now).await;
            self.is_answered.store(charge.is_ok(), Ordering::Relaxed);
            return charge;
        };
        let known = holding.local.lock().charge(&key, quota, now);
        match known {
            Some(charge) => Ok(charge),
            None => self.take(&holding, &key, quota).await,
        }
    }

    fn charge_at_once(&self, key: &CounterKey, quota: Quota, now: Timestamp) -> Option<Charge> {
        if quota.exact {
            return None;
        }
        self.shard(key).get(key)?.local.lock().charge(key, quota, now)
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

    fn remember(&self, permit: &Permit, quota: Quota) {
        if let Some(holding) = self.holding(&permit.key) {
            let mut local = holding.local.lock();
            local.alone.get_or_insert_with(|| Alone { quota, uses: Vec::new() }).add(quota, permit.at);
        }
    }

    fn forget(&self, permit: &Permit) {
        if let Some(holding) = self.holding(&permit.key) {
            let mut local = holding.local.lock();
            if let Some(alone) = &mut local.alone {
                take_back(&mut alone.uses, permit.at);
            }
        }
    }
}

#[cfg(test)]
#[path = "shares_tests.rs"]
mod tests;
