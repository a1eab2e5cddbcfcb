//! The shared backend: what nodes and coordinators know in common, in Redis (single, Sentinel, Cluster, with or without TLS).
//!
//! Each method of a contract is one script on one slot. Redis's clock is the cluster's. What Redis does not answer in time is
//! an error at once: nothing waits for it, nothing is queued, nothing is sent a second time.

mod answers;
mod audit;
mod blocks;
mod circuit;
mod connection;
mod counters;
mod heartbeat;
mod hints;
mod keys;
mod lease_table;
mod leases;
mod link;
mod nodes;
mod policies;
mod replicas;
mod reply;
mod revocations;
mod scripts;
mod time;
mod trials;
mod trust;
mod warnings;
mod watchdog;
mod wire;

#[cfg(test)]
mod tests;

use fred::types::Value;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};

use super::{State, StateError};
use crate::clock::{Clock, Timestamp};
use crate::tasks::Tasks;
use crate::telemetry::StateCalls;
use heartbeat::Membership;
use hints::Hints;
use keys::Keys;
use lease_table::Table;
use link::{Link, Timeouts};
use scripts::Scripts;

/// how long the start waits for Redis
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// how a process uses Redis
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// in front of every key and channel: letters, digits, `-_.:`
    pub key_prefix: String,
    /// how long a check waits for an answer
    pub timeout: Duration,
    /// who this process is as a reader of the audit stream
    pub id: String,
    pub clock_source: ClockSource,
    /// whether the start fails when Redis is away; otherwise it begins degraded
    pub required: bool,
    /// whether this process removes ended blocks from the list; one that does not needs no permission to write it
    pub expires_blocks: bool,
    /// certificates in PEM of the only authorities that vouch for Redis; without it, the system's do
    pub ca_file: Option<PathBuf>,
    /// what notes how long calls take
    pub calls: Option<StateCalls>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        RedisOptions {
            key_prefix: "picket".to_owned(),
            timeout: Duration::from_millis(50),
            id: crate::random::hex(8),
            clock_source: ClockSource::Redis,
            required: true,
            expires_blocks: true,
            ca_file: None,
            calls: None,
        }
    }
}

/// whose time decides
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockSource {
    /// Redis's, for all processes
    Redis,
    /// the caller's, for tests that compare backends
    Caller,
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the key prefix may hold letters, digits and `-_.:`, at most 32")]
    Prefix,
    #[error("not a usable address of redis: {0}")]
    Address(String),
    #[error("a file of authorities needs an address with TLS, such as rediss://")]
    NoTls,
    #[error("the authorities in {} cannot be used: {why}", path.display())]
    Authorities { path: PathBuf, why: String },
    #[error("redis is not reachable: {0}")]
    Unreachable(String),
}

/// what is wrong with a file of authorities and an address, if anything is, without asking anybody
pub fn check_authorities(url: &str, ca_file: &Path) -> Result<(), ConnectError> {
    if !url.starts_with("rediss") {
        return Err(ConnectError::NoTls);
    }
    trust::only(ca_file).map(drop)
}

/// a connection to Redis and the contracts on it
#[derive(Clone)]
pub struct RedisState {
    redis: Arc<Redis>,
}

/// every contract is implemented for this, each in a file of its own
struct Redis {
    link: Link,
    keys: Keys,
    scripts: Scripts,
    id: String,
    clock_source: ClockSource,
    expires_blocks: bool,
    clock: Arc<dyn Clock>,
    membership: Membership,
    leases: Mutex<Table>,
    leases_changed: Notify,
    hints: Hints,
    readers_tidied: AtomicBool,
    corrupt_values: AtomicU64,
    replicas: replicas::Replicas,
}

