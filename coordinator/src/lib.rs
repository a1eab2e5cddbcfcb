//! The coordinator: gathers the audit trail, scores addresses, blocks them, and serves the management API.

mod alarms;
mod api;
pub mod api_keys;
mod appeals;
mod behaviour;
pub mod config;
mod enforcement;
mod forecast;
mod heartbeat;
mod ingest;
mod lifts;
mod listener;
mod load;
mod merging;
mod metrics;
mod neighbours;
mod ops;
mod recollection;
mod relapses;
mod reputation;
mod retention;
mod scope;
mod store;
mod tail;
mod twin;

pub use api::auth::CredentialError;
pub use store::{
    Absence, Broken, Checkpoint, CheckpointError, ExportError, StoreError, Uncompared, Unproven, Verdict,
    verify_export, verify_store,
};

use ipnet::IpNet;
use picket_shared::audit::Outbox;
use picket_shared::behaviour::Watch;
use picket_shared::clock::{Clock, Timestamp};
use picket_shared::listener::Listener;
use picket_shared::state::{BlockView, LivePolicy, RevocationView, State};
use picket_shared::tasks::Tasks;
use picket_shared::telemetry::Metrics;
use picket_shared::token::{ClaimNames, KeyError, TokenVerifier};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

use alarms::{Alarms, Receivers, Roll};
use api::Api;
use api::auth::{Credential, Failures, Gate, Sessions, Visits};
use api_keys::{ApiKeyError, ApiKeys};
use behaviour::Behaviour;
use config::CoordinatorConfig;
use enforcement::Enforcement;
use heartbeat::Heartbeat;
use ingest::Ingest;
use load::Load;
use metrics::Instruments;
use ops::Ops;
use recollection::Recollection;
use retention::Retention;
use store::AuditStore;
use tail::Tail;
use twin::Found;

/// what a coordinator is made of
pub struct Parts {
    pub config: CoordinatorConfig,
    pub id: String,
    pub state: State,
    pub policy: LivePolicy,
    pub blocks: BlockView,
    pub revocations: RevocationView,
    pub outbox: Outbox,
    pub clock: Arc<dyn Clock>,
    pub tasks: Tasks,
    pub metrics: Metrics,
    pub trusted_proxies: Vec<IpNet>,
    /// how long an application's token may live
    pub token_age_max: Duration,
    /// whether it runs without a node, whose ops listener would tell of both
    pub is_alone: bool,
}

/// where a coordinator listens
#[derive(Clone, Copy, Debug)]
pub struct Running {
    pub management: SocketAddr,
    pub ops: Option<SocketAddr>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("audit store")]
    Store(#[from] StoreError),
    #[error("management credential")]
    Credential(#[from] CredentialError),
    #[error("coordinator.tokens: {0}")]
    Tokens(KeyError),
    #[error("cannot prepare to send alarms")]
    Alarms(#[source] reqwest::Error),
    #[error("coordinator.apiKeys[{0}]: {1}")]
    ApiKey(usize, ApiKeyError),
    #[error(
        "another coordinator runs as `{0}`, and two of one name would both lead: give each a node.id of its own, or none, and \
         each takes its host's name and a random part"
    )]
    SameId(String),
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
}

/// opens store and listeners, and starts the loops; all ends with the tasks
pub async fn start(parts: Parts) -> Result<Running, StartError> {
    let credential = Credential::new(&parts.config.admin)?;
    let tokens = parts
        .config
        .tokens
        .as_ref()
        .map(|issuer| TokenVerifier::new(std::slice::from_ref(issuer), ClaimNames::default()));
    let tokens = tokens.transpose().map_err(|errors| {
        StartError::Tokens(errors.into_iter().next().map_or(KeyError::NoAlgorithm, |(_, error)| error))
    })?;
    let instruments = Instruments::new(&parts.metrics);
    let receivers =
        Receivers::new(parts.clock.clone(), instruments.clone(), Default::default()).map_err(StartError::Alarms)?;
    let api_keys = ApiKeys::new(&parts.config.api_keys).map_err(|errors| {
        let (index, error) = errors.into_iter().next().unwrap_or((0, ApiKeyError::Source));
        StartError::ApiKey(index, error)
    })?;
    let predecessor = match twin::looked_for(&*parts.state.nodes, &parts.id, &*parts.clock).await {
        Found::Nobody => None,
        Found::Silent { since } => Some(since),
        Found::Living => return Err(StartError::SameId(parts.id)),
    };
    let store = AuditStore::open(&parts.config.audit_store).await?;
    let (listener, management) = bind("management", parts.config.listen).await?;
    let ops = match parts.is_alone {
        true => Some(serve_ops(&parts, &store).await?),
        false => None,
    };
    run(parts, Opened { credential, api_keys, tokens, predecessor, store, listener, instruments, receivers });
    Ok(Running { management, ops })
}

async fn bind(name: &'static str, wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener = TcpListener::bind(wanted).await.map_err(|error| StartError::Listen(wanted, error))?;
    let address = listener.local_addr().map_err(|error| StartError::Listen(wanted, error))?;
    tracing::info!(listener = name, %address, "listening");
    Ok((listener, address))
}

