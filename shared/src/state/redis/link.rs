//! The connections: four to a Redis, so that a long read does not hold up a check, what waits for a replica holds
//! up nobody else, and subscriptions are apart.
//!
//! A call has one try and one deadline. At most so many are in flight; beyond that, and while the circuit is open, a call
//! fails at once, but for the probe and a node's word that it lives.

use fred::clients::{Client, SubscriberClient};
use fred::error::{Error, ErrorKind};
use fred::interfaces::ClientLike;
use fred::types::config::{Config, ReconnectPolicy, Server, TlsConnector, UnresponsiveConfig};
use fred::types::{Builder, ClusterHash, CustomCommand, InfoKind, Value};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::time::Instant;

use super::circuit::Circuit;
use super::connection::{Connection, RECONNECT_MS};
use super::scripts::{Effect, Script};
use super::trust;
use super::{ConnectError, number};
use crate::state::StateError;
use crate::tasks::Tasks;
use crate::telemetry::{CallOutcome, StateCalls};

/// calls in flight, over both connections
const IN_FLIGHT_MAX: usize = 1024;
/// how long a call off the data path waits: block list, policy, audit, membership
const UPKEEP_TIMEOUT: Duration = Duration::from_secs(1);
/// hints that may wait for their reader
const HINTS_MAX: usize = 4096;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// how long logging in may take: a master that hangs still accepts connections, and its successor is waited for meanwhile
const GREETING_TIMEOUT: Duration = Duration::from_millis(500);

/// in a Cluster, when a call that found its slot moving is made again: it was not carried out, and all tries fit into a deadline
const MOVING_PAUSES_MS: [u64; 5] = [0, 2, 5, 10, 20];

pub(super) struct Link {
    checks: Connection<Client>,
    upkeep: Connection<Client>,
    durable: Connection<Client>,
    subscriber: Connection<SubscriberClient>,
    in_flight: Semaphore,
    circuit: Mutex<Circuit>,
    is_open: watch::Sender<bool>,
    /// whether the last failure was a refusal to write, rather than silence
    refuses_writes: AtomicBool,
    /// by lane, so that one that answers does not hide one that hangs
    timeouts_in_row: [AtomicU32; 3],
    failures: AtomicU64,
    /// `None` where nobody asks
    calls: Option<StateCalls>,
}

pub(super) struct Timeouts {
    pub(super) check: Duration,
}

/// which connection a call takes
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// somebody waits for a decision
    Checks,
    Upkeep,
    /// writes that wait for a replica, audit records and an administrator's blocks: nobody else waits for what they wait for
    Durable,
}

impl Lane {
    const fn as_str(self) -> &'static str {
        match self {
            Lane::Checks => "checks",
            Lane::Upkeep => "upkeep",
            Lane::Durable => "durable",
        }
    }
}

impl Link {
    pub(super) fn new(
        url: &str,
        ca_file: Option<&Path>,
        timeouts: Timeouts,
        calls: Option<StateCalls>,
    ) -> Result<Self, ConnectError> {
        let address = |error: Error| ConnectError::Address(error.details().to_owned());
        let mut config = Config::from_url(url).map_err(address)?;
        if let Some(path) = ca_file {
            let Some(tls) = &mut config.tls else { return Err(ConnectError::NoTls) };
            tls.connector = TlsConnector::from(trust::only(path)?);
        }
        config.fail_fast = false;
        let (checks, upkeep) = (builder(config.clone(), timeouts.check), builder(config, UPKEEP_TIMEOUT));
        Ok(Link {
            checks: Connection::of(checks.build().map_err(address)?),
            upkeep: Connection::of(upkeep.build().map_err(address)?),
            durable: Connection::of(upkeep.build().map_err(address)?),
            subscriber: Connection::of(upkeep.build_subscriber_client().map_err(address)?),
            in_flight: Semaphore::new(IN_FLIGHT_MAX),
            circuit: Mutex::new(Circuit::closed(Instant::now())),
            is_open: watch::Sender::new(false),
            refuses_writes: AtomicBool::new(false),
            timeouts_in_row: Default::default(),
            failures: AtomicU64::new(0),
            calls,
        })
    }

