//! The one trial of a policy that may be under way, beside the policy's versions.

use async_trait::async_trait;
use tokio::sync::watch;

use super::link::Lane;
use super::reply::{Reply, integer};
use super::{Redis, number};
use crate::clock::Timestamp;
use crate::state::{StateError, Trial, Trials};

#[async_trait]
impl Trials for Redis {
    async fn begin(&self, trial: Trial, now: Timestamp) -> Result<bool, StateError> {
        let document =
            serde_json::to_string(&trial).map_err(|error| StateError(format!("a trial cannot be encoded: {error}")))?;
        let arguments = vec![
            self.now(now),
            trial.id.into(),
            number(trial.until.as_millis()),
            document.into(),
            self.keys.policy_channel().into(),
        ];
        let keys = vec![self.keys.trial()];
        Ok(integer(&self.link.call(Lane::Upkeep, &self.scripts.trial_begin, keys, arguments).await?)? == 1)
    }

    async fn under_way(&self, now: Timestamp) -> Result<Option<Trial>, StateError> {
        let keys = vec![self.keys.trial()];
        let reply = self.link.call(Lane::Upkeep, &self.scripts.trial_read, keys, Vec::new()).await?;
        let Some(document) = Reply::from(reply).bytes()? else {
            return Ok(None);
        };
        match serde_json::from_slice::<Trial>(&document) {
            Ok(trial) => Ok(Some(trial).filter(|trial| now < trial.until)),
            Err(_) => {
                self.skip_corrupt("trial of a policy");
                Ok(None)
            }
        }
    }

    async fn end(&self, id: &str) -> Result<(), StateError> {
        let arguments = vec![id.into(), self.keys.policy_channel().into()];
        self.link.call(Lane::Upkeep, &self.scripts.trial_end, vec![self.keys.trial()], arguments).await?;
        Ok(())
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.policy.subscribe()
    }
}
