//! Revoked tokens: a hash, the order in which they were added, and their ends, all in one slot.

use async_trait::async_trait;
use fred::types::Value;
use tokio::sync::watch;

use super::link::Lane;
use super::reply::{Reply, integer};
use super::{Redis, number, wire};
use crate::clock::Timestamp;
use crate::state::{Added, REVOCATIONS_MAX, Revocation, RevocationLog, RevocationPosition, Revocations, StateError};

/// entries in one answer
const ENTRIES_MAX: u64 = 1000;

#[async_trait]
impl Revocations for Redis {
    async fn revoke(&self, revocations: Vec<Revocation>, now: Timestamp) -> Result<Added, StateError> {
        let mut arguments = vec![self.now(now), self.keys.revocations_channel().into(), number(REVOCATIONS_MAX as u64)];
        for one in &revocations {
            arguments.extend([one.id().into(), Value::Bytes(wire::encode(one)?.into()), number(one.until.as_millis())]);
        }
        let keys = self.keys.revocations().into();
        let added = integer(&self.link.call(Lane::Upkeep, &self.scripts.revoke, keys, arguments).await?)?;
        Ok(if added < 0 { Added::Full } else { Added::Yes })
    }

    async fn since(&self, position: &RevocationPosition) -> Result<RevocationLog, StateError> {
        let arguments = vec![position.version.to_string().into(), position.id.as_str().into(), number(ENTRIES_MAX)];
        let keys = self.keys.revocations().into();
        let reply = self.link.call(Lane::Upkeep, &self.scripts.revoked_since, keys, arguments).await?;
        let mut reply = Reply::from(reply);
        let from_start = reply.integer()? == 1;
        let mut at = if from_start { RevocationPosition::default() } else { position.clone() };
        let mut revocations = Vec::new();
        while !reply.is_empty() {
            at = RevocationPosition { version: reply.number()?, id: reply.text()? };
            match reply.bytes()?.and_then(|bytes| wire::decode(&bytes)) {
                Some(one) => revocations.push(one),
                None => self.skip_corrupt("revoked token"),
            }
        }
        Ok(RevocationLog { from_start, revocations, at })
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.revocations.subscribe()
    }
}
