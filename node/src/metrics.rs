//! Every metric of this crate. Label values come from enums, never from clients.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};
use picket_shared::audit::Outbox;
use picket_shared::clock::Clock;
use picket_shared::policy::Enforce;
use picket_shared::reason::Reason;
use picket_shared::state::{Identities, LivePolicy, Mode, Overshoot, Traffic};
use picket_shared::tasks::Tasks;
use picket_shared::telemetry::{DECISION_SECONDS, Exemplars, Recorded};
use picket_shared::token::RemoteKeys;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::decide::Stage;
use crate::membership::Membership;
use crate::memory::Memory;
use crate::renewal::Purpose;

pub struct Instruments {
    decisions: Counter<u64>,
    durations: Histogram<f64>,
    observations: Counter<u64>,
    ejections: Counter<u64>,
    exemplars: Exemplars,
}

const REFUSED: &str = "refused";

impl Instruments {
    pub fn new(meter: &Meter, traffic: &Arc<Traffic>, outbox: &Outbox, tasks: &Tasks) -> Self {
        observe(meter, traffic, outbox, tasks);
        Instruments {
            decisions: meter
                .u64_counter("picket.decisions")
                .with_description("Connections admitted and refused, and events refused, by stage and reason; and what was not refused since its rule is in shadow.")
                .with_unit("{decision}")
                .build(),
            durations: meter
                .f64_histogram("picket.decision.duration")
                .with_description("How long checks took: of each admission, and of the inspections that begin in one millisecond of 64.")
                .with_unit("s")
                .with_boundaries(DECISION_SECONDS.to_vec())
                .build(),
            observations: meter
                .u64_counter("picket.observations")
                .with_description("Events that passed and were recorded all the same: sanitised or suspicious content.")
                .with_unit("{event}")
                .build(),
            ejections: meter
                .u64_counter("picket.upstream.ejections")
                .with_description("Times that an upstream was left alone for a while, after failures in a row.")
                .with_unit("{ejection}")
                .build(),
            exemplars: exemplars_of_refusals(),
        }
    }

    pub fn upstream_ejected(&self) {
        self.ejections.add(1, &[]);
    }

    pub fn allowed(&self, stage: Stage) {
        self.decisions
            .add(1, &[KeyValue::new("picket.stage", stage.as_str()), KeyValue::new("picket.outcome", "allowed")]);
    }

    /// `recorded` is its span, where there is one
    pub fn refused(&self, stage: Stage, reason: Reason, recorded: Option<Recorded>) {
        let labels = [
            KeyValue::new("picket.stage", stage.as_str()),
            KeyValue::new("picket.outcome", REFUSED),
            KeyValue::new("picket.reason", reason.token()),
        ];
        self.decisions.add(1, &labels);
        if let Some(recorded) = recorded {
            self.exemplars.note([stage.as_str(), REFUSED, reason.token()], recorded);
        }
    }

    /// the latest trace of each kind of refusal
    pub fn exemplars(&self) -> &Exemplars {
        &self.exemplars
    }

    pub fn decided(&self, stage: Stage, took: Duration) {
        self.durations.record(took.as_secs_f64(), &[KeyValue::new("picket.stage", stage.as_str())]);
    }

    pub fn pardoned(&self, stage: Stage, reason: Reason) {
        let labels = [
            KeyValue::new("picket.stage", stage.as_str()),
            KeyValue::new("picket.outcome", "shadow"),
            KeyValue::new("picket.reason", reason.token()),
        ];
        self.decisions.add(1, &labels);
    }

    pub fn observed(&self, reason: Reason) {
        self.observations.add(1, &[KeyValue::new("picket.reason", reason.token())]);
    }
}

/// a place for each series that `refused` can make
fn exemplars_of_refusals() -> Exemplars {
    let series = Stage::ALL
        .into_iter()
        .flat_map(|stage| Reason::ALL.into_iter().map(move |reason| [stage.as_str(), REFUSED, reason.token()]));
    Exemplars::of("picket_decisions_total", ["picket_stage", "picket_outcome", "picket_reason"], series)
}

/// how often certificates, keys and secrets were renewed, or could not be
#[derive(Clone)]
pub struct Renewals(Counter<u64>);

