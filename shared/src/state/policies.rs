//! The policy document in the state: compare-and-set by version, with history; and each process's live compiled view.

use arc_swap::ArcSwap;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::watch;

use super::StateError;
use crate::clock::Timestamp;
use crate::policy::{Environment, Mistake, Policy, Rules};

/// who a policy is by that was put back after the state lost it
const RESTORED_BY: &str = "picket (restored)";

/// a policy that was in force, who put it there and when
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyVersion {
    pub version: u64,
    pub policy: Policy,
    pub by: String,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    Version(u64),
    /// another version is in force than the one that was expected
    Conflict { current: u64 },
}

#[async_trait]
pub trait Policies: Send + Sync {
    async fn current(&self) -> Result<Option<PolicyVersion>, StateError>;

    /// puts a policy in force if the version in force is `expected` (`None`: if there is no policy yet)
    async fn publish(&self, policy: Policy, expected: Option<u64>, by: &str, now: Timestamp) -> Result<Published, StateError>;

    /// puts a policy back that the state has lost; nothing happens if it has this version or a newer one
    async fn restore(&self, lost: PolicyVersion) -> Result<(), StateError>;

    /// the newest versions, newest first
    async fn history(&self, max: usize) -> Result<Vec<PolicyVersion>, StateError>;

    /// changes when the policy may have changed; a hint, never the truth
    fn hints(&self) -> watch::Receiver<u64>;
}

/// the policy in force in this process; reading it is one atomic load
#[derive(Clone)]
pub struct LivePolicy {
    shared: Arc<Live>,
}

struct Live {
    rules: ArcSwap<Rules>,
    environment: Environment,
    version: watch::Sender<u64>,
}

impl LivePolicy {
    /// the policy of the file, in force until the state answers; or every mistake in it
    pub fn starting_with(policy: Policy, environment: Environment) -> Result<Self, Vec<Mistake>> {
        let rules = ArcSwap::from_pointee(Rules::compile(policy, environment)?);
        Ok(LivePolicy { shared: Arc::new(Live { rules, environment, version: watch::Sender::new(0) }) })
    }

    pub fn current(&self) -> Arc<Rules> {
        self.shared.rules.load_full()
    }

    pub fn version(&self) -> u64 {
        *self.shared.version.borrow()
    }

    pub fn environment(&self) -> Environment {
        self.shared.environment
    }

    /// changes whenever another policy came into force
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// the policy in force, as the state would hold it
    pub fn as_version(&self) -> PolicyVersion {
        PolicyVersion {
            version: self.version(),
            policy: self.current().document.clone(),
            by: RESTORED_BY.to_owned(),
            at: Timestamp::default(),
        }
    }

    /// puts a newer policy in force; one with a mistake is refused, and the last good one stays
    pub fn put_in_force(&self, version: PolicyVersion) {
        if version.version <= self.version() {
            return;
        }
        match Rules::compile(version.policy, self.shared.environment) {
            Ok(rules) => {
                self.shared.rules.store(Arc::new(rules));
                self.shared.version.send_replace(version.version);
                tracing::info!(version = version.version, "policy in force");
            }
            Err(mistakes) => {
                let mistakes: Vec<_> = mistakes.iter().map(Mistake::to_string).collect();
                tracing::error!(version = version.version, ?mistakes, "policy refused, the last good one stays in force");
            }
        }
    }
}

/// seeds the state with this process's policy if it has none, then follows the state's until `stop` resolves
pub async fn follow_policy(live: LivePolicy, policies: Arc<dyn Policies>, now: Timestamp, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    seed(&live, &*policies, now).await;
    let mut hints = policies.hints();
    hints.mark_changed();
    loop {
        tokio::select! {
            changed = hints.changed() => if changed.is_err() { return },
            () = &mut stop => return,
        }
        match policies.current().await {
            Ok(Some(current)) if current.version >= live.version() => live.put_in_force(current),
            Ok(_) if live.version() > 0 => restore(&live, &*policies, now).await,
            Ok(_) => seed(&live, &*policies, now).await,
            Err(error) => tracing::warn!(%error, "policy not refreshed, the last good one stays in force"),
        }
    }
}

async fn seed(live: &LivePolicy, policies: &dyn Policies, now: Timestamp) {
    let policy = live.current().document.clone();
    if let Err(error) = policies.publish(policy, None, "configuration file", now).await {
        tracing::warn!(%error, "policy not seeded, the file's policy is in force");
    }
}

async fn restore(live: &LivePolicy, policies: &dyn Policies, now: Timestamp) {
    tracing::warn!(version = live.version(), "the state has lost the policy, the one in force is put back");
    if let Err(error) = policies.restore(PolicyVersion { at: now, ..live.as_version() }).await {
        tracing::warn!(%error, "policy not put back, the last good one stays in force");
    }
}