async fn serve_ops(parts: &Parts, store: &AuditStore) -> Result<SocketAddr, StartError> {
    let (listener, address) = bind("ops", parts.config.ops_listen).await?;
    let Parts { policy, metrics, tasks, .. } = parts;
    let router = ops::router(Ops { store: store.clone(), policy: policy.clone(), metrics: metrics.clone() });
    tasks.spawn("ops listener", listener::serve(Listener::new(listener, "ops", metrics), router, tasks.clone()));
    Ok(address)
}

/// what a start can fail at, when it did not
struct Opened {
    credential: Option<Credential>,
    api_keys: ApiKeys,
    tokens: Option<TokenVerifier>,
    /// since when a coordinator lived that had this one's id and has fallen silent
    predecessor: Option<Timestamp>,
    store: AuditStore,
    listener: TcpListener,
    instruments: Instruments,
    receivers: Receivers,
}

fn run(parts: Parts, opened: Opened) {
    let Opened { credential, api_keys, tokens, predecessor, store, listener, instruments, receivers } = opened;
    let Parts {
        config,
        id,
        state,
        policy,
        blocks,
        revocations,
        outbox,
        clock,
        tasks,
        metrics,
        trusted_proxies,
        token_age_max,
        ..
    } = parts;
    let load = Arc::new(Load::default());
    let enforcement = Arc::new(Enforcement {
        id: id.clone(),
        policy: policy.clone(),
        blocks: state.blocks.clone(),
        leases: state.leases.clone(),
        view: blocks.clone(),
        outbox: outbox.clone(),
        clock: clock.clone(),
        trusted_proxies: trusted_proxies.clone(),
        instruments: instruments.clone(),
        memory: parking_lot::Mutex::default(),
        crowded_at: enforcement::CROWDED_AT,
        term: Default::default(),
    });
    let receivers = Arc::new(receivers);
    tasks.spawn("alarms", receivers.clone().run(policy.clone(), tasks.stopped()));
    let alarms = Alarms::new(id.clone(), policy.clone(), clock.clone(), outbox.clone(), instruments.clone(), receivers);
    let alarms = Arc::new(alarms);
    let behaviour = Behaviour {
        id: id.clone(),
        policy: policy.clone(),
        outbox: outbox.clone(),
        clock: clock.clone(),
        watch: Watch::default(),
    };
    let leads = watch::Sender::new(None);
    let tail = Arc::new(Tail::new(store.clone()));
    tasks.spawn("audit tail", tail.clone().run(tasks.stopped()));
    let recollection = Recollection {
        store: store.clone(),
        tail: tail.clone(),
        enforcement: enforcement.clone(),
        policy: policy.clone(),
        clock: clock.clone(),
    };
    let ingest = Ingest {
        log: state.audit.clone(),
        store: store.clone(),
        enforcement: enforcement.clone(),
        alarms: alarms.clone(),
        behaviour,
        policy: policy.clone(),
        instruments: instruments.clone(),
        recollection,
        leads: leads.subscribe(),
        progress: Default::default(),
    };
    tasks.spawn("audit ingest", ingest.run(tasks.stopped()));
    let retention = Retention {
        store: store.clone(),
        bounds: config.retention.bounds(),
        counts_kept: config.retention.counts_kept(),
        clock: clock.clone(),
        instruments: instruments.clone(),
    };
    tasks.spawn("audit retention", retention.run(tasks.stopped()));
    let heartbeat = Heartbeat {
        id: id.clone(),
        state: state.clone(),
        clock: clock.clone(),
        load: load.clone(),
        enforcement: enforcement.clone(),
        alarms: alarms.clone(),
        instruments: instruments.clone(),
        since: clock.now(),
        predecessor,
        twin: None,
        leads,
        roll: Roll::default(),
        failed: 0,
    };
    tasks.spawn("coordinator heartbeat", heartbeat.run(tasks.stopped()));
    for keys in tokens.iter().flat_map(TokenVerifier::remote_keys) {
        tasks.spawn("keys of the management issuer", keys.clone().follow(clock.clone(), tasks.stopped()));
    }
    let gate = Gate {
        id: id.clone(),
        credential,
        api_keys,
        tokens,
        revocations,
        sessions: Sessions::default(),
        addresses: Failures::default(),
        accounts: Failures::default(),
        visits: Visits::default(),
        outbox: outbox.clone(),
        clock: clock.clone(),
        instruments: instruments.clone(),
    };
    let api = Api {
        id,
        started: clock.now(),
        gate,
        state,
        policy,
        blocks,
        store,
        enforcement,
        alarms,
        load,
        outbox,
        clock,
        tasks: tasks.clone(),
        instruments,
        trusted_proxies,
        token_age_max,
        exports: api::Exports::default(),
        untold: api::Untold::default(),
        what_if: api::Turn::default(),
        analytics: api::AnalyticsCache::default(),
        streams: api::Streams::default(),
        tail,
    };
    tasks.spawn("management listener", api::serve(Listener::new(listener, "management", &metrics), api));
}
