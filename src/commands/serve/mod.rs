//! `picket standalone`, `node`, `coordinator`: one or both roles over one state, until a signal ends the process.

mod access;
mod banner;
mod data_dir;
mod identity;
mod signals;
mod state;
mod telemetry;

use access::Access;
use banner::Banner;
use data_dir::{DataDir, Planned};
use picket_coordinator::StartError;
use picket_shared::audit::{OUTBOX_RECORDS_MAX, Outbox};
use picket_shared::clock::{Clock, SystemClock};
use picket_shared::snapshot::{self, Known, Snapshot};
use picket_shared::state::{
    BlockView, FilePolicy, KnownNodes, LivePolicy, OnLostRevocations, RevocationView, State, follow_and_seed_blocks,
    follow_blocks, follow_policy, follow_revocations, follow_trials,
};
use picket_shared::tasks::Tasks;
use picket_shared::telemetry::{BlockPropagation, Metrics, Telemetry, Tracer};
use signals::Signals;
use state::Opened;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use crate::cli::ServeArgs;
use crate::config::Config;
use crate::demo::{self, Page};
use crate::refusal::Refusal;
use crate::role::Role;
use crate::terminal;

/// for tasks that were told to stop, and for the coordinator to store what the node recorded last
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// the same, for who has signalled twice
const NO_PATIENCE: Duration = Duration::from_millis(200);
/// for spans, log records and metrics on their way to a collector
const TELEMETRY_PATIENCE: Duration = Duration::from_secs(2);
/// names an event that panics, for tests of debug builds
const PANIC_EVENT: &str = "PICKET_TEST_PANIC_EVENT";
/// how many audit records may wait, for tests of debug builds
const AUDIT_QUEUE: &str = "PICKET_TEST_AUDIT_QUEUE";
/// in the data directory of a node
const SNAPSHOT_FILE: &str = "snapshot.json";
const STORE_POLL: Duration = Duration::from_millis(20);

pub fn run(role: Role, args: ServeArgs, variables: &[(String, String)]) -> anyhow::Result<()> {
    // A node alone has nothing to keep but its snapshot, and that only where it was asked for.
    let planned = (role.is_coordinator() || args.data_dir.is_some()).then(|| Planned::new(args.data_dir.clone()));
    let store = planned.as_ref().filter(|_| role == Role::Standalone || args.data_dir.is_some()).map(Planned::path);
    let mut loaded = super::load(role, args.config.config.as_deref(), variables, store)?;
    let id = identity::of(&loaded.config, variables);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let telemetry = {
        let _runtime = runtime.enter();
        telemetry::start(role, &id, &loaded, variables)?
    };
    let data_dir = planned.map(Planned::create).transpose()?;
    let access = match &data_dir {
        Some(data_dir) if role.is_coordinator() => Some(Access::decide(&mut loaded, data_dir)?),
        _ => None,
    };
    let panic_event = variables.iter().find(|(name, _)| name == PANIC_EVENT).map(|(_, event)| event.clone());
    let queue = variables.iter().find(|(name, _)| name == AUDIT_QUEUE).and_then(|(_, records)| records.parse().ok());
    let audit_queue = queue.filter(|_| cfg!(debug_assertions)).unwrap_or(OUTBOX_RECORDS_MAX);
    let process = Process { role, id, access, data_dir: data_dir.as_ref(), panic_event, audit_queue };
    runtime.block_on(serve(loaded.config, process, telemetry))
}

/// what the roles share
struct Common {
    state: State,
    outage: Option<watch::Receiver<bool>>,
    policy: LivePolicy,
    blocks: BlockView,
    revocations: RevocationView,
    known: KnownNodes,
    outbox: Outbox,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    tracer: Option<Arc<Tracer>>,
}

/// what this run has besides its configuration
struct Process<'a> {
    role: Role,
    id: String,
    access: Option<Access>,
    data_dir: Option<&'a DataDir>,
    panic_event: Option<String>,
    audit_queue: usize,
}

