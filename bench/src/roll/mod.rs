//! A rolling restart: three nodes behind HAProxy end and come again, one after the other, and users shall hardly notice.

mod balancer;
mod crowd;
mod ledger;
mod upstream;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::cli::picket_executable;
use crate::drill::verdict::{Check, checks_table};
use crate::machine::{self, Machine};
use crate::picket::{Picket, Plan, json_route, policy};
use crate::redis::Redis;
use balancer::Balancer;
use crowd::Crowd;
use ledger::{Ledger, Seen};

pub const EXAMPLES: &str = "\
Examples:
  picket-bench roll                                              as in production: about two minutes
  picket-bench roll --connections 300 --grace-ms 1000 --spread-ms 4000

Passes when at most one of a thousand handshakes failed, no message was lost that a node had time to read, every session was
closed with 1012, nobody met a limit, users came back at most twice as fast as evenly, and each node ended within grace and spread.
Exit codes: 0 passed, 1 failed.";

const NODES: u16 = 3;
/// so that HAProxy has asked each node twice before the next one goes
const SETTLES_WITHIN: Duration = Duration::from_secs(3);
/// before the first node goes
const CALM: Duration = Duration::from_secs(3);
/// a node that has not ended so long after grace and spread is given up
const ENDS_LATEST: Duration = Duration::from_secs(15);
const ALL_THERE_WITHIN: Duration = Duration::from_secs(60);
const FAILED_MAX: f64 = 0.001;
const PEAK_MAX: f64 = 2.0;

#[derive(Debug, Args)]
pub struct RollArgs {
    /// Users who stay connected, over all nodes
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(30..=6000))]
    connections: u32,
    /// Visitors who come and go, each second
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    visitors: u32,
    /// How long a user is silent between two messages, on average, in ms
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pause_ms: u64,
    /// `node.drain.graceMs`
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    grace_ms: u64,
    /// `node.drain.spreadMs`
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1000..=600_000))]
    spread_ms: u64,
    /// The picket executable [default: beside this one]
    #[arg(long)]
    picket: Option<PathBuf>,
}

/// one node's restart
struct Restart {
    node: String,
    ended_after: Duration,
    closes: usize,
    /// the most users that came back in one second
    peak: usize,
    /// the same, if they had come evenly
    steady: f64,
}

