//! A node's life: from its parts to open listeners, and through the drain to its end.

use picket_shared::address::canonical_networks;
use picket_shared::audit::Outbox;
use picket_shared::behaviour::Watch;
use picket_shared::clock::Clock;
use picket_shared::listener::Listener;
use picket_shared::state::{
    BlockView, Counters, Holdings, Identities, KnownNodes, LivePolicy, Overshoot, RevocationView, State, Traffic,
    WithStance,
};
use picket_shared::tasks::Tasks;
use picket_shared::telemetry::{Metrics, Tracer};
use picket_shared::token::{ClaimNames, KeyError, TokenVerifier};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::arrival::Threshold;
use crate::assertion::Assertions;
use crate::check_api::{self, CheckApi};
use crate::checks::handshake_rate::Handshakes;
use crate::checks::upgrade_rate::Upgrades;
use crate::config::{AuthConfig, Drain, NodeConfig, SessionsMode};
use crate::door::Door;
use crate::gate::Gate;
use crate::geo::{Geo, GeoError};
use crate::identity::{IntrospectionError, Introspector, Keys, TokenSource, TokenSources};
use crate::listener;
use crate::membership::Membership;
use crate::memory::Memory;
use crate::metrics::{
    Instruments, Renewals, observe_clock, observe_enforcement, observe_identities, observe_keys, observe_memory,
    observe_mode, observe_overshoot,
};
use crate::ops::{self, Ops};
use crate::pending::Pending;
use crate::renewal::Renewal;
use crate::route::{Route, RouteError, Routes};
use crate::session::{Attention, PollingSessions, ring_on_changes};
use crate::switch::Switch;
use crate::tls::{self, TlsError};

/// how often a drain looks whether all sessions have left
const DRAIN_POLL: Duration = Duration::from_millis(50);
/// how long sessions may take to leave after their moment has come
const DRAIN_PATIENCE: Duration = Duration::from_secs(3);

/// of the spread, at most: so that who is told last has said goodbye, and audit is flushed, when it is over
const FAREWELL: Duration = Duration::from_millis(2500);