impl Renewals {
    pub fn new(meter: &Meter) -> Self {
        let counter = meter
            .u64_counter("picket.renewals")
            .with_description("Changes of the files with certificates, keys and secrets, by what they are for and whether they are in use.")
            .with_unit("{renewal}");
        Renewals(counter.build())
    }

    pub fn done(&self, purpose: Purpose) {
        self.note(purpose, "renewed");
    }

    pub fn failed(&self, purpose: Purpose) {
        self.note(purpose, "failed");
    }

    fn note(&self, purpose: Purpose, outcome: &'static str) {
        self.0.add(1, &[KeyValue::new("picket.files", purpose.as_str()), KeyValue::new("picket.outcome", outcome)]);
    }
}

/// how full the process's memory is
pub fn observe_memory(meter: &Meter, memory: &Arc<Memory>) {
    let memory = memory.clone();
    meter
        .u64_observable_gauge("picket.memory.used")
        .with_description("Used part of the memory that the process may have; 0 where it has no bound.")
        .with_unit("%")
        .with_callback(move |observer| observer.observe(memory.used_percent(), &[]))
        .build();
}

/// how the node decides, as one gauge per mode
pub fn observe_mode(meter: &Meter, membership: &Arc<Membership>) {
    let membership = membership.clone();
    meter
        .u64_observable_gauge("picket.mode")
        .with_description("1 for the mode that the node is in, 0 for the others.")
        .with_unit("{mode}")
        .with_callback(move |observer| {
            let current = membership.mode();
            for mode in Mode::ALL {
                observer.observe(u64::from(mode == current), &[KeyValue::new("picket.mode", mode.as_str())]);
            }
        })
        .build();
}

/// whether the limits over all nodes hold what they promise
pub fn observe_overshoot(meter: &Meter, overshoot: &Arc<Overshoot>) {
    let counted = overshoot.clone();
    meter
        .u64_observable_counter("picket.limits.overshoot")
        .with_description(
            "Uses that turned out to be beyond their limit: let through while the state was away or forgot.",
        )
        .with_unit("{use}")
        .with_callback(move |observer| {
            for (limit, seen) in counted.overshot() {
                observer.observe(seen.over, &[KeyValue::new("picket.limit", limit)]);
            }
        })
        .build();
    let counted = overshoot.clone();
    meter
        .u64_observable_gauge("picket.limits.overshoot.max")
        .with_description("The most uses beyond its limit that this node learnt of at once, since its start.")
        .with_unit("{use}")
        .with_callback(move |observer| {
            for (limit, seen) in counted.overshot() {
                observer.observe(seen.most, &[KeyValue::new("picket.limit", limit)]);
            }
        })
        .build();
    let counted = overshoot.clone();
    meter
        .u64_observable_counter("picket.limits.alone")
        .with_description(
            "Uses and places that this node gave away by itself, because the state did not answer in time.",
        )
        .with_unit("{use}")
        .with_callback(move |observer| {
            for (limit, alone) in counted.alone() {
                observer.observe(alone, &[KeyValue::new("picket.limit", limit)]);
            }
        })
        .build();
}

/// how wrong the machine's clock is
pub fn observe_clock(meter: &Meter, clock: &Arc<dyn Clock>) {
    let clock = clock.clone();
    meter
        .i64_observable_gauge("picket.clock.offset")
        .with_description("How far the cluster's clock is ahead of this machine's.")
        .with_unit("ms")
        .with_callback(move |observer| observer.observe(clock.offset_ms(), &[]))
        .build();
}

/// what is done with refusals, as one gauge per word
pub fn observe_enforcement(meter: &Meter, policy: &LivePolicy) {
    let policy = policy.clone();
    meter
        .u64_observable_gauge("picket.enforcement")
        .with_description("1 for what the node does with refusals, by the policy or its own switch; 0 for the others.")
        .with_unit("{mode}")
        .with_callback(move |observer| {
            let current = policy.enforcement().mode();
            for mode in Enforce::ALL {
                observer.observe(u64::from(mode == current), &[KeyValue::new("picket.enforce", mode.as_str())]);
            }
        })
        .build();
}