async fn serve(mut config: Config, process: Process<'_>, telemetry: Telemetry) -> anyhow::Result<()> {
    let role = process.role;
    let mut signals = Signals::listen()?;
    // The node's tasks stop first, so that the coordinator still stores what they record last.
    let (edge, center) = (Tasks::default(), Tasks::default());
    let with_demo = role == Role::Standalone && config.may_run_the_demo();
    if with_demo {
        demo::stand_in(&mut config, &edge).await?;
    }
    let common = Common::start(&config, &process, &telemetry, &edge, &center).await?;
    // A coordinator too: it seeds an empty Redis with the blocks that it knows.
    let has_snapshot = role != Role::Standalone && common.remember(&process, &edge);
    let coordinator = match role.is_coordinator() {
        true => {
            let started = picket_coordinator::start(common.coordinator_parts(&config, &process, &center)).await;
            Some(started.map_err(refused)?)
        }
        false => None,
    };
    let page_port = if config.node.listen.port() == 0 { 0 } else { Page::PORT };
    let node = match role.is_node() {
        true => Some(picket_node::start(common.node_parts(config, &process, &edge, has_snapshot)).await?),
        false => None,
    };
    let page = match (&node, coordinator, &process.access) {
        (Some(node), Some(coordinator), Some(access)) if with_demo => {
            let page = Page { gateway: node.gateway, management: coordinator.management, viewer: access.viewer() };
            Some(page.start(page_port, &edge).await?)
        }
        _ => None,
    };
    let banner = Banner {
        role,
        gateway: node.as_ref().map(|node| node.gateway),
        ops: node.as_ref().map(|node| node.ops).or(coordinator.and_then(|coordinator| coordinator.ops)),
        management: coordinator.map(|coordinator| coordinator.management),
        page,
        data_dir: process.data_dir,
        access: process.access.as_ref(),
    };
    terminal::say(&banner.to_string())?;

    let signal = signals.next().await;
    tracing::info!(signal, "ending");
    let drained = async {
        if let Some(node) = &node {
            node.drain().await;
        }
    };
    let patience = tokio::select! {
        () = drained => STOP_PATIENCE,
        signal = signals.next() => {
            tracing::warn!(signal, "drain cut short");
            NO_PATIENCE
        }
    };
    stop(role, &common.state, &edge, &center, patience).await;
    if !telemetry.stop(patience.min(TELEMETRY_PATIENCE)).await {
        tracing::warn!("the last telemetry was not delivered");
    }
    Ok(())
}

/// what the configuration is to blame for
fn refused(error: StartError) -> anyhow::Error {
    match error {
        StartError::SameId(_) => Refusal::Command(error.to_string()).into(),
        error => error.into(),
    }
}

impl Common {
    async fn start(
        config: &Config,
        process: &Process<'_>,
        telemetry: &Telemetry,
        edge: &Tasks,
        center: &Tasks,
    ) -> anyhow::Result<Self> {
        let policy = LivePolicy::starting_with(config.policy.clone(), config.environment).map_err(|mistakes| {
            anyhow::anyhow!(
                "the policy cannot be put in force: {}",
                mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            )
        })?;
        let own: Arc<dyn Clock> = Arc::new(SystemClock);
        // The state outlives the roles: what they say last still reaches it.
        let (metrics, tracer) = (telemetry.metrics.clone(), telemetry.tracer.clone());
        let Opened { state, outage, clock } =
            state::open(process.role, config, &process.id, center, &own, &metrics).await?;
        let blocks = BlockView::measured(BlockPropagation::new(&metrics.meter("picket")));
        let outbox = Outbox::with_capacity(process.audit_queue);
        let file = FilePolicy { policy: config.policy.clone(), source: config.state.policy_source };
        let policies = state.policies.clone();
        edge.spawn("policy", follow_policy(policy.clone(), policies, file, clock.now(), edge.stopped()));
        if process.role.is_node() {
            let (trials, id) = (state.trials.clone(), process.id.clone());
            edge.spawn("trials", follow_trials(policy.clone(), trials, id, clock.clone(), edge.stopped()));
        }
        let (view, list) = (blocks.clone(), state.blocks.clone());
        match process.role.is_coordinator() {
            true => edge.spawn("blocks", follow_and_seed_blocks(view, list, clock.clone(), edge.stopped())),
            false => edge.spawn("blocks", follow_blocks(view, list, clock.clone(), edge.stopped())),
        }
        let revocations = RevocationView::default();
        let on_loss = match process.role.is_coordinator() {
            true => OnLostRevocations::Seed,
            false => OnLostRevocations::Wait,
        };
        let (view, list) = (revocations.clone(), state.revocations.clone());
        edge.spawn("revocations", follow_revocations(view, list, clock.clone(), on_loss, edge.stopped()));
        edge.spawn("outbox", outbox.clone().deliver(state.audit.clone(), clock.clone(), edge.stopped()));
        let known = KnownNodes::default();
        Ok(Common { state, outage, policy, blocks, revocations, known, outbox, clock, metrics, tracer })
    }

