//! The policy document in the state: compare-and-set by version, with history; and each process's live compiled view.

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::watch;

use super::StateError;
use crate::clock::Timestamp;
use crate::policy::{self, Enforce, Enforcement, Environment, Mistake, Policy, Rules};

/// who a policy is by that was put back after the state lost it
const RESTORED_BY: &str = "picket (restored)";

/// a policy that was in force, who put it there and when
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyVersion {
    pub version: u64,
    #[serde(serialize_with = "policy::serialize_stored")]
    pub policy: Policy,
    pub by: String,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    Version(u64),
    /// another version is in force than the one that was expected
    Conflict {
        current: u64,
    },
}

#[async_trait]
pub trait Policies: Send + Sync {
    async fn current(&self) -> Result<Option<PolicyVersion>, StateError>;

    /// the newest version's number, whether or not its document can be read; 0 if there is none
    async fn newest_version(&self) -> Result<u64, StateError>;

    /// puts a policy in force if the version in force is `expected` (`None`: if there is no policy yet)
    async fn publish(
        &self,
        policy: Policy,
        expected: Option<u64>,
        by: &str,
        now: Timestamp,
    ) -> Result<Published, StateError>;

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
    layers: Mutex<Layers>,
    environment: Environment,
    version: watch::Sender<u64>,
}

/// what the rules in force are made of
struct Layers {
    published: Policy,
    /// takes the published one's place for a while, in this process alone
    trial: Option<Policy>,
    /// takes the place of `enforce`, by the hand of who stands at this machine
    switch: Option<Enforce>,
}

impl Layers {
    fn compile(&self, environment: Environment) -> Result<Rules, Vec<Mistake>> {
        let document = self.trial.as_ref().unwrap_or(&self.published);
        let rules = Rules::compile(document.clone(), environment)?;
        Ok(match self.switch {
            Some(mode) => rules.under(mode),
            None => rules,
        })
    }
}

impl LivePolicy {
    /// the policy of the file, in force until the state answers; or every mistake in it
    pub fn starting_with(policy: Policy, environment: Environment) -> Result<Self, Vec<Mistake>> {
        let layers = Layers { published: policy, trial: None, switch: None };
        let rules = ArcSwap::from_pointee(layers.compile(environment)?);
        let (layers, version) = (Mutex::new(layers), watch::Sender::new(0));
        Ok(LivePolicy { shared: Arc::new(Live { rules, layers, environment, version }) })
    }

    pub fn current(&self) -> Arc<Rules> {
        self.shared.rules.load_full()
    }

