//! Audit records per second that one coordinator reads from Redis and stores.

use anyhow::{Result, bail};
use clap::Args;
use picket_shared::audit::AuditRecord;
use picket_shared::clock::{Clock, SystemClock};
use picket_shared::reason::Reason;
use picket_shared::state::{AuditLog, RedisOptions, RedisState};
use picket_shared::tasks::Tasks;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cli::picket_executable;
use crate::cpu;
use crate::machine::{self, Machine};
use crate::numbers::Numbers;
use crate::picket::{Picket, Plan, policy};
use crate::redis::Redis;

/// records in one command
const BATCH: usize = 500;
/// addresses and users that the records speak of
pub const ADDRESSES: usize = 20_000;
const STORED_WITHIN: Duration = Duration::from_secs(180);
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct IngestArgs {
    /// How many records wait in Redis when the coordinator starts
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    records: u32,
    /// An empty PostgreSQL database, `postgres://…` [default: SQLite]
    #[arg(long, value_name = "URL", env = "PICKET_BENCH_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// The picket executable [default: beside this one]
    #[arg(long)]
    picket: Option<PathBuf>,
}

/// what storing took
pub struct Stored {
    pub seconds: f64,
    pub coordinator_seconds: f64,
    pub redis_seconds: f64,
}

pub async fn run(args: &IngestArgs) -> Result<()> {
    let executable = picket_executable(args.picket.as_ref())?;
    let machine = Machine::look();
    let redis = Redis::start(None).await?;
    let plan = Plan {
        executable: &executable,
        redis: redis.url(),
        routes: json!([]),
        // Blocks of ten thousand made-up addresses are another measurement.
        policy: policy(json!({ "security": { "blockSuspiciousIps": false } })),
        limits: json!({}),
    };
    let trail = Trail::open(&redis).await?;
    trail.fill(args.records, 0).await?;
    let store = args.database.as_ref().map_or_else(|| json!({}), |url| json!({ "auditStore": url }));
    let coordinator = plan.coordinator_with("coordinator-1", None, json!({ "coordinator": store })).await?;
    let stored = trail.is_stored(&redis, &coordinator).await?;
    let rate = f64::from(args.records) / stored.seconds;
    let micros = |seconds: f64| seconds * 1e6 / f64::from(args.records);
    println!(
        "## Audit records\n\n{} records of refusals and admissions, from Redis into the store of one coordinator ({}).\n\n\
         | | |\n|---|---|\n| records per second | {rate:.0} |\n| CPU of the coordinator per record | {:.1} µs |\n\
         | CPU of Redis per record | {:.1} µs |\n\nMeasured on: {}; {}.",
        args.records,
        if args.database.is_some() { "PostgreSQL" } else { "SQLite" },
        micros(stored.coordinator_seconds),
        micros(stored.redis_seconds),
        machine.sentence(),
        machine::version(&executable, "--version"),
    );
    Ok(())
}

/// the audit stream of a Redis, as nodes write it
pub struct Trail {
    log: Arc<dyn AuditLog>,
    _tasks: Tasks,
}

impl Trail {
    pub async fn open(redis: &Redis) -> Result<Self> {
        let tasks = Tasks::default();
        let options = RedisOptions { timeout: TIMEOUT, ..RedisOptions::default() };
        let state = RedisState::connect(&redis.url(), options, &tasks, Arc::new(SystemClock)).await?.state();
        Ok(Trail { log: state.audit, _tasks: tasks })
    }

    /// records that are not stored yet
    pub async fn lag(&self) -> Result<u64> {
        Ok(self.log.lag().await?)
    }

    /// others with each seed
    pub async fn fill(&self, records: u32, seed: u32) -> Result<()> {
        let mut numbers = Numbers::new(42 + u64::from(seed));
        let mut left = records as usize;
        while left > 0 {
            let batch: Vec<_> = (0..left.min(BATCH)).map(|_| record(&mut numbers)).collect();
            self.log.append(&batch).await?;
            left -= batch.len();
        }
        Ok(())
    }

    /// from the first record that is stored to the last
    pub async fn is_stored(&self, redis: &Redis, coordinator: &Picket) -> Result<Stored> {
        let full = self.lag().await?;
        let give_up = Instant::now() + STORED_WITHIN;
        let mut start = None;
        loop {
            let lag = self.lag().await?;
            let used = (cpu::used_nanos(coordinator.process.id())?, cpu::used_nanos(redis.id())?);
            let (began, before) = *start.get_or_insert((Instant::now(), used));
            match lag {
                0 => {
                    let seconds = |after: u64, before: u64| (after - before) as f64 / 1e9;
                    return Ok(Stored {
                        seconds: began.elapsed().as_secs_f64(),
                        coordinator_seconds: seconds(used.0, before.0),
                        redis_seconds: seconds(used.1, before.1),
                    });
                }
                lag if lag == full => start = None,
                lag if Instant::now() > give_up => bail!("{lag} records were not stored within {STORED_WITHIN:?}"),
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// what a busy day leaves: mostly admissions, some refusals, each with what a node adds
fn record(numbers: &mut Numbers) -> AuditRecord {
    const REASONS: [Reason; 5] =
        [Reason::OriginNotAllowed, Reason::MessageRate, Reason::TokenInvalid, Reason::HostileContent, Reason::Schema];
    let who = numbers.below(ADDRESSES);
    let reason = REASONS[numbers.below(REASONS.len())];
    let mut record = AuditRecord::refusal(reason, IpAddr::V4(address(who)), SystemClock.now());
    record.socket_id = Some(socket_id(who));
    record.user_id = Some(user_id(who));
    record.event_name = Some("chat:message".to_owned());
    record.route = Some("/ws".to_owned());
    record.node = Some("edge-1".to_owned());
    record.with("detail", "rateLimiting.messageLimit").with("stage", "inspection").with("policyVersion", 3)
}

/// of who has this number, one of [`ADDRESSES`]
pub fn address(who: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xC612_0000 + who as u32)
}

pub fn socket_id(who: usize) -> String {
    format!("{who:032x}")
}

pub fn user_id(who: usize) -> String {
    format!("user-{who}")
}
