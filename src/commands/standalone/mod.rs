//! `picket standalone`: node and coordinator in one process, over one state in memory, until a signal ends it.

mod access;
mod banner;
mod data_dir;
mod identity;
mod logging;
mod signals;

use access::Access;
use banner::Banner;
use data_dir::{DataDir, Planned};
use picket_shared::audit::Outbox;
use picket_shared::clock::{Clock, SystemClock};
use picket_shared::state::{BlockView, LivePolicy, State, follow_blocks, follow_policy};
use picket_shared::tasks::Tasks;
use picket_shared::telemetry::Metrics;
use signals::Signals;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::StandaloneArgs;
use crate::config::Config;
use crate::demo::{self, Page};
use crate::terminal;

/// for tasks that were told to stop, and for the coordinator to store what the node recorded last
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// the same, for who has signalled twice
const NO_PATIENCE: Duration = Duration::from_millis(200);
/// names an event that panics, for tests of debug builds
const PANIC_EVENT: &str = "PICKET_TEST_PANIC_EVENT";
const STORE_POLL: Duration = Duration::from_millis(20);

pub fn run(args: StandaloneArgs, variables: &[(String, String)]) -> anyhow::Result<()> {
    let planned = Planned::new(args.data_dir);
    let mut loaded = super::load(args.config.config.as_deref(), variables, planned.path())?;
    logging::start(&loaded, variables)?;
    let data_dir = planned.create()?;
    let access = Access::decide(&mut loaded, &data_dir)?;
    let id = identity::of(&loaded.config, variables);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let panic_event = variables.iter().find(|(name, _)| name == PANIC_EVENT).map(|(_, event)| event.clone());
    runtime.block_on(serve(loaded.config, Process { id, access, data_dir: &data_dir, panic_event }))
}

/// what both roles share
struct Common {
    state: State,
    policy: LivePolicy,
    blocks: BlockView,
    outbox: Outbox,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// what this run has besides its configuration
struct Process<'a> {
    id: String,
    access: Access,
    data_dir: &'a DataDir,
    panic_event: Option<String>,
}

async fn serve(mut config: Config, process: Process<'_>) -> anyhow::Result<()> {
    let Process { id, access, data_dir, panic_event } = process;
    let mut signals = Signals::listen()?;
    // The node's tasks stop first, so that the coordinator still stores what they record last.
    let (edge, center) = (Tasks::default(), Tasks::default());
    let with_demo = config.may_run_the_demo();
    if with_demo {
        demo::stand_in(&mut config, &edge).await?;
    }
    let common = Common::start(&config, &edge)?;

    let management = picket_coordinator::start(picket_coordinator::Parts {
        config: config.coordinator.clone(),
        id: id.clone(),
        state: common.state.clone(),
        policy: common.policy.clone(),
        blocks: common.blocks.clone(),
        outbox: common.outbox.clone(),
        clock: common.clock.clone(),
        tasks: center.clone(),
        metrics: common.metrics.clone(),
        trusted_proxies: config.node.trusted_proxies.clone(),
    })
    .await?;
    let page_port = if config.node.listen.port() == 0 { 0 } else { Page::PORT };
    let node = picket_node::start(picket_node::Parts {
        config: config.node,
        auth: config.auth,
        id,
        state: common.state.clone(),
        policy: common.policy.clone(),
        blocks: common.blocks.clone(),
        outbox: common.outbox.clone(),
        clock: common.clock.clone(),
        tasks: edge.clone(),
        metrics: common.metrics.clone(),
        panic_event,
    })
    .await?;
    let page = match with_demo {
        true => {
            Some(Page { gateway: node.gateway, management, viewer: access.viewer() }.start(page_port, &edge).await?)
        }
        false => None,
    };
    terminal::say(
        &Banner { gateway: node.gateway, ops: node.ops, management, page, data_dir, access: &access }.to_string(),
    )?;

    let signal = signals.next().await;
    tracing::info!(signal, "ending");
    let patience = tokio::select! {
        () = node.drain() => STOP_PATIENCE,
        signal = signals.next() => {
            tracing::warn!(signal, "drain cut short");
            NO_PATIENCE
        }
    };
    stop(&common.state, &edge, &center, patience).await;
    Ok(())
}

impl Common {
    fn start(config: &Config, tasks: &Tasks) -> anyhow::Result<Self> {
        let policy = LivePolicy::starting_with(config.policy.clone(), config.environment).map_err(|mistakes| {
            anyhow::anyhow!(
                "the policy cannot be put in force: {}",
                mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            )
        })?;
        let common = Common {
            state: State::memory(),
            policy,
            blocks: BlockView::default(),
            outbox: Outbox::default(),
            clock: Arc::new(SystemClock),
            metrics: Metrics::start(&config.telemetry.service_name)?,
        };
        let Common { state, policy, blocks, outbox, clock, .. } = &common;
        tasks.spawn("policy", follow_policy(policy.clone(), state.policies.clone(), clock.now(), tasks.stopped()));
        tasks.spawn("blocks", follow_blocks(blocks.clone(), state.blocks.clone(), clock.clone(), tasks.stopped()));
        tasks.spawn("outbox", outbox.clone().deliver(state.audit.clone(), clock.clone(), tasks.stopped()));
        Ok(common)
    }
}

/// each of the three steps may take so long
async fn stop(state: &State, edge: &Tasks, center: &Tasks, patience: Duration) {
    let ended = edge.stop(patience).await;
    if tokio::time::timeout(patience, everything_stored(state)).await.is_err() {
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