    /// connects all four, again and again
    pub(super) fn keep_connected(&self, tasks: &Tasks) {
        self.checks.keep("redis checks", false, tasks);
        self.upkeep.keep("redis upkeep connection", true, tasks);
        self.durable.keep("redis durable connection", false, tasks);
        self.subscriber.keep("redis subscriber", false, tasks);
    }

    pub(super) async fn connected(&self, patience: Duration) -> Result<(), StateError> {
        let all = async {
            self.checks.client().wait_for_connect().await?;
            self.durable.client().wait_for_connect().await?;
            self.upkeep.client().wait_for_connect().await
        };
        match tokio::time::timeout(patience, all).await {
            Ok(outcome) => outcome.map_err(told),
            // It may have connected between the look and the wait.
            Err(_) if self.checks.is_up() && self.durable.is_up() && self.upkeep.is_up() => Ok(()),
            Err(_) => Err(StateError(format!("no connection within {} ms", patience.as_millis()))),
        }
    }

    /// runs a script, unless the circuit is open
    pub(super) async fn call(
        &self,
        lane: Lane,
        script: &Script,
        keys: Vec<String>,
        arguments: Vec<Value>,
    ) -> Result<Value, StateError> {
        // A Redis that answers, and refuses what checks write, is still read.
        let answers = lane != Lane::Checks && self.refuses_writes.load(Ordering::Relaxed);
        if self.is_open() && !answers {
            self.failures.fetch_add(1, Ordering::Relaxed);
            return Err(StateError("redis did not answer lately, it is not asked".to_owned()));
        }
        let (outcome, took) = self.send(lane, script, keys, arguments).await;
        // Upkeep is another connection, and slow where it is large: it says nothing about checks.
        if lane == Lane::Checks {
            self.judge(|circuit, now| match &outcome {
                Ok(_) => circuit.answered(took, now),
                Err(error) if is_outage(error) => self.failed(circuit, error, now),
                Err(_) => {}
            });
        }
        outcome.map_err(told)
    }

    /// Runs a script even if the circuit is open, which it says nothing about: a node that finds Redis too slow is still heard of.
    /// For what is sent once a second and waited for, so that it never comes to be more than one call in flight.
    pub(super) async fn tell(
        &self,
        script: &Script,
        keys: Vec<String>,
        arguments: Vec<Value>,
    ) -> Result<Value, StateError> {
        self.send(Lane::Upkeep, script, keys, arguments).await.0.map_err(told)
    }

    fn failed(&self, circuit: &mut Circuit, error: &Error, now: Instant) {
        self.refuses_writes.store(refuses_writes(error), Ordering::Relaxed);
        circuit.failed(now);
    }

    /// runs a script even if the circuit is open; an answer closes it
    pub(super) async fn probe(
        &self,
        script: &Script,
        keys: Vec<String>,
        arguments: Vec<Value>,
    ) -> Result<Value, StateError> {
        let (outcome, took) = self.send(Lane::Checks, script, keys, arguments).await;
        self.judge(|circuit, now| match &outcome {
            Ok(_) if circuit.is_open() => circuit.probed(took, now),
            Ok(_) => circuit.answered(took, now),
            Err(error) if is_outage(error) => self.failed(circuit, error, now),
            Err(_) => {}
        });
        outcome.map_err(told)
    }

    /// Waits for a replica to have what this lane wrote last to the slot of a key; answers how many have, which may be none.
    pub(super) async fn wait_for_replica(&self, lane: Lane, key: &str, patience: Duration) -> Result<u64, StateError> {
        const REPLICAS: u64 = 1;
        let command = CustomCommand::new_static("WAIT", ClusterHash::from(key), false);
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let words = vec![number(REPLICAS), number(patience_ms)];
        self.lane(lane).client().custom(command, words).await.map_err(told)
    }