/// how old the keys of issuers are that are fetched
pub fn observe_keys(meter: &Meter, keys: Vec<Arc<RemoteKeys>>, clock: &Arc<dyn Clock>) {
    let clock = clock.clone();
    meter
        .u64_observable_gauge("picket.token_keys.age")
        .with_description("Time since the keys of an issuer were fetched; nothing while there are none.")
        .with_unit("s")
        .with_callback(move |observer| {
            for one in &keys {
                if let Some(age) = one.age(clock.now()) {
                    observer.observe(age.as_secs(), &[KeyValue::new("picket.issuer", one.issuer().to_owned())]);
                }
            }
        })
        .build();
}

/// how many counters this node has in the shared state, and how often newcomers shared one
pub fn observe_identities(meter: &Meter, identities: &Arc<Identities>) {
    let kept = identities.clone();
    meter
        .u64_observable_gauge("picket.identities")
        .with_description("Counters of addresses and users that this node keeps in the shared state.")
        .with_unit("{counter}")
        .with_callback(move |observer| observer.observe(kept.number() as u64, &[]))
        .build();
    let kept = identities.clone();
    meter
        .u64_observable_counter("picket.identities.crowded")
        .with_description("Uses counted together with others', since node.limits.identitiesMax was reached.")
        .with_unit("{use}")
        .with_callback(move |observer| observer.observe(kept.crowded_total(), &[]))
        .build();
}

/// numbers that are counted elsewhere without locks, and read when they are asked for
fn observe(meter: &Meter, traffic: &Arc<Traffic>, outbox: &Outbox, tasks: &Tasks) {
    let seen = traffic.clone();
    meter
        .u64_observable_counter("picket.events")
        .with_description("Events that passed inspection.")
        .with_unit("{event}")
        .with_callback(move |observer| observer.observe(seen.events.load(Ordering::Relaxed), &[]))
        .build();
    let seen = traffic.clone();
    meter
        .u64_observable_gauge("picket.connections.active")
        .with_description("Open client connections.")
        .with_unit("{connection}")
        .with_callback(move |observer| {
            let open = seen.snapshot();
            observer.observe(open.anonymous_connections, &[KeyValue::new("picket.identity", "anonymous")]);
            observer.observe(open.authenticated_connections, &[KeyValue::new("picket.identity", "authenticated")]);
        })
        .build();
    let queue = outbox.clone();
    meter
        .u64_observable_counter("picket.audit.dropped")
        .with_description("Audit records that were dropped because the queue was full.")
        .with_unit("{record}")
        .with_callback(move |observer| observer.observe(queue.dropped_total(), &[]))
        .build();
    let all = tasks.clone();
    meter
        .u64_observable_counter("picket.panics")
        .with_description("Panics that were caught; each ended one task.")
        .with_unit("{panic}")
        .with_callback(move |observer| observer.observe(all.panics(), &[]))
        .build();
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::clock::SystemClock;
    use picket_shared::policy::{Environment, Policy};
    use picket_shared::state::KnownNodes;
    use picket_shared::telemetry::catalogue::Catalogue;
    use std::path::Path;

    #[test]
    fn metrics_are_documented() {
        let (catalogue, traffic) = (Catalogue::default(), Arc::new(Traffic::default()));
        let meter = catalogue.meter();
        Instruments::new(&meter, &traffic, &Outbox::default(), &Tasks::default());
        let policy = LivePolicy::starting_with(Policy::default(), Environment::Development).unwrap();
        observe_enforcement(&meter, &policy);
        let membership = Membership::new("".into(), traffic, policy, None, KnownNodes::default(), true, false);
        Renewals::new(&meter);
        observe_memory(&meter, &Arc::new(Memory::new(0)));
        observe_mode(&meter, &Arc::new(membership));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        observe_clock(&meter, &clock);
        observe_overshoot(&meter, &Arc::default());
        observe_identities(&meter, &Arc::new(Identities::new(0)));
        observe_keys(&meter, Vec::new(), &clock);

        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/telemetry.md");
        assert!(catalogue.is_in(&document, "a node"), "docs/telemetry.md is stale");
        let sources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
        assert_eq!(catalogue.misses(sources), Vec::<String>::new(), "instruments that this test does not make");
    }
}
