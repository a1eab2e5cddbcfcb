//! `PUT /config?canary=NODE`: a change is tried at one node before all get it. It is taken back when that node refuses far more than
//! before and than the others ([`harm`](super::harm)), and published when its time is over and that node ran it.
//!
//! Whoever began a trial watches it. Should that coordinator die, the node goes back by itself, and nothing is published.

use picket_shared::audit::{EventType, Severity};
use picket_shared::clock::Timestamp;
use picket_shared::policy::{Enforce, Policy};
use picket_shared::state::{NodeStatus, PolicyVersion, Published, StateError, Trial};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

use super::Api;
use super::auth::Caller;
use super::config::record;
use super::harm::Decided;
use super::history::changed;
use super::problem::Problem;

/// seconds that a trial may last
pub(super) const SECONDS_MIN: u32 = 5;
pub(super) const SECONDS_MAX: u32 = 45;
pub(super) const SECONDS_DEFAULT: u32 = 30;
/// how often the nodes' counts are looked at: as often as they tell them
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// what the node holds on beyond the trial's time, for the policy to be published meanwhile
const GRACE: Duration = Duration::from_secs(10);

/// a trial as `GET /config` shows it
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UnderWay {
    node: String,
    by: String,
    began: Timestamp,
    /// when the node goes back by itself
    until: Timestamp,
}

impl From<Trial> for UnderWay {
    fn from(Trial { node, by, began, until, .. }: Trial) -> Self {
        UnderWay { node, by, began, until }
    }
}

/// begins the trial of a policy that was judged, and watches it
pub(super) async fn begin(
    api: &Arc<Api>,
    caller: Caller,
    node: String,
    seconds: u32,
    current: PolicyVersion,
    policy: Policy,
) -> Result<(), Problem> {
    let now = api.clock.now();
    let nodes = api.state.nodes.nodes(now).await?;
    let Some(chosen) = nodes.iter().find(|one| one.id == node) else {
        return Err(Problem::not_found(format!("no node {node} is alive; GET /nodes lists them")));
    };
    if let Some(word) = silenced(chosen, &policy) {
        return Err(Problem::conflict(format!(
            "node {node} would refuse nobody, so that nothing is shown there: its switch says `{}`; remove its \
             node.enforceFile, or name another node",
            word.as_str()
        )));
    }
    let lasts = Duration::from_secs(seconds.into());
    let trial = Trial {
        id: picket_shared::random::hex(8),
        node,
        base: current.version,
        by: caller.name.clone(),
        began: now,
        until: now.plus(lasts).plus(GRACE),
        policy,
    };
    if !api.state.trials.begin(trial.clone(), now).await? {
        return Err(Problem::conflict("another policy is on trial; GET /config shows it"));
    }
    tell(api, &caller, &trial, &current, "policy on trial at one node", "begun");
    let watch = Watch { api: api.clone(), caller, trial, current, before: nodes };
    api.tasks.spawn("trial of a policy", watch.run(lasts, api.tasks.stopped()));
    Ok(())
}

/// What the node's own switch says, where that hides what the policy would do. A policy that refuses nobody by itself has nothing to
/// hide.
fn silenced(node: &NodeStatus, policy: &Policy) -> Option<Enforce> {
    let is_silent = node.is_switched && node.enforce != Enforce::On;
    (is_silent && policy.enforce == Enforce::On).then_some(node.enforce)
}

struct Watch {
    api: Arc<Api>,
    caller: Caller,
    trial: Trial,
    current: PolicyVersion,
    /// what the nodes had seen when the trial began
    before: Vec<NodeStatus>,
}

/// how a trial ended
enum End {
    /// and why
    TakenBack(String),
    Passed(Decided),
}

/// what a look at the node shows
struct Look {
    /// since the trial began
    seen: Decided,
    runs: Runs,
}

/// whether the node said that it runs the policy on trial
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    Yes,
    No,
}