    /// what is done with refusals; asked for at every message, so it takes no reference
    pub fn enforcement(&self) -> Enforcement {
        self.shared.rules.load().enforcement
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

    /// the published policy, as the state would hold it
    pub fn as_version(&self) -> PolicyVersion {
        PolicyVersion {
            version: self.version(),
            policy: self.shared.layers.lock().published.clone(),
            by: RESTORED_BY.to_owned(),
            at: Timestamp::default(),
        }
    }

    /// puts a newer policy in force; one with a mistake is refused, and the last good one stays
    pub fn put_in_force(&self, version: PolicyVersion) {
        if version.version <= self.version() {
            return;
        }
        // What was on trial was on trial against the policy before.
        let changed = self.change(|layers| {
            layers.published = version.policy;
            layers.trial = None;
        });
        match changed {
            Ok(()) => {
                self.shared.version.send_replace(version.version);
                tracing::info!(version = version.version, "policy in force");
            }
            Err(mistakes) => {
                let mistakes: Vec<_> = mistakes.iter().map(Mistake::to_string).collect();
                tracing::error!(
                    version = version.version,
                    ?mistakes,
                    "policy refused, the last good one stays in force"
                );
            }
        }
    }

    /// puts a policy in the place of the published one, or takes it back; one with a mistake is refused
    pub fn try_out(&self, trial: Option<Policy>) {
        if self.shared.layers.lock().trial == trial {
            return;
        }
        let begins = trial.is_some();
        match self.change(|layers| layers.trial = trial) {
            Ok(()) => {
                self.shared.version.send_modify(|_| ());
                tracing::info!(begins, "trial of a policy");
            }
            Err(mistakes) => tracing::error!(?mistakes, "policy on trial refused"),
        }
    }

    pub fn is_on_trial(&self) -> bool {
        self.shared.layers.lock().trial.is_some()
    }

    /// puts another word in the place of `enforce`, whatever the policy says now and later; or takes it back
    pub fn switch(&self, mode: Option<Enforce>) {
        match self.change(|layers| layers.switch = mode) {
            Ok(()) => self.shared.version.send_modify(|_| ()),
            // What compiled once compiles again.
            Err(mistakes) => tracing::error!(?mistakes, "enforcement not switched"),
        }
    }

    pub fn switched(&self) -> Option<Enforce> {
        self.shared.layers.lock().switch
    }

    /// changes the layers and what is in force, or neither
    fn change(&self, change: impl FnOnce(&mut Layers)) -> Result<(), Vec<Mistake>> {
        let mut layers = self.shared.layers.lock();
        let mut changed =
            Layers { published: layers.published.clone(), trial: layers.trial.clone(), switch: layers.switch };
        change(&mut changed);
        let rules = changed.compile(self.shared.environment)?;
        self.shared.rules.store(Arc::new(rules));
        *layers = changed;
        Ok(())
    }
}

/// which policy wins where the state has one already
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PolicySource {
    /// the state's; the file's is for a state that has none
    #[default]
    State,
    /// the file's, whenever it differs at the start of a process
    File,
}

/// the policy of this process's configuration, and what it is worth
#[derive(Clone, Debug)]
pub struct FilePolicy {
    pub policy: Policy,
    pub source: PolicySource,
}

/// seeds the state with the file's policy if it has none or the file wins, then follows the state's until `stop` resolves
pub async fn follow_policy(
    live: LivePolicy,
    policies: Arc<dyn Policies>,
    file: FilePolicy,
    now: Timestamp,
    stop: impl Future<Output = ()>,
) {
    tokio::pin!(stop);
    let mut file_is_due = file.source == PolicySource::File;
    let mut hints = policies.hints();
    hints.mark_changed();
    loop {
        tokio::select! {
            changed = hints.changed() => if changed.is_err() { return },
            () = &mut stop => return,
        }
        match policies.current().await {
            Ok(Some(current)) if file_is_due && current.policy != file.policy => {
                file_is_due = publish(&*policies, file.policy.clone(), Some(current.version), now).await.is_err();
            }
            Ok(Some(current)) if current.version >= live.version() => {
                file_is_due = false;
                live.put_in_force(current);
            }
            Ok(_) if live.version() > 0 => restore(&live, &*policies, now).await,
            Ok(_) => file_is_due = publish(&*policies, file.policy.clone(), None, now).await.is_err(),
            Err(error) => tracing::warn!(%error, "policy not refreshed, the last good one stays in force"),
        }
    }
}

/// puts the file's policy into the state, where nobody was quicker; its hint brings it back here
async fn publish(
    policies: &dyn Policies,
    policy: Policy,
    expected: Option<u64>,
    now: Timestamp,
) -> Result<(), StateError> {
    let published = policies.publish(policy, expected, "configuration file", now).await;
    if let Err(error) = &published {
        tracing::warn!(%error, "the file's policy was not published, the last good one stays in force");
    }
    published.map(drop)
}

async fn restore(live: &LivePolicy, policies: &dyn Policies, now: Timestamp) {
    tracing::warn!(version = live.version(), "the state has lost the policy, the one in force is put back");
    if let Err(error) = policies.restore(PolicyVersion { at: now, ..live.as_version() }).await {
        tracing::warn!(%error, "policy not put back, the last good one stays in force");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;
    use crate::tasks::Tasks;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn with_threshold(threshold: u32) -> Policy {
        let mut policy = Policy::default();
        policy.security.suspicious_activity_threshold = threshold;
        policy
    }

    /// a process starts with a file's policy on a state that holds another
    async fn threshold_in_force(source: PolicySource) -> u32 {
        let (state, tasks) = (State::memory(), Tasks::default());
        state.policies.publish(with_threshold(7), None, "admin", NOW).await.unwrap();
        let live = LivePolicy::starting_with(with_threshold(9), Environment::Production).unwrap();
        let mut changes = live.changes();
        let file = FilePolicy { policy: with_threshold(9), source };
        tasks.spawn("policy", follow_policy(live.clone(), state.policies.clone(), file, NOW, tasks.stopped()));
        changes.changed().await.unwrap();
        assert!(tasks.stop(Duration::from_secs(1)).await);
        live.current().document.security.suspicious_activity_threshold
    }

    #[tokio::test]
    async fn the_state_rules_unless_the_file_is_said_to_win() {
        assert_eq!(threshold_in_force(PolicySource::State).await, 7);
        assert_eq!(threshold_in_force(PolicySource::File).await, 9);
    }
}