pub async fn command(args: &RollArgs) -> Result<ExitCode> {
    let executable = picket_executable(args.picket.as_ref())?;
    let (seen, restarts) = roll(args, &executable).await?;
    let checks = judge(args, &seen, &restarts);
    let passed = checks.iter().all(Check::holds);
    println!("{}\n{}", table(&seen, &restarts), checks_table(&checks));
    println!(
        "{}\n\n{} users, {} visitors a second, grace {} ms, spread {} ms. Measured on: {}; {}.",
        if passed { "passed" } else { "FAILED" },
        args.connections,
        args.visitors,
        args.grace_ms,
        args.spread_ms,
        Machine::look().sentence(),
        machine::version(&executable, "--version"),
    );
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn roll(args: &RollArgs, executable: &std::path::Path) -> Result<(Seen, Vec<Restart>)> {
    let (application, reached) = upstream::start().await?;
    let redis = Redis::start(None).await?;
    let plan = Plan {
        executable,
        redis: redis.url(),
        routes: json_route(application),
        policy: policy(json!({})),
        limits: json!({}),
    };
    let _coordinator = plan.coordinator("coordinator-1", None).await?;
    let mut nodes = Vec::new();
    for number in 1..=NODES {
        nodes.push(plan.node_with(&format!("edge-{number}"), None, patch(args), &[]).await?);
    }
    let mut balancer = Balancer::before(&nodes).await?;
    let crowd = Crowd {
        address: balancer.address,
        ledger: Arc::new(Ledger::default()),
        pause: Duration::from_millis(args.pause_ms),
        over: CancellationToken::new(),
    };
    let mut people = JoinSet::new();
    for number in 0..args.connections {
        people.spawn(crowd.clone().user(number));
        // They do not come all at once.
        sleep(Duration::from_millis(2)).await;
    }
    people.spawn(crowd.clone().visitors(args.connections, args.visitors));
    sleep(CALM).await;
    eprintln!("calm: {}", crowd.ledger.line());

    let mut restarts = Vec::new();
    for node in &mut nodes {
        let restart = restart(args, &plan, node, restarts.len() + 1, &crowd.ledger).await?;
        eprintln!("{} restarted: {}", restart.node, crowd.ledger.line());
        restarts.push(restart);
        balancer.process.still_runs()?;
    }
    crowd.over.cancel();
    match timeout(ALL_THERE_WITHIN, people.join_all()).await {
        Ok(ends) => ends.into_iter().collect::<Result<()>>()?,
        Err(_) => bail!("not all users had left {ALL_THERE_WITHIN:?} after the end"),
    }
    Ok((crowd.ledger.seen(&reached), restarts))
}

fn patch(args: &RollArgs) -> Value {
    json!({ "node": {
        "proxyProtocol": "required",
        // HAProxy; every user has another address.
        "trustedProxies": ["127.0.0.1/32"],
        "drain": { "graceMs": args.grace_ms, "spreadMs": args.spread_ms },
    } })
}

/// ends the node as a rollout would, and starts it again at the same address
async fn restart(
    args: &RollArgs,
    plan: &Plan<'_>,
    node: &mut Picket,
    number: usize,
    ledger: &Ledger,
) -> Result<Restart> {
    let name = format!("edge-{number}");
    let (grace, spread) = (Duration::from_millis(args.grace_ms), Duration::from_millis(args.spread_ms));
    let told = Instant::now();
    node.process.signal("TERM").await?;
    node.process.ends(grace + spread + ENDS_LATEST).await?;
    let ended_after = told.elapsed();
    *node = plan.node_at((node.address, node.ops), &name, None, patch(args), &[]).await?;
    sleep(SETTLES_WITHIN).await;
    let (closes, peak) = ledger.wave(told + grace, Instant::now());
    Ok(Restart { node: name, ended_after, closes, peak, steady: closes as f64 / spread.as_secs_f64() })
}

fn judge(args: &RollArgs, seen: &Seen, restarts: &[Restart]) -> Vec<Check> {
    let failed = seen.failed as f64 / seen.handshakes.max(1) as f64;
    let within = Duration::from_millis(args.grace_ms + args.spread_ms);
    let slowest = restarts.iter().map(|restart| restart.ended_after).max().unwrap_or_default();
    let peak = restarts.iter().map(|restart| restart.peak as f64 / restart.steady).fold(0.0, f64::max);
    let reasons = |of: &[String]| if of.is_empty() { String::new() } else { format!(": {}", of.join(", ")) };
    vec![
        Check::new(
            "at most 0.1 % of handshakes fail",
            failed <= FAILED_MAX,
            format!("{} of {}{}", seen.failed, seen.handshakes, reasons(&seen.reasons)),
        ),
        Check::new(
            "every session is closed with 1012",
            seen.broken.is_empty() && seen.closes > 0,
            format!("{}{}", seen.closes, reasons(&seen.broken)),
        ),
        Check::new("no message is lost", seen.lost == 0, format!("{} of {}", seen.lost, seen.sent)),
        Check::new("nobody meets a limit", seen.rate_limited == 0, format!("{} times", seen.rate_limited)),
        Check::new("users come back at most twice as fast as evenly", peak <= PEAK_MAX, format!("{peak:.2}")),
        Check::new(
            "a node ends within grace and spread",
            slowest <= within,
            format!("{:.2} s of {:.0}", slowest.as_secs_f64(), within.as_secs_f64()),
        ),
    ]
}

fn table(seen: &Seen, restarts: &[Restart]) -> String {
    let mut text =
        "| node | ended after | sessions closed | came back, busiest second | evenly |\n|---|---|---|---|---|\n"
            .to_owned();
    for Restart { node, ended_after, closes, peak, steady } in restarts {
        text += &format!("| {node} | {:.2} s | {closes} | {peak} | {steady:.1} |\n", ended_after.as_secs_f64());
    }
    text + &format!(
        "\n| handshakes | failed | messages sent | echoed | reached the application, answer not heard | crossed the close | lost |\n\
         |---|---|---|---|---|---|---|\n| {} | {} | {} | {} | {} | {} | {} |\n",
        seen.handshakes, seen.failed, seen.sent, seen.echoed, seen.delivered_unanswered, seen.crossed, seen.lost
    )
}
