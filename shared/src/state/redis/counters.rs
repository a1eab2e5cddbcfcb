//! Sliding windows, one packed value each; the arithmetic is `charge.lua`.

use async_trait::async_trait;
use fred::types::Value;
use std::time::Duration;

use super::link::Lane;
use super::reply::Reply;
use super::reply::integer;
use super::{Redis, millis, number};
use crate::clock::Timestamp;
use crate::state::{Charge, CounterKey, Counters, Excess, Ledger, Permit, ShareId, Shares, Spent, StateError, Taken};
use crate::window::Quota;

#[async_trait]
impl Counters for Redis {
    async fn charge(&self, key: CounterKey, quota: Quota, now: Timestamp) -> Result<Charge, StateError> {
        let arguments =
            vec![self.now(now), number(quota.limit.get().into()), number(quota.window_ms()), number(quota.slot_ms())];
        let reply =
            self.link.call(Lane::Checks, &self.scripts.charge, vec![self.keys.counter(&key)], arguments).await?;
        let answer = integer(&reply)?;
        Ok(match u64::try_from(answer) {
            Ok(at) => Charge::Granted(Permit { key, at: Timestamp::from_millis(at), ledger: Ledger::Shared }),
            Err(_) => Charge::Exhausted { retry_after: Duration::from_millis(answer.unsigned_abs()) },
        })
    }

    async fn refund(&self, permit: Permit) -> Result<(), StateError> {
        let arguments = vec![number(permit.at.as_millis())];
        self.link.call(Lane::Checks, &self.scripts.refund, vec![self.keys.counter(&permit.key)], arguments).await?;
        Ok(())
    }
}

#[async_trait]
impl Shares for Redis {
    async fn take(
        &self,
        key: &CounterKey,
        quota: Quota,
        share: ShareId,
        life: Duration,
        spent: Option<&Spent>,
        now: Timestamp,
    ) -> Result<(Taken, Excess), StateError> {
        let [units, time, excess] = self.share(key, quota, Some((share, life)), spent, now).await?;
        let taken = match u32::try_from(units).unwrap_or(u32::MAX) {
            0 => Taken::Nothing { retry_after: Duration::from_millis(time) },
            units => Taken::Share { units, at: Timestamp::from_millis(time) },
        };
        Ok((taken, u32::try_from(excess).unwrap_or(u32::MAX)))
    }

    async fn settle(
        &self,
        key: &CounterKey,
        quota: Quota,
        spent: &Spent,
        now: Timestamp,
    ) -> Result<Excess, StateError> {
        let [_, _, excess] = self.share(key, quota, None, Some(spent), now).await?;
        Ok(u32::try_from(excess).unwrap_or(u32::MAX))
    }
}

impl Redis {
    async fn share(
        &self,
        key: &CounterKey,
        quota: Quota,
        wanted: Option<(ShareId, Duration)>,
        spent: Option<&Spent>,
        now: Timestamp,
    ) -> Result<[u64; 3], StateError> {
        let nothing = || Value::from_static_str("");
        let (id, life) = wanted.map_or((nothing(), nothing()), |(id, life)| (stored(id), millis(life)));
        let mut arguments = vec![
            self.now(now),
            number(quota.limit.get().into()),
            number(quota.window_ms()),
            number(quota.slot_ms()),
            id,
            life,
        ];
        arguments.push(spent.map_or_else(nothing, |spent| stored(spent.share)));
        for (at, uses) in spent.into_iter().flat_map(|spent| &spent.uses) {
            arguments.extend([number(at.as_millis()), number((*uses).into())]);
        }
        let keys = vec![self.keys.counter(key)];
        let mut reply = Reply::from(self.link.call(Lane::Checks, &self.scripts.share, keys, arguments).await?);
        Ok([reply.number()?, reply.number()?, reply.number()?])
    }
}

fn stored(id: ShareId) -> Value {
    let mut bytes = Vec::with_capacity(12);
    bytes.extend_from_slice(&id.holder.to_le_bytes());
    bytes.extend_from_slice(&id.number.to_le_bytes());
    Value::Bytes(bytes.into())
}