/// what a node is made of
pub struct Parts {
    pub config: NodeConfig,
    pub auth: AuthConfig,
    pub id: String,
    pub state: State,
    pub policy: LivePolicy,
    pub blocks: BlockView,
    pub revocations: RevocationView,
    pub outbox: Outbox,
    pub clock: Arc<dyn Clock>,
    pub tasks: Tasks,
    pub metrics: Metrics,
    /// `None` where traces go nowhere
    pub tracer: Option<Arc<Tracer>>,
    /// whether the shared state is not asked at present; `None` where it cannot be away
    pub outage: Option<watch::Receiver<bool>>,
    /// how many nodes share a limit
    pub known: KnownNodes,
    /// policy and blocks are known from a snapshot
    pub has_snapshot: bool,
    /// an event of this name panics, to show that a panic ends one connection; honoured by debug builds only
    pub panic_event: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address} ({name}): {error}")]
    Listen { name: &'static str, address: SocketAddr, error: std::io::Error },
    #[error("route {path}: {error}")]
    Route { path: String, error: RouteError },
    #[error("node.tls: {0}")]
    Tls(#[from] TlsError),
    #[error("node.upstreamAssertion: {0}")]
    Assertion(KeyError),
    #[error("node.geoip: {0}")]
    Geo(#[from] GeoError),
    #[error("auth.jwt.issuers[{index}]: {error}")]
    Key { index: usize, error: KeyError },
    #[error("auth.sessions: {0}")]
    Introspection(#[from] IntrospectionError),
    #[error("auth.tokenSources: `{0}` is not a source")]
    TokenSource(String),
}

/// a node that serves
pub struct Running {
    pub gateway: SocketAddr,
    pub ops: SocketAddr,
    check: Option<Arc<CheckApi>>,
    membership: Arc<Membership>,
    attention: Attention,
    stop_accepting: CancellationToken,
    drain: Drain,
}

pub async fn start(parts: Parts) -> Result<Running, StartError> {
    let routes = routes(&parts)?;
    let keys = keys(&parts)?;
    let tls = tls(&parts)?;
    let assertions = assertions(&parts)?;
    let geo = geo(&parts)?;
    let gateway = bind("gateway", parts.config.listen).await?;
    let ops_listener = bind("ops", parts.config.ops_listen).await?;
    let check_listener = match parts.config.check_listen {
        Some(address) => Some(bind("check", address).await?),
        None => None,
    };
    let addresses = (address_of(&gateway, parts.config.listen), address_of(&ops_listener, parts.config.ops_listen));

    let (tasks, attention, stop_accepting) = (parts.tasks.clone(), Attention::default(), CancellationToken::new());
    let known = parts.known.clone();
    let gate = Arc::new(gate(&parts, keys, geo, &known));
    let membership = Arc::new(Membership::new(
        gate.node.clone(),
        gate.traffic.clone(),
        parts.policy.clone(),
        parts.outage.clone(),
        known,
        parts.has_snapshot || parts.config.start_without_state,
        parts.config.geoip.is_some(),
    ));
    observe_mode(&parts.metrics.meter("picket"), &membership);
    observe_clock(&parts.metrics.meter("picket"), &parts.clock);
    if let Some(file) = parts.config.enforce_file.clone() {
        let (node, policy) = (gate.node.clone(), parts.policy.clone());
        let switch = Switch { file, node, policy, outbox: parts.outbox.clone(), clock: parts.clock.clone() };
        // Before the first connection, and before others hear what this node does.
        let is_readable = switch.look(true);
        tasks.spawn("kill switch", switch.follow(is_readable, tasks.stopped()));
    }
    membership.says_it_lives(&*parts.state.nodes, &*parts.clock).await;
    let door = Arc::new(Door {
        gate: gate.clone(),
        routes,
        threshold: Threshold {
            proxy_protocol: parts.config.proxy_protocol,
            trusted_proxies: canonical_networks(&parts.config.trusted_proxies),
            tls,
        },
        assertions,
        tasks: tasks.clone(),
        attention: attention.clone(),
        polling: Arc::new(PollingSessions::new(gate.limits.polling_sessions_max)),
    });

    observe_enforcement(&parts.metrics.meter("picket"), &parts.policy);
    let accepting = |tcp, name| Listener::new(tcp, name, &parts.metrics);
    tasks.spawn(
        "gateway",
        listener::serve(accepting(gateway, "gateway"), door, stop_accepting.clone().cancelled_owned()),
    );
    let sources = [parts.blocks.changes(), parts.policy.changes(), parts.revocations.changes()];
    let changes = ring_on_changes(attention.clone(), sources, tasks.stopped());
    tasks.spawn("attention", changes);
    let announcements = membership.clone().announce_outages(parts.outbox.clone(), parts.clock.clone(), tasks.stopped());
    tasks.spawn("outages", announcements);
    tasks.spawn(
        "heartbeat",
        membership.clone().heartbeat(parts.state.nodes.clone(), parts.clock.clone(), tasks.stopped()),
    );
    let check = check_listener.zip(parts.config.check_token.clone());
    let check = check.map(|(listener, token)| {
        let api = Arc::new(CheckApi::new(gate.clone(), tasks.clone(), token, &parts.config.trusted_proxies));
        if let Ok(address) = listener.local_addr() {
            tracing::info!(listener = "check", %address, "listening");
        }
        check_api::open(accepting(listener, "check"), api.clone(), &stop_accepting);
        api
    });
    let router = ops::router(Ops { gate, membership: membership.clone(), metrics: parts.metrics.clone() });
    let stopped = tasks.stopped();
    tasks.spawn("ops", async move {
        if let Err(error) = axum::serve(ops_listener, router).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "ops listener ended");
        }
    });
    tracing::info!(listener = "gateway", address = %addresses.0, "listening");
    tracing::info!(listener = "ops", address = %addresses.1, "listening");
    Ok(Running {
        gateway: addresses.0,
        ops: addresses.1,
        check,
        membership,
        attention,
        stop_accepting,
        drain: parts.config.drain,
    })
}

impl Running {
    /// unready at once, accepting a little longer, then closing every session within the spread
    pub async fn drain(&self) {
        self.membership.start_draining();
        tracing::info!(connections = self.membership.connections(), "draining");
        sleep(Duration::from_millis(self.drain.grace_ms)).await;
        self.stop_accepting.cancel();
        let spread = Duration::from_millis(self.drain.spread_ms);
        self.attention.drain(spread - FAREWELL.min(spread / 10));
        if let Some(check) = &self.check {
            check.forget_all();
        }
        let all_left = async {
            while self.membership.connections() > 0 {
                sleep(DRAIN_POLL).await;
            }
        };
        match tokio::time::timeout(spread + DRAIN_PATIENCE, all_left).await {
            Ok(()) => tracing::info!("drained"),
            Err(_) => tracing::warn!(connections = self.membership.connections(), "drain ended with sessions open"),
        }
    }
}

async fn bind(name: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| StartError::Listen { name, address, error })
}

