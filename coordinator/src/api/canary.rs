//! `PUT /config?canary=NODE`: a change is tried at one node before all get it. It is taken back when that node refuses far more than
//! before and than the others, and published when its time is over.
//!
//! Whoever began a trial watches it. Should that coordinator die, the node goes back by itself, and nothing is published.

use picket_shared::audit::{EventType, Severity};
use picket_shared::clock::Timestamp;
use picket_shared::policy::Policy;
use picket_shared::state::{NodeStatus, PolicyVersion, Published, StateError, TrafficSnapshot, Trial};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

use super::Api;
use super::auth::Caller;
use super::config::record;
use super::problem::Problem;

/// seconds that a trial may last
pub(super) const SECONDS_MIN: u32 = 5;
pub(super) const SECONDS_MAX: u32 = 45;
pub(super) const SECONDS_DEFAULT: u32 = 30;
/// how often the nodes' counts are looked at: as often as they tell them
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// what the node holds on beyond the trial's time, for the policy to be published meanwhile
const GRACE: Duration = Duration::from_secs(10);
/// decisions without which nothing is said about a rate
const ENOUGH: u64 = 20;
/// a rate of refusals that is harmful by itself, and how many times the usual one is
const HARMFUL: f64 = 0.5;
const HARMFUL_FACTOR: f64 = 5.0;
/// the usual rate is taken for at least this
const USUAL_MIN: f64 = 0.01;

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
    if !nodes.iter().any(|one| one.id == node) {
        return Err(Problem::not_found(format!("no node {node} is alive; GET /nodes lists them")));
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
    tell(api, &caller, &trial, "policy on trial at one node", "begun");
    let watch = Watch { api: api.clone(), caller, trial, current, before: nodes };
    api.tasks.spawn("trial of a policy", watch.run(lasts, api.tasks.stopped()));
    Ok(())
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
    Harmful(String),
    Passed(Rate),
}

impl Watch {
    async fn run(self, lasts: Duration, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let ends = tokio::time::Instant::now() + lasts;
        let mut seen = Rate::default();
        let end = loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                // The node goes back by itself.
                () = &mut stop => return,
            }
            match self.look().await {
                Ok(Ok(rate)) => seen = rate,
                Ok(Err(harm)) => break End::Harmful(harm),
                // Not knowing is no reason to go on.
                Err(error) if tokio::time::Instant::now() >= ends => break End::Harmful(error.to_string()),
                Err(error) => tracing::warn!(%error, "the node on trial is not seen"),
            }
            if tokio::time::Instant::now() >= ends {
                break End::Passed(seen);
            }
        };
        let outcome = match end {
            End::Harmful(harm) => self.take_back(&harm).await,
            End::Passed(seen) => self.publish(seen).await,
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "the trial of a policy was not ended, the node goes back by itself");
        }
    }

    /// the node's rate of refusals since the trial began; an error in it says why the policy is harmful
    async fn look(&self) -> Result<Result<Rate, String>, StateError> {
        let nodes = self.api.state.nodes.nodes(self.api.clock.now()).await?;
        let (own, others): (Vec<_>, Vec<_>) = nodes.iter().partition(|one| one.id == self.trial.node);
        let Some(own) = own.first() else {
            return Ok(Err(format!("node {} is not alive any more", self.trial.node)));
        };
        let before = |id: &str| {
            self.before.iter().find(|one| one.id == id).map_or_else(TrafficSnapshot::default, |one| one.traffic)
        };
        let since = |node: &NodeStatus| Rate::between(&before(&node.id), &node.traffic);
        let of_others = others.into_iter().map(since).fold(Rate::default(), Rate::plus);
        let usual = Rate::of(&before(&own.id)).fraction().max(of_others.fraction());
        let rate = since(own);
        Ok(rate.harm(usual).map_or(Ok(rate), Err))
    }

    async fn take_back(&self, harm: &str) -> Result<(), StateError> {
        self.api.state.trials.end(&self.trial.id).await?;
        tracing::warn!(node = self.trial.node, harm, "policy on trial taken back");
        tell(&self.api, &self.caller, &self.trial, "policy on trial taken back", harm);
        Ok(())
    }

    async fn publish(&self, seen: Rate) -> Result<(), StateError> {
        let (policy, base) = (self.trial.policy.clone(), Some(self.trial.base));
        let published = self.api.state.policies.publish(policy, base, &self.caller.name, self.api.clock.now()).await?;
        // Its node runs the new version before it would go back.
        self.api.state.trials.end(&self.trial.id).await?;
        match published {
            Published::Version(version) => {
                let message = format!("policy changed after a trial with {} of {} refused", seen.refused, seen.all);
                record(&self.api, &self.caller, &message, &self.current, &self.trial.policy, version);
            }
            Published::Conflict { current } => {
                let why = format!("version {current} came into force meanwhile");
                tell(&self.api, &self.caller, &self.trial, "policy on trial given up", &why);
            }
        }
        Ok(())
    }
}

fn tell(api: &Api, caller: &Caller, trial: &Trial, message: &str, why: &str) {
    api.record(EventType::PolicyChanged, Severity::High, caller, message, |record| {
        record.with("node", trial.node.as_str()).with("previousVersion", trial.base).with("why", why)
    });
}

/// refusals among all decisions
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rate {
    refused: u64,
    all: u64,
}

impl Rate {
    fn of(traffic: &TrafficSnapshot) -> Self {
        Rate { refused: traffic.refusals, all: traffic.refusals + traffic.events + traffic.total_connections }
    }

    /// a node that started again counts from zero
    fn between(before: &TrafficSnapshot, after: &TrafficSnapshot) -> Self {
        let (before, after) = (Rate::of(before), Rate::of(after));
        match (after.all.checked_sub(before.all), after.refused.checked_sub(before.refused)) {
            (Some(all), Some(refused)) => Rate { refused, all },
            _ => after,
        }
    }

    fn plus(self, other: Rate) -> Self {
        Rate { refused: self.refused + other.refused, all: self.all + other.all }
    }

    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    fn fraction(self) -> f64 {
        if self.all < ENOUGH { 0.0 } else { self.refused as f64 / self.all as f64 }
    }

    /// why this is too much, where so much is usual
    fn harm(self, usual: f64) -> Option<String> {
        let (fraction, usual) = (self.fraction(), usual.max(USUAL_MIN));
        let told = || format!("{} of {} refused, where {:.1} % is usual", self.refused, self.all, usual * 100.0);
        (fraction > HARMFUL || fraction > HARMFUL_FACTOR * usual).then(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x30_five_times_the_usual_rate_or_more_than_half_is_harmful_once_there_is_enough_to_say_so() {
        let harm = |refused, all, usual| Rate { refused, all }.harm(usual).is_some();
        assert!(!harm(19, 19, 0.0), "too few to say");
        assert!(harm(11, 20, 0.4), "more than half");
        assert!(harm(2, 20, 0.0) && !harm(1, 20, 0.0), "more than five times one in a hundred");
        assert!(!harm(40, 100, 0.1) && harm(51, 100, 0.1));
        let before = TrafficSnapshot { events: 100, refusals: 10, ..TrafficSnapshot::default() };
        let after = TrafficSnapshot { events: 150, refusals: 30, total_connections: 5, ..TrafficSnapshot::default() };
        assert_eq!(Rate::between(&before, &after), Rate { refused: 20, all: 75 });
        assert_eq!(Rate::between(&after, &before), Rate::of(&before), "it started again");
    }
}