    pub(super) fn is_open(&self) -> bool {
        *self.is_open.borrow()
    }

    pub(super) fn circuit(&self) -> watch::Receiver<bool> {
        self.is_open.subscribe()
    }

    /// opens the circuit: there is no Redis to begin with
    pub(super) fn give_up(&self) {
        self.judge(|circuit, _| circuit.open());
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(super) fn timeouts_in_row(&self) -> u32 {
        self.timeouts_in_row.iter().map(|lane| lane.load(Ordering::Relaxed)).max().unwrap_or(0)
    }

    /// each time that checks hardly have a connection again
    pub(super) fn reconnections(&self) -> broadcast::Receiver<Server> {
        self.checks.reconnections()
    }

    pub(super) fn subscriber(&self) -> &SubscriberClient {
        self.subscriber.client()
    }

    /// what Redis says about itself
    pub(super) async fn info(&self) -> Result<String, StateError> {
        self.upkeep.client().info::<String>(Some(InfoKind::All)).await.map_err(told)
    }

    /// drops connections that only seem to live; those that are being set up already are left alone
    pub(super) async fn force_reconnection(&self) {
        self.timeouts_in_row.iter().for_each(|lane| lane.store(0, Ordering::Relaxed));
        let (checks, upkeep, durable, subscriber) = tokio::join!(
            self.checks.force_reconnection(),
            self.upkeep.force_reconnection(),
            self.durable.force_reconnection(),
            self.subscriber.force_reconnection(),
        );
        for error in [checks, upkeep, durable, subscriber].into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "redis not reconnected yet");
        }
    }

    async fn send(
        &self,
        lane: Lane,
        script: &Script,
        keys: Vec<String>,
        arguments: Vec<Value>,
    ) -> (Result<Value, Error>, Duration) {
        let start = Instant::now();
        let outcome = match self.in_flight.try_acquire() {
            Ok(_permit) => evaluate(self.lane(lane), script, keys, arguments).await,
            Err(_) => Err(Error::new(ErrorKind::Backpressure, "too many calls are in flight")),
        };
        let timeouts = &self.timeouts_in_row[lane as usize];
        match &outcome {
            Ok(_) => timeouts.store(0, Ordering::Relaxed),
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                timeouts.fetch_add(u32::from(*error.kind() == ErrorKind::Timeout), Ordering::Relaxed);
            }
        }
        let took = start.elapsed();
        if let Some(calls) = &self.calls {
            calls.ended(lane.as_str(), ended(&outcome), took);
        }
        (outcome, took)
    }

    fn lane(&self, lane: Lane) -> &Connection<Client> {
        match lane {
            Lane::Checks => &self.checks,
            Lane::Upkeep => &self.upkeep,
            Lane::Durable => &self.durable,
        }
    }

    fn judge(&self, verdict: impl FnOnce(&mut Circuit, Instant)) {
        let mut circuit = self.circuit.lock();
        verdict(&mut circuit, Instant::now());
        let is_open = circuit.is_open();
        let changed = self.is_open.send_if_modified(|open| std::mem::replace(open, is_open) != is_open);
        drop(circuit);
        match (changed, is_open) {
            (true, true) => tracing::error!("redis does not answer, deciding without it"),
            (true, false) => tracing::info!("redis answers again"),
            (false, _) => {}
        }
    }
}

fn ended(outcome: &Result<Value, Error>) -> CallOutcome {
    match outcome {
        Ok(_) => CallOutcome::Answered,
        Err(error) if *error.kind() == ErrorKind::Timeout => CallOutcome::TimedOut,
        Err(_) => CallOutcome::Failed,
    }
}

