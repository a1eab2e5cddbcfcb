//! Nodes that share a limit over a real Redis: what they admit of it beside an exact log, the most in any trailing window, and
//! how often they ask Redis for an admitted and for a refused message.

use anyhow::{Context, Result};
use async_trait::async_trait;
use clap::Args;
use futures_util::future::try_join_all;
use picket_shared::clock::{Clock, SystemClock, Timestamp};
use picket_shared::state::{
    Charge, CounterKey, Counters, Holdings, Identities, LimitName, RedisOptions, RedisState, ShareId, Shares, Spent,
    StateError, Subject, Taken,
};
use picket_shared::tasks::Tasks;
use picket_shared::window::Quota;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

use crate::machine::Machine;
use crate::redis::Redis;

const NODES: [usize; 3] = [1, 3, 8];
const DEMANDS: [f64; 3] = [0.95, 3.0, 30.0];
const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub struct SharesArgs {
    /// Messages in a window
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    limit: u32,
    /// The length of a window, in milliseconds
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u64).range(1000..=60_000))]
    window_ms: u64,
    /// How many windows a user goes on for
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=20))]
    windows: u32,
}

/// of one user on so many nodes
struct Scenario {
    nodes: usize,
    demand: f64,
    tried: u32,
    admitted: Vec<Timestamp>,
    exact: u32,
    trips: u64,
}

pub async fn run(args: &SharesArgs) -> Result<()> {
    let machine = Machine::look();
    println!("## Shares of a limit\n\nLimit {} in {} ms, for {} windows.\n", args.limit, args.window_ms, args.windows);
    println!(
        "| nodes | demand ÷ limit | admitted ÷ exact log | most in a trailing window | trips per 1,000 admitted | trips per 1,000 refused |"
    );
    println!("|---|---|---|---|---|---|");
    for nodes in NODES {
        let within = play(args, nodes, DEMANDS[0]).await?;
        let all = [play(args, nodes, DEMANDS[1]).await?, play(args, nodes, DEMANDS[2]).await?];
        let scenarios = std::iter::once(&within).chain(&all);
        for scenario in scenarios {
            let admitted = scenario.admitted.len();
            let refused = f64::from(scenario.tried) - admitted as f64;
            // What a flood costs beyond what the same admitted messages cost without one.
            let more = scenario.trips as f64 - within.trips as f64 * admitted as f64 / within.admitted.len() as f64;
            let for_refused =
                if refused > 100.0 { format!("{:.1}", more.max(0.0) * 1000.0 / refused) } else { "–".into() };
            println!(
                "| {} | {} | {:.3} | {} | {:.0} | {for_refused} |",
                scenario.nodes,
                scenario.demand,
                admitted as f64 / f64::from(scenario.exact),
                most(&scenario.admitted, args.window_ms),
                scenario.trips as f64 * 1000.0 / admitted as f64,
            );
        }
    }
    println!("\nMeasured on: {}.", machine.sentence());
    Ok(())
}

async fn play(args: &SharesArgs, nodes: usize, demand: f64) -> Result<Scenario> {
    let redis = Redis::start(None).await?;
    let tasks = Tasks::default();
    let quota = Quota::new(args.limit, args.window_ms);
    let trips = Arc::new(AtomicU64::new(0));
    let fleet = try_join_all((0..nodes).map(async |_| holdings(&redis, &tasks, &trips).await)).await?;
    let exact = Arc::new(Mutex::new(Exact::default()));
    let each = Duration::from_secs_f64(args.window_ms as f64 / 1000.0 / f64::from(args.limit) / demand * nodes as f64);
    let end = Instant::now() + Duration::from_millis(args.window_ms) * args.windows;
    let users = fleet.iter().enumerate().map(|(index, node)| {
        let exact = exact.clone();
        // Not in step with each other.
        let first = Instant::now() + each.mul_f64(index as f64 / nodes as f64);
        async move { send(node, quota, exact, first, each, end).await }
    });
    let sent = try_join_all(users).await?;
    let trips = trips.load(Ordering::Relaxed);
    let mut admitted: Vec<_> = sent.iter().flat_map(|(_, admitted)| admitted.iter().copied()).collect();
    admitted.sort_unstable();
    let tried = sent.iter().map(|(tried, _)| tried).sum();
    tasks.stop(Duration::from_secs(2)).await;
    let exact = exact.lock().await.admitted;
    Ok(Scenario { nodes, demand, tried, admitted, exact, trips })
}

async fn holdings(redis: &Redis, tasks: &Tasks, trips: &Arc<AtomicU64>) -> Result<Arc<Holdings>> {
    let options = RedisOptions { timeout: TIMEOUT, ..RedisOptions::default() };
    let state = RedisState::connect(&redis.url(), options, tasks, Arc::new(SystemClock)).await?.state();
    let shares = Arc::new(Counted { shares: state.shares.context("redis has shares")?, trips: trips.clone() });
    let clock = Arc::new(SystemClock);
    let holdings = Arc::new(Holdings::new(state.counters, shares, clock, Identities::new(1000), Arc::default()));
    tasks.spawn("shares of quotas", holdings.clone().settle_lapsed(tasks.stopped()));
    Ok(holdings)
}

/// an even stream of messages at one node; who is late sends what is due
async fn send(
    node: &Holdings,
    quota: Quota,
    exact: Arc<Mutex<Exact>>,
    first: Instant,
    each: Duration,
    end: Instant,
) -> Result<(u32, Vec<Timestamp>)> {
    let (mut tried, mut admitted) = (0, Vec::new());
    let key = CounterKey { subject: Subject::User("alice".into()), limit: LimitName::Messages };
    let mut due = first;
    while due < end {
        tokio::time::sleep_until(due.into()).await;
        while due <= Instant::now() && due < end {
            due += each;
            tried += 1;
            let now = SystemClock.now();
            exact.lock().await.offer(quota, now);
            if let Charge::Granted(_) = node.charge(key.clone(), quota, now).await? {
                admitted.push(SystemClock.now());
            }
        }
    }
    Ok((tried, admitted))
}

/// the log of every admission, against which shares are measured
#[derive(Default)]
struct Exact {
    log: VecDeque<Timestamp>,
    admitted: u32,
}

impl Exact {
    fn offer(&mut self, quota: Quota, now: Timestamp) {
        while self.log.front().is_some_and(|first| now.since(*first) >= quota.window) {
            self.log.pop_front();
        }
        if self.log.len() < quota.limit.get() as usize {
            self.log.push_back(now);
            self.admitted += 1;
        }
    }
}

fn most(admitted: &[Timestamp], window_ms: u64) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in admitted.iter().enumerate() {
        while at.since(admitted[first]) >= Duration::from_millis(window_ms) {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most
}

/// Redis, and how often it was asked
struct Counted {
    shares: Arc<dyn Shares>,
    trips: Arc<AtomicU64>,
}

#[async_trait]
impl Shares for Counted {
    async fn take(
        &self,
        key: &CounterKey,
        quota: Quota,
        share: ShareId,
        life: Duration,
        spent: Option<&Spent>,
        now: Timestamp,
    ) -> Result<(Taken, u32), StateError> {
        self.trips.fetch_add(1, Ordering::Relaxed);
        self.shares.take(key, quota, share, life, spent, now).await
    }

    async fn settle(&self, key: &CounterKey, quota: Quota, spent: &Spent, now: Timestamp) -> Result<u32, StateError> {
        self.trips.fetch_add(1, Ordering::Relaxed);
        self.shares.settle(key, quota, spent, now).await
    }
}