impl Watch {
    async fn run(self, lasts: Duration, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let ends = tokio::time::Instant::now() + lasts;
        let (mut seen, mut uptake) = (Decided::default(), Uptake::default());
        let end = loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                // The node goes back by itself.
                () = &mut stop => return,
            }
            match self.look().await {
                Ok(Ok(look)) => {
                    seen = look.seen;
                    uptake.note(look.runs);
                }
                Ok(Err(why)) => break End::TakenBack(why),
                // Not knowing is no reason to go on.
                Err(error) if tokio::time::Instant::now() >= ends => break End::TakenBack(error.to_string()),
                Err(error) => tracing::warn!(%error, "the node on trial is not seen"),
            }
            if tokio::time::Instant::now() >= ends {
                let why = uptake.objection().or_else(|| seen.harm_at_the_end());
                break why.map_or(End::Passed(seen), End::TakenBack);
            }
        };
        let outcome = match end {
            End::TakenBack(why) => self.take_back(&why).await,
            End::Passed(seen) => self.publish(seen).await,
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "the trial of a policy was not ended, the node goes back by itself");
            let message = "end of a policy's trial failed, it may have been made";
            tell(&self.api, &self.caller, &self.trial, &self.current, message, &error.to_string());
        }
    }

    /// how the node does; an error in it says why the trial is over
    async fn look(&self) -> Result<Result<Look, String>, StateError> {
        let nodes = self.api.state.nodes.nodes(self.api.clock.now()).await?;
        let (own, others): (Vec<_>, Vec<_>) = nodes.iter().partition(|one| one.id == self.trial.node);
        let Some(own) = own.first() else {
            return Ok(Err(format!("node {} is not alive any more", self.trial.node)));
        };
        if own.policy_version > self.trial.base {
            return Ok(Err(format!("version {} came into force meanwhile", own.policy_version)));
        }
        if let Some(word) = silenced(own, &self.trial.policy) {
            return Ok(Err(format!("its node refuses nobody, by its switch that says `{}`", word.as_str())));
        }
        let before = |id: &str| self.before.iter().find(|one| one.id == id);
        let since = |node: &NodeStatus| Decided::since(before(&node.id), node);
        let of_others = others.into_iter().map(since).fold(Decided::default(), Decided::plus);
        let usual = before(&own.id).map(Decided::of).unwrap_or_default().usual_beside(of_others);
        let seen = since(own);
        // What it said before may be of another trial.
        let runs = if own.on_trial && own.last_seen >= self.trial.began { Runs::Yes } else { Runs::No };
        Ok(seen.harm(usual).map_or(Ok(Look { seen, runs }), Err))
    }

    async fn take_back(&self, why: &str) -> Result<(), StateError> {
        tracing::warn!(node = self.trial.node, why, "policy on trial taken back");
        tell(&self.api, &self.caller, &self.trial, &self.current, "policy on trial taken back", why);
        self.api.state.trials.end(&self.trial.id).await
    }

    async fn publish(&self, seen: Decided) -> Result<(), StateError> {
        let (policy, base) = (self.trial.policy.clone(), Some(self.trial.base));
        match self.api.state.policies.publish(policy, base, &self.caller.name, self.api.clock.now()).await? {
            Published::Version(version) => {
                let message = format!("policy changed after a trial with {seen}");
                record(&self.api, &self.caller, &message, &self.current, &self.trial.policy, version);
            }
            Published::Conflict { current } => {
                let why = format!("version {current} came into force meanwhile");
                tell(&self.api, &self.caller, &self.trial, &self.current, "policy on trial given up", &why);
            }
        }
        // Its node runs the new version before it would go back.
        self.api.state.trials.end(&self.trial.id).await
    }
}

fn tell(api: &Api, caller: &Caller, trial: &Trial, before: &PolicyVersion, message: &str, why: &str) {
    let tried = changed(&before.policy, &trial.policy);
    api.record(EventType::PolicyChanged, Severity::High, caller, message, |record| {
        let record = record.with("node", trial.node.as_str()).with("previousVersion", trial.base);
        record.with("changed", tried).with("why", why)
    });
}

/// in how many of the looks at it the node ran the policy on trial
#[derive(Clone, Copy, Debug, Default)]
struct Uptake {
    looks: u32,
    ran: u32,
}

impl Uptake {
    fn note(&mut self, runs: Runs) {
        self.looks += 1;
        self.ran += u32::from(runs == Runs::Yes);
    }

    /// why the trial shows nothing: most looks must find it, but for the first, which may come before the node's word
    fn objection(self) -> Option<String> {
        let told = || format!("its node ran it in {} of {} looks, too few to show anything", self.ran, self.looks);
        (self.ran == 0 || 2 * self.ran < self.looks).then(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x30_a_trial_counts_that_its_node_ran_in_most_looks_but_the_first() {
        let counts = |looks: &str| {
            let mut uptake = Uptake::default();
            looks.chars().for_each(|look| uptake.note(if look == '+' { Runs::Yes } else { Runs::No }));
            uptake.objection().is_none()
        };
        for looks in ["+", "-+", "+++++", "-++++", "-+-++", "--+++"] {
            assert!(counts(looks), "{looks}");
        }
        for looks in ["", "-", "-----", "---++", "++---", "----+"] {
            assert!(!counts(looks), "{looks}");
        }
    }
}