fn builder(config: Config, timeout: Duration) -> Builder {
    let mut builder = Builder::from_config(config);
    builder.with_connection_config(|connection| {
        connection.connection_timeout = CONNECT_TIMEOUT;
        connection.internal_command_timeout = GREETING_TIMEOUT;
        connection.max_command_attempts = 1;
        connection.max_command_buffer_len = IN_FLIGHT_MAX;
        // The driver follows ASK to the wrong master, and mixes up the answers of others meanwhile. After MOVED it looks for
        // the slots anew in any case, and this process asks again.
        connection.max_redirections = 0;
        connection.cluster_cache_update_delay = Duration::ZERO;
        connection.reconnect_on_auth_error = true;
        connection.unresponsive =
            UnresponsiveConfig { max_timeout: Some(Duration::from_secs(2)), interval: Duration::from_millis(500) };
        connection.tcp.nodelay = Some(true);
    });
    builder.with_performance_config(|performance| {
        performance.default_command_timeout = timeout;
        performance.broadcast_channel_capacity = HINTS_MAX;
    });
    let (delay, jitter) = RECONNECT_MS;
    const FOR_EVER: u32 = 0;
    builder.set_policy(ReconnectPolicy::Constant { attempts: 0, max_attempts: FOR_EVER, delay, jitter });
    builder
}

/// by its digest; a server that does not know the script gets its text within the same call
async fn evaluate(
    connection: &Connection<Client>,
    script: &Script,
    keys: Vec<String>,
    arguments: Vec<Value>,
) -> Result<Value, Error> {
    // What is queued for a connection that is being set up would wait for it.
    if !connection.is_up() {
        return Err(Error::new(ErrorKind::IO, "not connected"));
    }
    let client = connection.client();
    let (by_digest, by_text) = match script.effect {
        Effect::Reads => ("EVALSHA_RO", "EVAL_RO"),
        Effect::Writes => ("EVALSHA", "EVAL"),
    };
    let outcome = send(client, by_digest, script.text.sha1().clone(), keys.clone(), arguments.clone()).await;
    match (outcome, script.text.lua()) {
        (Err(error), Some(text)) if error.details().starts_with("NOSCRIPT") => {
            send(client, by_text, text.clone(), keys, arguments).await
        }
        (outcome, _) => outcome,
    }
}

async fn send(
    client: &Client,
    command: &'static str,
    script: impl Into<Value>,
    keys: Vec<String>,
    arguments: Vec<Value>,
) -> Result<Value, Error> {
    // All keys share a slot, and the driver finds it no other way.
    let slot = keys.first().map_or(ClusterHash::Random, |key| ClusterHash::from(key.as_str()));
    let mut words = vec![script.into(), number(keys.len() as u64)];
    words.extend(keys.into_iter().map(Value::from));
    words.extend(arguments);
    let command = CustomCommand::new_static(command, slot, false);
    for pause in MOVING_PAUSES_MS {
        match client.custom(command.clone(), words.clone()).await {
            Err(error) if is_moving(&error) => tokio::time::sleep(Duration::from_millis(pause)).await,
            outcome => return outcome,
        }
    }
    client.custom(command, words).await
}

/// whether the slot of a call is on its way to another master
fn is_moving(error: &Error) -> bool {
    *error.kind() == ErrorKind::Routing && error.details() == "Too many redirections."
}

/// whether an error says that Redis cannot be used now, rather than that it refused this call
fn is_outage(error: &Error) -> bool {
    const STATES: [&str; 6] = ["LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "NOPERM"];
    if refuses_writes(error) {
        return true;
    }
    if is_moving(error) {
        return false;
    }
    match error.kind() {
        ErrorKind::Unknown
        | ErrorKind::InvalidCommand
        | ErrorKind::InvalidArgument
        | ErrorKind::NotFound
        | ErrorKind::Parse => STATES.iter().any(|state| error.details().starts_with(state)),
        _ => true,
    }
}

/// full memory, or a disk that cannot be written: what is there can still be read
fn refuses_writes(error: &Error) -> bool {
    ["OOM", "MISCONF"].iter().any(|state| error.details().starts_with(state))
}

fn told(error: Error) -> StateError {
    StateError(error.to_string())
}