/// the address with the port that the system chose
fn address_of(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

/// TLS for the gateway
fn tls(parts: &Parts) -> Result<Option<TlsAcceptor>, StartError> {
    let Some(files) = &parts.config.tls else {
        return Ok(None);
    };
    let (acceptor, renewal) = tls::acceptor(files)?;
    renew(parts, renewal);
    Ok(Some(acceptor))
}

fn assertions(parts: &Parts) -> Result<Option<Assertions>, StartError> {
    let Some(config) = &parts.config.upstream_assertion else {
        return Ok(None);
    };
    let (assertions, renewal) = Assertions::new(config).map_err(StartError::Assertion)?;
    renew(parts, renewal);
    Ok(Some(assertions))
}

fn geo(parts: &Parts) -> Result<Option<Geo>, StartError> {
    let Some(config) = &parts.config.geoip else {
        return Ok(None);
    };
    let (geo, renewal) = Geo::new(config)?;
    renew(parts, renewal);
    Ok(Some(geo))
}

fn routes(parts: &Parts) -> Result<Routes, StartError> {
    let route = |config| Route::new(config).map_err(|error| StartError::Route { path: config.path.clone(), error });
    let mut routes: Vec<_> = parts.config.routes.iter().map(route).collect::<Result<_, _>>()?;
    for renewal in routes.iter_mut().filter_map(|route| route.renewal.take()) {
        renew(parts, renewal);
    }
    Ok(Routes::new(routes))
}

fn renew(parts: &Parts, renewal: Renewal) {
    let renewals = Renewals::new(&parts.metrics.meter("picket"));
    parts.tasks.spawn("renewal of files", renewal.run(renewals, parts.tasks.stopped()));
}

fn keys(parts: &Parts) -> Result<Keys, StartError> {
    let auth = &parts.auth;
    let claims = ClaimNames { user: auth.jwt.user_claim.clone(), role: auth.jwt.role_claim.clone() };
    let verifier = TokenVerifier::new(&auth.jwt.issuers, claims).map_err(|mut errors| {
        let (index, error) = errors.swap_remove(0);
        StartError::Key { index, error }
    })?;
    let verifier = verifier.for_tokens_of(Duration::from_millis(auth.jwt.max_token_age_ms));
    let remote: Vec<_> = verifier.remote_keys().cloned().collect();
    for keys in &remote {
        parts.tasks.spawn("keys of issuers", keys.clone().follow(parts.clock.clone(), parts.tasks.stopped()));
    }
    observe_keys(&parts.metrics.meter("picket"), remote, &parts.clock);
    let source = |text: &String| TokenSource::parse(text).ok_or_else(|| StartError::TokenSource(text.clone()));
    let sessions = match (auth.sessions.mode, &auth.sessions.introspect_url) {
        (SessionsMode::Introspect, Some(url)) => {
            let hold = Duration::from_millis(auth.sessions.cache_ms);
            Some(Introspector::new(url, &auth.sessions.user_pointer, &auth.sessions.role_pointer, hold)?)
        }
        _ => None,
    };
    Ok(Keys {
        sources: TokenSources(auth.token_sources.iter().map(source).collect::<Result<_, _>>()?),
        verifier,
        sessions,
        revocations: parts.revocations.clone(),
        on_invalid: auth.invalid_token,
        token_bytes_max: parts.config.limits.token_bytes_max,
    })
}

/// the state's counters, by shares of their quotas where each use would cost a trip
fn counters(parts: &Parts, overshoot: &Arc<Overshoot>) -> Arc<dyn Counters> {
    let Some(shares) = parts.state.shares.clone() else {
        return parts.state.counters.clone();
    };
    let (counters, clock) = (parts.state.counters.clone(), parts.clock.clone());
    let identities = Arc::new(Identities::new(parts.config.limits.identities_max));
    observe_identities(&parts.metrics.meter("picket"), &identities);
    let holdings = Arc::new(Holdings::new(counters, shares, clock, identities, overshoot.clone()));
    parts.tasks.spawn("shares of quotas", holdings.clone().settle_lapsed(parts.tasks.stopped()));
    holdings
}

fn memory(parts: &Parts) -> Arc<Memory> {
    let memory = Arc::new(Memory::new(parts.config.limits.memory_bytes_max));
    observe_memory(&parts.metrics.meter("picket"), &memory);
    parts.tasks.spawn("memory", memory.clone().watch(parts.tasks.stopped()));
    memory
}

fn gate(parts: &Parts, keys: Keys, geo: Option<Geo>, known: &KnownNodes) -> Gate {
    let traffic = Arc::new(Traffic::default());
    let limits = parts.config.limits;
    let stances = parts.config.on_outage.stances();
    let overshoot = Arc::<Overshoot>::default();
    observe_overshoot(&parts.metrics.meter("picket"), &overshoot);
    let (counters, leases) = (counters(parts, &overshoot), parts.state.leases.clone());
    let limits_of_state = Arc::new(WithStance::new(counters, leases, stances, known.clone(), overshoot));
    Gate {
        node: parts.id.as_str().into(),
        clock: parts.clock.clone(),
        policy: parts.policy.clone(),
        blocks: parts.blocks.clone(),
        counters: limits_of_state.clone(),
        leases: limits_of_state,
        keys,
        geo,
        handshakes: Handshakes::new(limits.handshake_addresses_max),
        upgrades: Upgrades::new(limits.upgrades_per_second_max),
        pending: Arc::new(Pending::new(limits.pending_max, limits.pending_per_address)),
        memory: memory(parts),
        limits,
        watch: Watch::default(),
        instruments: Instruments::new(&parts.metrics.meter("picket"), &traffic, &parts.outbox, &parts.tasks),
        tracer: parts.tracer.clone(),
        outbox: parts.outbox.clone(),
        traffic,
        panic_event: parts.panic_event.clone().filter(|_| cfg!(debug_assertions)),
    }
}
