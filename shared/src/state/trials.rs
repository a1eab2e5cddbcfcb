//! A policy on trial: in force at one node for a while, before all get it. It ends by itself, whatever becomes of who began it.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::watch;

use super::{LivePolicy, StateError};
use crate::clock::{Clock, Timestamp};
use crate::policy::{self, Policy};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    pub id: String,
    pub node: String,
    /// the version that it would take the place of
    pub base: u64,
    pub by: String,
    pub began: Timestamp,
    /// when the node goes back by itself
    pub until: Timestamp,
    /// with its secrets, which nothing shows
    #[serde(serialize_with = "policy::serialize_stored")]
    pub policy: Policy,
}

#[async_trait]
pub trait Trials: Send + Sync {
    /// begins a trial, unless one is under way
    async fn begin(&self, trial: Trial, now: Timestamp) -> Result<bool, StateError>;

    /// the trial that is under way
    async fn under_way(&self, now: Timestamp) -> Result<Option<Trial>, StateError>;

    /// ends this trial, if it is under way
    async fn end(&self, id: &str) -> Result<(), StateError>;

    /// changes when a trial may have begun or ended; a hint, never the truth
    fn hints(&self) -> watch::Receiver<u64>;
}

/// puts trials at this node in force, and takes them back when they are over, until `stop` resolves
pub async fn follow_trials(
    live: LivePolicy,
    trials: Arc<dyn Trials>,
    node: String,
    clock: Arc<dyn Clock>,
    stop: impl Future<Output = ()>,
) {
    tokio::pin!(stop);
    let mut hints = trials.hints();
    hints.mark_changed();
    let mut known: Option<Trial> = None;
    loop {
        let left = known.as_ref().map(|trial| trial.until.since(clock.now()));
        tokio::select! {
            changed = hints.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => {}
            () = &mut stop => return,
        }
        let now = clock.now();
        match trials.under_way(now).await {
            Ok(found) => known = found.filter(|trial| trial.node == node && trial.base == live.version()),
            // Whatever the state says later, a trial does not outlive its time.
            Err(error) => tracing::debug!(%error, "trials of policies not refreshed"),
        }
        known = known.filter(|trial| now < trial.until);
        live.try_out(known.as_ref().map(|trial| trial.policy.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::policy::Environment;
    use crate::state::State;
    use crate::tasks::Tasks;
    use std::time::Duration;

    #[tokio::test]
    async fn a_trial_is_in_force_at_its_node_only_and_ends_by_itself() {
        let (state, tasks, clock) = (State::memory(), Tasks::default(), Arc::new(SystemClock));
        let live = |_: &str| LivePolicy::starting_with(Policy::default(), Environment::Production).unwrap();
        let (one, other) = (live("one"), live("other"));
        for (name, live) in [("one", &one), ("other", &other)] {
            let trials = state.trials.clone();
            tasks.spawn("trials", follow_trials(live.clone(), trials, name.into(), clock.clone(), tasks.stopped()));
        }
        let mut policy = Policy::default();
        policy.security.allow_anonymous = false;
        let began = clock.now();
        let trial = Trial {
            id: "t".into(),
            node: "one".into(),
            base: 0,
            by: "admin".into(),
            began,
            until: began.plus(Duration::from_millis(300)),
            policy,
        };
        let mut changes = one.changes();
        assert!(state.trials.begin(trial.clone(), began).await.unwrap());
        assert!(!state.trials.begin(Trial { id: "u".into(), ..trial }, clock.now()).await.unwrap(), "one at a time");
        changes.changed().await.unwrap();
        assert!(one.is_on_trial() && !one.current().security.allow_anonymous);
        assert!(one.as_version().policy.security.allow_anonymous, "what is published stays what it was");
        assert!(!other.is_on_trial());
        changes.changed().await.unwrap();
        assert!(!one.is_on_trial() && one.current().security.allow_anonymous);
        assert!(tasks.stop(Duration::from_secs(1)).await);
    }
}