    /// puts the snapshot in force, if there is one, and keeps it up to date; a broken one is said and left behind
    fn remember(&self, process: &Process<'_>, edge: &Tasks) -> bool {
        let Some(path) = process.data_dir.map(|folder| folder.path().join(SNAPSHOT_FILE)) else {
            return false;
        };
        let found = match Snapshot::read(&path) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::error!(%error, "no snapshot is used");
                None
            }
        };
        let has_snapshot = found.is_some();
        let known = Known {
            policy: self.policy.clone(),
            blocks: self.blocks.clone(),
            revocations: self.revocations.clone(),
            nodes: self.known.clone(),
        };
        if let Some(snapshot) = found {
            snapshot.restore(&known);
        }
        edge.spawn("snapshot", snapshot::keep(path, known, edge.stopped()));
        has_snapshot
    }

    fn coordinator_parts(&self, config: &Config, process: &Process<'_>, center: &Tasks) -> picket_coordinator::Parts {
        picket_coordinator::Parts {
            config: config.coordinator.clone(),
            id: process.id.clone(),
            state: self.state.clone(),
            policy: self.policy.clone(),
            blocks: self.blocks.clone(),
            revocations: self.revocations.clone(),
            outbox: self.outbox.clone(),
            clock: self.clock.clone(),
            tasks: center.clone(),
            metrics: self.metrics.clone(),
            trusted_proxies: config.node.trusted_proxies.clone(),
            token_age_max: Duration::from_millis(config.auth.jwt.max_token_age_ms),
            is_alone: !process.role.is_node(),
        }
    }

    fn node_parts(
        &self,
        config: Config,
        process: &Process<'_>,
        edge: &Tasks,
        has_snapshot: bool,
    ) -> picket_node::Parts {
        picket_node::Parts {
            config: config.node,
            auth: config.auth,
            id: process.id.clone(),
            state: self.state.clone(),
            policy: self.policy.clone(),
            blocks: self.blocks.clone(),
            revocations: self.revocations.clone(),
            outbox: self.outbox.clone(),
            clock: self.clock.clone(),
            tasks: edge.clone(),
            metrics: self.metrics.clone(),
            tracer: self.tracer.clone(),
            outage: self.outage.clone(),
            known: self.known.clone(),
            has_snapshot,
            panic_event: process.panic_event.clone(),
        }
    }
}

/// each of the three steps may take so long
async fn stop(role: Role, state: &State, edge: &Tasks, center: &Tasks, patience: Duration) {
    let ended = edge.stop(patience).await;
    // A process without a coordinator leaves its records in the state.
    if role == Role::Standalone && tokio::time::timeout(patience, everything_stored(state)).await.is_err() {
        tracing::warn!("the last audit records were not stored");
    }
    if !(center.stop(patience).await && ended) {
        tracing::warn!("some tasks did not stop in time");
    }
}

async fn everything_stored(state: &State) {
    while state.audit.lag().await.is_ok_and(|lag| lag > 0) {
        tokio::time::sleep(STORE_POLL).await;
    }
}
