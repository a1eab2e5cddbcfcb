//! A thundering herd: Redis was away, it heals, and everybody comes back within seconds. Who is sent away comes again when it
//! was told to; measured are the time until all are back, and Redis's busiest second.

use anyhow::{Result, bail};
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

use crate::cli::picket_executable;
use crate::client::{Door, NotOpened, Socket};
use crate::cpu;
use crate::dialect::Dialect;
use crate::echo;
use crate::machine::{self, Machine};
use crate::numbers::Numbers;
use crate::peers::LIMIT_BEYOND;
use crate::picket::{Plan, json_route, policy};
use crate::redis::Redis;
use crate::token;

const OUTAGE: Duration = Duration::from_secs(3);
/// after that the herd is given up
const ALL_BACK_WITHIN: Duration = Duration::from_secs(120);
const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct HerdArgs {
    /// How many come back
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    clients: u16,
    /// Within how many seconds they try for the first time
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=60))]
    seconds: u8,
    /// How many nodes there are; each takes up `node.limits.upgradesPerSecondMax`
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=4))]
    nodes: u8,
    /// The picket executable [default: beside this one]
    #[arg(long)]
    picket: Option<PathBuf>,
}

/// what the clients saw
#[derive(Default)]
struct Seen {
    back: AtomicUsize,
    sent_away: AtomicUsize,
    failed: AtomicUsize,
    is_over: AtomicBool,
}

pub async fn run(args: &HerdArgs) -> Result<()> {
    let executable = picket_executable(args.picket.as_ref())?;
    let machine = Machine::look();
    let (_echo, upstream) = echo::process(None, Dialect::Json).await?;
    let mut redis = Redis::start(None).await?;
    let plan = Plan {
        executable: &executable,
        redis: redis.url(),
        routes: json_route(upstream),
        policy: policy(json!({ "rateLimiting": { "connectionLimit": { "maxConnections": LIMIT_BEYOND } } })),
        limits: json!({}),
    };
    let _coordinator = plan.coordinator("coordinator-1", None).await?;
    let mut nodes = Vec::new();
    for number in 1..=args.nodes {
        nodes.push(plan.node(&format!("edge-{number}"), None).await?);
    }
    eprintln!("redis goes away for {OUTAGE:?}");
    redis.kill()?;
    tokio::time::sleep(OUTAGE).await;
    redis.restart().await?;

    let (clients, spread) = (usize::from(args.clients), u64::from(args.seconds) * 1000);
    let seen = Arc::new(Seen::default());
    let watch = tokio::spawn(watch(redis.id(), seen.clone()));
    let mut numbers = Numbers::new(39);
    let start = Instant::now();
    let herd: FuturesUnordered<_> = (0..clients)
        .map(|number| {
            let first = Duration::from_millis(numbers.next() % spread);
            come_back(nodes[number % nodes.len()].address, number, first, seen.clone())
        })
        .collect();
    let sockets: Vec<Socket> = match timeout(ALL_BACK_WITHIN, herd.collect()).await {
        Ok(sockets) => sockets,
        Err(_) => bail!("{} of {clients} were back after {ALL_BACK_WITHIN:?}", seen.back.load(Ordering::Relaxed)),
    };
    let all_back = start.elapsed();
    seen.is_over.store(true, Ordering::Relaxed);
    let busiest = watch.await??;
    println!(
        "## A herd comes back\n\n{clients} clients within {} s, {} nodes, {OUTAGE:?} after Redis went away.\n\n| | |\n|---|---|\n\
         | all {} back after | {:.1} s |\n| sent away with 503 | {} times |\n| connections that failed | {} |\n\
         | most taken up in a second | {} |\n| Redis's busiest second | {:.0} % of a core |\n\n\
         Measured on: {}; {}.",
        args.seconds,
        nodes.len(),
        sockets.len(),
        all_back.as_secs_f64(),
        seen.sent_away.load(Ordering::Relaxed),
        seen.failed.load(Ordering::Relaxed),
        busiest.taken_up,
        busiest.redis * 100.0,
        machine.sentence(),
        machine::version(&executable, "--version"),
    );
    Ok(())
}

/// comes when its time is there, and again when it was told to
async fn come_back(node: SocketAddr, number: usize, first: Duration, seen: Arc<Seen>) -> Socket {
    sleep(first).await;
    let token = token::signed(&format!("user-{number}")).unwrap_or_default();
    let door = Door::new(node, Dialect::Json.path())
        .forwarded_for(&format!("198.18.{}.{}", number / 250, number % 250 + 1))
        .header("authorization", &format!("Bearer {token}"));
    loop {
        match door.open().await {
            Ok(socket) => {
                seen.back.fetch_add(1, Ordering::Relaxed);
                return socket;
            }
            Err(NotOpened::Refused { retry_after: Some(wait), .. }) => {
                seen.sent_away.fetch_add(1, Ordering::Relaxed);
                sleep(wait).await;
            }
            Err(_) => {
                seen.failed.fetch_add(1, Ordering::Relaxed);
                sleep(SECOND).await;
            }
        }
    }
}

/// the most of any second
#[derive(Default)]
struct Busiest {
    taken_up: usize,
    redis: f64,
}

async fn watch(redis: u32, seen: Arc<Seen>) -> Result<Busiest> {
    let mut busiest = Busiest::default();
    let mut last = (Instant::now(), cpu::used_nanos(redis)?, 0);
    while !seen.is_over.load(Ordering::Relaxed) {
        sleep(SECOND).await;
        let this = (Instant::now(), cpu::used_nanos(redis)?, seen.back.load(Ordering::Relaxed));
        let nanos = this.0.duration_since(last.0).as_nanos() as f64;
        busiest.redis = busiest.redis.max((this.1 - last.1) as f64 / nanos);
        busiest.taken_up = busiest.taken_up.max(this.2 - last.2);
        last = this;
    }
    Ok(busiest)
}