impl RedisState {
    /// connects, and keeps connected as long as the tasks run
    pub async fn connect(
        url: &str,
        options: RedisOptions,
        tasks: &Tasks,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectError> {
        let keys = Keys::new(&options.key_prefix).ok_or(ConnectError::Prefix)?;
        let link = Link::new(url, options.ca_file.as_deref(), Timeouts { check: options.timeout }, options.calls)?;
        let redis = Arc::new(Redis {
            link,
            keys,
            scripts: Scripts::default(),
            id: options.id,
            clock_source: options.clock_source,
            expires_blocks: options.expires_blocks,
            clock,
            membership: Membership::default(),
            leases: Mutex::default(),
            leases_changed: Notify::new(),
            hints: Hints::default(),
            readers_tidied: AtomicBool::new(false),
            corrupt_values: AtomicU64::new(0),
            replicas: replicas::Replicas::default(),
        });
        redis.link.keep_connected(tasks);
        let reached = redis.reach().await;
        if let Err(error) = reached {
            if options.required {
                return Err(ConnectError::Unreachable(error.to_string()));
            }
            redis.link.give_up();
        }
        tasks.spawn("redis heartbeat", heartbeat::run(redis.clone(), tasks.stopped()));
        tasks.spawn("redis watchdog", watchdog::run(redis.clone(), tasks.stopped()));
        tasks.spawn("redis hints", hints::follow(redis.clone(), tasks.stopped()));
        tasks.spawn("redis upkeep", hints::poll(redis.clone(), tasks.stopped()));
        tasks.spawn("redis leases", leases::publish(redis.clone(), tasks.stopped()));
        Ok(RedisState { redis })
    }

    pub fn state(&self) -> State {
        State {
            counters: self.redis.clone(),
            shares: Some(self.redis.clone()),
            leases: self.redis.clone(),
            blocks: self.redis.clone(),
            policies: self.redis.clone(),
            revocations: self.redis.clone(),
            trials: self.redis.clone(),
            answers: self.redis.clone(),
            audit: self.redis.clone(),
            nodes: self.redis.clone(),
        }
    }

    /// whether Redis is not asked at present: the process is degraded
    pub fn is_open(&self) -> bool {
        self.redis.link.is_open()
    }

    /// says whenever [`RedisState::is_open`] changes
    pub fn circuit(&self) -> watch::Receiver<bool> {
        self.redis.link.circuit()
    }

    /// what an operator should know about this Redis, in sentences
    pub async fn warnings(&self) -> Vec<String> {
        self.redis.warnings().await
    }

    /// how many values were found that could not be read, and were skipped
    pub fn corrupt_values(&self) -> u64 {
        self.redis.corrupt_values.load(Ordering::Relaxed)
    }

    /// the cluster's clock; before the first answer of Redis it is this process's own
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(time::ClusterClock { redis: self.redis.clone() })
    }

    /// Redis's clock minus this process's, in ms, as of the last heartbeat
    pub fn clock_offset_ms(&self) -> i64 {
        self.redis.membership.clock_offset_ms()
    }

    /// how many calls Redis did not answer, or were not made because the circuit is open
    pub fn failures(&self) -> u64 {
        self.redis.link.failures()
    }
}

impl Redis {
    async fn reach(&self) -> Result<(), StateError> {
        self.link.connected(CONNECT_MAX).await?;
        self.beat().await
    }

    /// the time as a script takes it
    fn now(&self, now: Timestamp) -> Value {
        match self.clock_source {
            ClockSource::Redis => Value::from_static_str(""),
            ClockSource::Caller => number(now.as_millis()),
        }
    }

    /// a value that cannot be read is skipped, counted and logged
    fn skip_corrupt(&self, what: &'static str) {
        self.corrupt_values.fetch_add(1, Ordering::Relaxed);
        tracing::error!(what, "a value in redis cannot be read, it is skipped");
    }
}

/// a number as a script takes it; scripts count in doubles, so it is kept below 2^53
fn number(number: u64) -> Value {
    const DOUBLE_MAX: u64 = 1 << 53;
    Value::Integer(i64::try_from(number.min(DOUBLE_MAX)).unwrap_or(i64::MAX))
}

fn millis(duration: Duration) -> Value {
    number(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
