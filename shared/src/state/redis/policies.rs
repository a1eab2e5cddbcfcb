//! The versions of the policy as JSON documents, in one hash.

use async_trait::async_trait;
use fred::types::Value;
use tokio::sync::watch;

use super::link::Lane;
use super::reply::Reply;
use super::{Redis, number};
use crate::clock::Timestamp;
use crate::policy::{self, Policy};
use crate::state::{Policies, PolicyVersion, Published, StateError};

/// versions that are kept for history and rollback
const VERSIONS_MAX: u64 = 100;

#[async_trait]
impl Policies for Redis {
    async fn current(&self) -> Result<Option<PolicyVersion>, StateError> {
        self.newest(1).await?.into_iter().next().map(|(_, version)| version).transpose()
    }

    async fn newest_version(&self) -> Result<u64, StateError> {
        Ok(self.newest(1).await?.first().map_or(0, |(version, _)| *version))
    }

    async fn publish(
        &self,
        policy: Policy,
        expected: Option<u64>,
        by: &str,
        now: Timestamp,
    ) -> Result<Published, StateError> {
        let arguments = vec![
            expected.map_or(Value::from_static_str(""), number),
            document(&policy)?,
            by.into(),
            self.now(now),
            number(VERSIONS_MAX),
            self.keys.policy_channel().into(),
        ];
        let reply =
            self.link.call(Lane::Upkeep, &self.scripts.policy_publish, vec![self.keys.policy()], arguments).await?;
        let mut reply = Reply::from(reply);
        Ok(match (reply.integer()?, reply.number()?) {
            (1, version) => Published::Version(version),
            (_, current) => Published::Conflict { current },
        })
    }

    async fn restore(&self, lost: PolicyVersion) -> Result<(), StateError> {
        let arguments = vec![
            number(lost.version),
            document(&lost.policy)?,
            lost.by.into(),
            self.now(lost.at),
            self.keys.policy_channel().into(),
        ];
        self.link.call(Lane::Upkeep, &self.scripts.policy_restore, vec![self.keys.policy()], arguments).await?;
        Ok(())
    }

    async fn history(&self, max: usize) -> Result<Vec<PolicyVersion>, StateError> {
        let newest = self.newest(max).await?;
        Ok(newest
            .into_iter()
            .filter_map(|(_, version)| version.map_err(|_| self.skip_corrupt("policy")).ok())
            .collect())
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.policy.subscribe()
    }
}

impl Redis {
    /// the newest versions, newest first, each by its number as it is or as what is wrong with it
    async fn newest(&self, max: usize) -> Result<Vec<(u64, Result<PolicyVersion, StateError>)>, StateError> {
        let arguments = vec![number(max as u64), number(VERSIONS_MAX)];
        let reply =
            self.link.call(Lane::Upkeep, &self.scripts.policy_read, vec![self.keys.policy()], arguments).await?;
        let mut reply = Reply::from(reply);
        let mut versions = Vec::new();
        while !reply.is_empty() {
            let (version, at, by) = (reply.number()?, Timestamp::from_millis(reply.number()?), reply.text()?);
            let document = reply.bytes()?.unwrap_or_default();
            let policy = serde_json::from_slice(&document);
            let read = match policy {
                Ok(policy) => Ok(PolicyVersion { version, policy, by, at }),
                Err(error) => Err(StateError(format!("version {version} of the policy cannot be read: {error}"))),
            };
            versions.push((version, read));
        }
        Ok(versions)
    }
}

fn document(policy: &Policy) -> Result<Value, StateError> {
    let json = policy::stored(policy).map_err(|error| StateError(format!("the policy cannot be encoded: {error}")))?;
    Ok(json.to_string().into())
}
