//! Concurrent connections: a count per generation in a hash per key, added up over the generations not known to be dead.

use async_trait::async_trait;
use fred::types::Value;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;

use super::lease_table::Telling;
use super::link::Lane;
use super::reply::integer;
use super::{Redis, millis, number};
use crate::clock::Timestamp;
use crate::state::{Acquired, Claim, LeaseKey, Leases, StateError};

/// a key that no generation speaks of for so long is garbage
const KEY_LIFE: Duration = Duration::from_secs(60);
/// how often a part of what is held is told again, so that what drifted heals
const PERIOD: Duration = Duration::from_secs(1);
/// the least part, and in how many parts at most all is told: 1000 keys within 3 s, any number within 21 s
const PART_MIN: usize = 334;
const PARTS_MAX: usize = 20;
/// counts that are told at once
const TELLINGS_MAX: usize = 256;
/// what is given back within so short a time is told in one batch
const GATHER: Duration = Duration::from_millis(5);
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// the answer of `lease_take.lua` and `lease_publish.lua` when what was told is lost
const FORGOTTEN: i64 = -1;

#[async_trait]
impl Leases for Redis {
    async fn acquire(&self, claims: &[Claim], _now: Timestamp) -> Result<Acquired, StateError> {
        let mut taken = Taken { redis: self, keys: Vec::with_capacity(claims.len()) };
        for (position, claim) in claims.iter().enumerate() {
            match self.take(claim).await? {
                Acquired::Granted => taken.keys.push(claim.key.clone()),
                Acquired::Full { .. } => {
                    taken.give_back().await;
                    return Ok(Acquired::Full { claim: position });
                }
            }
        }
        taken.keys.clear();
        Ok(Acquired::Granted)
    }

    fn adopt(&self, keys: &[LeaseKey]) {
        let mut table = self.leases.lock();
        keys.iter().for_each(|key| table.hold(key));
        drop(table);
        self.leases_changed.notify_one();
    }

    fn held_here(&self, key: &LeaseKey) -> u32 {
        self.leases.lock().held(key)
    }

    fn release(&self, keys: &[LeaseKey]) {
        let mut table = self.leases.lock();
        keys.iter().for_each(|key| table.give_back(key));
        drop(table);
        self.leases_changed.notify_one();
    }

    fn is_recounting(&self) -> bool {
        self.membership.is_recounting()
    }

    async fn held(&self, key: &LeaseKey) -> Result<u32, StateError> {
        let dead = self.membership.dead().collect();
        let reply = self.link.call(Lane::Upkeep, &self.scripts.lease_count, vec![self.keys.lease(key)], dead).await?;
        Ok(u32::try_from(integer(&reply)?).unwrap_or(u32::MAX))
    }
}

/// what was taken so far: given back unless all of it was, also when nobody waits for the answer any more
struct Taken<'a> {
    redis: &'a Redis,
    keys: Vec<LeaseKey>,
}

impl Taken<'_> {
    /// gives back, and waits until Redis knows; if it does not hear it now, it will
    async fn give_back(mut self) {
        let keys = std::mem::take(&mut self.keys);
        let tellings = {
            let mut table = self.redis.leases.lock();
            keys.iter().for_each(|key| table.give_back(key));
            table.tellings_of(&keys)
        };
        join_all(tellings.iter().map(|telling| self.redis.tell(telling))).await;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            self.redis.release(&self.keys);
        }
    }
}

/// one slot that was asked for; without an answer it is not held, whatever Redis thinks
struct Question<'a> {
    redis: &'a Redis,
    asked: Option<Telling>,
}

impl Question<'_> {
    fn answered(mut self, granted: bool) -> Acquired {
        if let Some(asked) = self.asked.take() {
            let mut table = self.redis.leases.lock();
            if granted { table.granted(&asked) } else { table.refused(&asked) }
        }
        self.redis.leases_changed.notify_one();
        if granted { Acquired::Granted } else { Acquired::Full { claim: 0 } }
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if let Some(asked) = self.asked.take() {
            self.redis.leases.lock().unanswered(&asked);
            self.redis.leases_changed.notify_one();
        }
    }
}

impl Redis {
    async fn take(&self, claim: &Claim) -> Result<Acquired, StateError> {
        if self.link.is_open() {
            return Err(StateError("redis did not answer lately, it is not asked".to_owned()));
        }
        let asked = self.leases.lock().ask(&claim.key);
        let arguments = self.lease_arguments(&asked, Some(claim.cap));
        let question = Question { redis: self, asked: Some(asked) };
        let keys = vec![self.keys.lease(&claim.key)];
        let reply = self.link.call(Lane::Checks, &self.scripts.lease_take, keys, arguments).await?;
        match integer(&reply)? {
            FORGOTTEN => {
                drop(question);
                self.counts_are_lost();
                Err(StateError("redis has lost its counts, they are told again".to_owned()))
            }
            answer => Ok(question.answered(answer == 1)),
        }
    }

    /// others lost theirs too: everything is told again, and whoever has not noticed yet is made to look
    fn counts_are_lost(&self) {
        self.membership.recount();
        self.publish_all_leases();
        self.membership.look();
    }

    pub(super) fn publish_all_leases(&self) {
        self.leases.lock().tell_all();
        self.leases_changed.notify_one();
    }

    fn lease_arguments(&self, telling: &Telling, cap: Option<u32>) -> Vec<Value> {
        let mut arguments = vec![self.membership.generation(), number(telling.count.into()), number(telling.sequence)];
        arguments.extend(cap.map(|cap| number(cap.into())));
        arguments.push(millis(KEY_LIFE));
        arguments.push(number(telling.is_known.into()));
        arguments.extend(self.membership.dead());
        arguments
    }

    /// tells Redis what it has yet to hear; stops at a failure
    async fn tell_leases(&self) -> Result<(), StateError> {
        loop {
            let tellings = self.leases.lock().next_tellings(TELLINGS_MAX);
            if tellings.is_empty() {
                return Ok(());
            }
            join_all(tellings.iter().map(|telling| self.tell(telling))).await.into_iter().collect::<Result<(), _>>()?;
        }
    }

    async fn tell(&self, telling: &Telling) -> Result<(), StateError> {
        let arguments = self.lease_arguments(telling, None);
        let outcome = self
            .link
            .call(Lane::Checks, &self.scripts.lease_publish, vec![self.keys.lease(&telling.key)], arguments)
            .await;
        {
            let mut table = self.leases.lock();
            match &outcome {
                Ok(_) => table.told(telling),
                Err(_) => table.not_told(telling),
            }
        }
        if integer(&outcome?)? == FORGOTTEN {
            self.counts_are_lost();
        }
        Ok(())
    }
}

/// tells Redis what was given back, and everything that is held from time to time
pub(super) async fn publish(redis: Arc<Redis>, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut tick = tokio::time::interval(PERIOD);
    loop {
        let stopping = tokio::select! {
            () = redis.leases_changed.notified() => {
                tokio::time::sleep(GATHER).await;
                false
            }
            _ = tick.tick() => {
                redis.leases.lock().tell_next(PART_MIN, PARTS_MAX);
                false
            }
            () = &mut stop => true,
        };
        let outcome = redis.tell_leases().await;
        if stopping {
            return;
        }
        if outcome.is_err() {
            tokio::time::sleep(RETRY_DELAY).await;
            redis.leases_changed.notify_one();
        }
    }
}
