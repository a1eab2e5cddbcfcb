//! The versions of the policy, newest last.

use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::VecDeque;
use tokio::sync::watch;

use super::Memory;
use crate::clock::Timestamp;
use crate::policy::Policy;
use crate::state::{Policies, PolicyVersion, Published, StateError};

/// versions that are kept for history and rollback
const VERSIONS_MAX: usize = 100;

pub(super) struct Versions {
    versions: Mutex<VecDeque<PolicyVersion>>,
    hint: watch::Sender<u64>,
}

impl Default for Versions {
    fn default() -> Self {
        Versions { versions: Mutex::default(), hint: watch::Sender::new(0) }
    }
}

#[async_trait]
impl Policies for Memory {
    async fn current(&self) -> Result<Option<PolicyVersion>, StateError> {
        Ok(self.policies.versions.lock().back().cloned())
    }

    async fn newest_version(&self) -> Result<u64, StateError> {
        Ok(self.policies.versions.lock().back().map_or(0, |version| version.version))
    }

    async fn publish(
        &self,
        policy: Policy,
        expected: Option<u64>,
        by: &str,
        now: Timestamp,
    ) -> Result<Published, StateError> {
        let mut versions = self.policies.versions.lock();
        let current = versions.back().map(|version| version.version);
        if current != expected {
            return Ok(Published::Conflict { current: current.unwrap_or(0) });
        }
        let version = current.unwrap_or(0) + 1;
        versions.push_back(PolicyVersion { version, policy, by: by.to_owned(), at: now });
        if versions.len() > VERSIONS_MAX {
            versions.pop_front();
        }
        self.policies.hint.send_replace(version);
        Ok(Published::Version(version))
    }

    async fn restore(&self, lost: PolicyVersion) -> Result<(), StateError> {
        let mut versions = self.policies.versions.lock();
        if versions.back().is_none_or(|newest| newest.version < lost.version) {
            self.policies.hint.send_replace(lost.version);
            versions.push_back(lost);
        }
        Ok(())
    }

    async fn history(&self, max: usize) -> Result<Vec<PolicyVersion>, StateError> {
        Ok(self.policies.versions.lock().iter().rev().take(max).cloned().collect())
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.policies.hint.subscribe()
    }
}
