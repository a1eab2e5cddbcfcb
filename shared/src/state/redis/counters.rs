//! Sliding windows, one packed value each; the arithmetic is `charge.lua`.

use async_trait::async_trait;
use std::time::Duration;

use super::link::Lane;
use super::reply::integer;
use super::{Redis, number};
use crate::clock::Timestamp;
use crate::state::{Charge, CounterKey, Counters, Ledger, Permit, StateError};
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
