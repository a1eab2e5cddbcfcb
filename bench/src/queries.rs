//! Heavy searches of the management API over a million audit records, and what the users of a node notice of them.
//!
//! In production the coordinator has a machine of its own: here it may use only what the node and the load leave it
//! (`nice 19`). What both share is Redis.

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cli::picket_executable;
use crate::dialect::Dialect;
use crate::echo;
use crate::ingest::Trail;
use crate::load::{Load, Work};
use crate::machine::{self, Machine};
use crate::peers::LIMIT_BEYOND;
use crate::picket::{Admin, Plan, json_route, policy};
use crate::redis::Redis;
use crate::stats::median;

/// the searches, each of which reads as much as it can
const SEARCHES: [&str; 5] = [
    "/audit-logs?limit=1000&text=no-record-says-this",
    "/audit-logs?limit=1000&eventType=RATE_LIMIT_EXCEEDED&text=inspection",
    "/dashboard",
    "/report?period=30d&format=json",
    "/reputation/198.18.0.7",
];
const ROUNDS: usize = 5;
const PACED: Work = Work::Paced { connections: 50, per_second: 1000, millis: 4000 };

#[derive(Debug, Args)]
pub struct QueriesArgs {
    /// How many records are searched
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    records: u32,
    /// The picket executable [default: beside this one]
    #[arg(long)]
    picket: Option<PathBuf>,
}

pub async fn run(args: &QueriesArgs) -> Result<()> {
    let executable = picket_executable(args.picket.as_ref())?;
    let machine = Machine::look();
    let (_echo, upstream) = echo::process(None, Dialect::Json).await?;
    let redis = Redis::start(None).await?;
    let beyond = json!({
        "handshakeLimit": { "maxHandshakes": LIMIT_BEYOND },
        "messageLimit": { "maxMessages": 1000 },
        "eventLimit": { "maxEvents": LIMIT_BEYOND },
        "burstLimit": { "maxEvents": LIMIT_BEYOND },
    });
    let policy = policy(json!({ "rateLimiting": beyond, "security": { "blockSuspiciousIps": false } }));
    let limits = json!({ "upgradesPerSecondMax": LIMIT_BEYOND });
    let plan = Plan { executable: &executable, redis: redis.url(), routes: json_route(upstream), policy, limits };
    let trail = Trail::open(&redis).await?;
    trail.fill(args.records, 0).await?;
    let coordinator = plan.coordinator("coordinator-1", None).await?;
    trail.is_stored(&redis, &coordinator).await?;
    renice(coordinator.process.id())?;
    let node = plan.node("edge-1", None).await?;
    let admin = Arc::new(Admin::new(&coordinator)?);
    eprintln!("{} records are stored", args.records);

    let load = crate::load::Plan { address: node.address, dialect: Dialect::Json, work: PACED };
    let p99 = || -> Result<f64> {
        let outcome = Load::start("0-1023", &load)?.go()?;
        outcome.p99_micros.context("no message came back")
    };
    let before = redis.calls().await?;
    let (mut quiet, mut searched, mut slowest) = (Vec::new(), Vec::new(), Duration::ZERO);
    let mut searches = 0;
    for _ in 0..ROUNDS {
        quiet.push(tokio::task::block_in_place(p99)?);
        let is_over = Arc::new(AtomicBool::new(false));
        let searching = tokio::spawn(search(admin.clone(), is_over.clone()));
        searched.push(tokio::task::block_in_place(p99)?);
        is_over.store(true, Ordering::Relaxed);
        let (done, longest) = searching.await??;
        searches += done;
        slowest = slowest.max(longest);
    }
    let after = redis.calls().await?;
    let walks = ["keys", "scan"].map(|name| {
        let calls = |calls: &std::collections::BTreeMap<String, u64>| calls.get(name).copied().unwrap_or(0);
        format!("{name} {}", calls(&after) - calls(&before))
    });
    let (quiet, searched) = (median(&quiet).unwrap_or_default(), median(&searched).unwrap_or_default());
    println!(
        "## Searches of {} audit records\n\n{ROUNDS} rounds; 1,000 messages/s over 50 connections through one node.\n\n\
         | | |\n|---|---|\n| p99 of a message, nobody searches | {quiet:.0} µs |\n| p99 while searches run in a loop | {searched:.0} µs |\n\
         | ratio | {:.2} |\n| searches made, the slowest | {searches}, {:.1} s |\n| commands that walk over keys | {} |\n\n\
         Measured on: {}; {}.",
        args.records,
        searched / quiet,
        slowest.as_secs_f64(),
        walks.join(", "),
        machine.sentence(),
        machine::version(&executable, "--version"),
    );
    Ok(())
}

/// one after the other, until it is over
async fn search(admin: Arc<Admin>, is_over: Arc<AtomicBool>) -> Result<(usize, Duration)> {
    let (mut done, mut slowest) = (0, Duration::ZERO);
    for path in SEARCHES.iter().cycle() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let start = Instant::now();
        admin.get(path).await?;
        slowest = slowest.max(start.elapsed());
        done += 1;
    }
    Ok((done, slowest))
}

fn renice(process: u32) -> Result<()> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"))?;
    let threads = tasks.map(|task| Ok(task?.file_name().to_string_lossy().into_owned())).collect::<Result<Vec<_>>>()?;
    let mut command = std::process::Command::new("renice");
    let output = command.args(["-n", "19", "-p"]).args(threads).output().context("renice is in util-linux")?;
    anyhow::ensure!(output.status.success(), "renice: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
