//! A million identities that nobody has seen before: what each leaves in Redis, and what is left when a node has its bound.

use anyhow::{Context, Result};
use clap::Args;
use futures_util::StreamExt;
use picket_shared::clock::{Clock, SystemClock};
use picket_shared::state::{CounterKey, Counters, Holdings, Identities, LimitName, RedisOptions, RedisState, Subject};
use picket_shared::tasks::Tasks;
use picket_shared::window::Quota;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::machine::Machine;
use crate::redis::Redis;

const WINDOW: Duration = Duration::from_secs(60);
const AT_ONCE: usize = 64;
/// patience: this program measures memory, not time
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct IdentitiesArgs {
    /// How many identities come
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1000..=5_000_000))]
    newcomers: u32,
    /// The bound of a node, as `node.limits.identitiesMax`
    #[arg(long, default_value_t = 200_000)]
    bound: usize,
}

/// what Redis holds afterwards
struct Left {
    seconds: f64,
    keys: u64,
    without_an_end: u64,
    mean_life_ms: u64,
    bytes_each: f64,
    bytes: u64,
}

type Cell = fn(&Left) -> String;

pub async fn run(args: &IdentitiesArgs) -> Result<()> {
    let machine = Machine::look();
    let free = come(args.newcomers, usize::MAX).await?;
    let bound = come(args.newcomers, args.bound).await?;
    println!("## Newcomers\n\n{} identities, each with one message, windows of {WINDOW:?}.\n", args.newcomers);
    println!("| | without a bound | with a bound of {} |\n|---|---|---|", args.bound);
    let rows: [(&str, Cell); 6] = [
        ("keys in Redis", |left| left.keys.to_string()),
        ("of them without an end", |left| left.without_an_end.to_string()),
        ("mean time to the end, at most two windows", |left| format!("{} s", left.mean_life_ms / 1000)),
        ("memory of Redis", |left| format!("{:.0} MiB", left.bytes as f64 / f64::from(1 << 20))),
        ("for each key", |left| format!("{:.0} B", left.bytes_each)),
        ("time it took them", |left| format!("{:.0} s", left.seconds)),
    ];
    for (name, cell) in rows {
        println!("| {name} | {} | {} |", cell(&free), cell(&bound));
    }
    println!("\nMeasured on: {}.", machine.sentence());
    Ok(())
}

async fn come(newcomers: u32, bound: usize) -> Result<Left> {
    let redis = Redis::start(None).await?;
    let tasks = Tasks::default();
    let options = RedisOptions { timeout: TIMEOUT, ..RedisOptions::default() };
    let state = RedisState::connect(&redis.url(), options, &tasks, Arc::new(SystemClock)).await?.state();
    let shares = state.shares.context("redis has shares")?;
    let node = Holdings::new(state.counters, shares, Arc::new(SystemClock), Identities::new(bound), Arc::default());
    let quota = Quota::new(100, WINDOW.as_millis() as u64);
    let (keys, bytes) = (redis.keys().await?, redis.number("memory", "used_memory").await?);
    let start = Instant::now();
    let charges = (0..newcomers).map(|number| {
        let (node, subject) = (&node, Subject::User(format!("newcomer-{number}").into()));
        async move { node.charge(CounterKey { subject, limit: LimitName::Messages }, quota, SystemClock.now()).await }
    });
    let mut charges = futures_util::stream::iter(charges).buffer_unordered(AT_ONCE);
    while let Some(charge) = charges.next().await {
        charge?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let after = redis.keys().await?;
    let bytes = redis.number("memory", "used_memory").await?.saturating_sub(bytes);
    let added = after.keys.saturating_sub(keys.keys);
    tasks.stop(Duration::from_secs(5)).await;
    Ok(Left {
        seconds,
        keys: added,
        without_an_end: (after.keys - after.ending).saturating_sub(keys.keys - keys.ending),
        mean_life_ms: after.mean_life_ms,
        bytes_each: bytes as f64 / added.max(1) as f64,
        bytes,
    })
}
