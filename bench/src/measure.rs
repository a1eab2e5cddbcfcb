//! One peer, one round: every load in turn, with what the proxy and Redis used meanwhile.

use anyhow::{Context, Result};

use crate::cpu;
use crate::figures::{Figure, Results};
use crate::load::{Load, Outcome, Plan, Work};
use crate::peers::{LIMIT_BEYOND, Peer, Stage, Standing};

/// how long and how much
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub millis: u64,
    pub idle: usize,
    pub connections: usize,
}

/// parallel clients that connect and leave
const WORKERS: usize = 8;
const POLLING_CLIENTS: usize = 50;
const PACED_PER_SECOND: usize = 4000;
/// users of the measurement of trips; each stays below the limit by a tenth
const QUOTA_USERS: usize = 50;

/// what was used from the start of a load to its end
pub struct Used {
    pub proxy_nanos: u64,
    redis_nanos: u64,
    scripts: u64,
    resident_bytes: i64,
}

struct Reading {
    proxy_nanos: u64,
    redis_nanos: u64,
    scripts: u64,
    resident_bytes: u64,
}

pub async fn round(peer: Peer, stage: &Stage, effort: Effort, results: &mut Results) -> Result<()> {
    let standing = peer.start(stage, LIMIT_BEYOND).await?;
    let mut bench = Bench { peer, stage, standing: &standing, results };
    if !peer.is_variant() {
        bench.idle(effort.idle).await?;
        bench.connections(effort.connections).await?;
    }
    let messages = [
        (50, 1, [Figure::Fifty, Figure::FiftyRedis, Figure::FiftyRate]),
        (500, 1, [Figure::FiveHundred, Figure::FiveHundredRedis, Figure::FiveHundredRate]),
        (50, 8, [Figure::Burst, Figure::BurstRedis, Figure::BurstRate]),
    ];
    for (connections, pipeline, figures) in messages {
        bench.closed(Work::Closed { connections, pipeline, millis: effort.millis }, figures).await?;
    }
    if !peer.is_variant() {
        bench.paced(effort.millis).await?;
    }
    drop(standing);
    if let Some(standing) = peer.start_for_polling(stage, LIMIT_BEYOND).await? {
        Bench { peer, stage, standing: &standing, results }.polling(effort.millis).await?;
    }
    if peer == Peer::Picket || peer == Peer::NodeProxy {
        quota(peer, stage, 1000, [Figure::TripsThousand, Figure::RedisThousand], results).await?;
        quota(peer, stage, 100, [Figure::TripsHundred, Figure::RedisHundred], results).await?;
    }
    Ok(())
}

/// trips to Redis with a limit that users of flesh and blood have
async fn quota(peer: Peer, stage: &Stage, limit: u32, figures: [Figure; 2], results: &mut Results) -> Result<()> {
    let standing = peer.start(stage, limit).await?;
    let mut bench = Bench { peer, stage, standing: &standing, results };
    let each = usize::try_from(limit)? * 9 / 10;
    let (outcome, used) = bench.load(Work::Quota { connections: QUOTA_USERS, each }).await?;
    bench.tell(figures[0], used.scripts as f64 * 1000.0 / outcome.count as f64);
    bench.tell(figures[1], per_count_micros(used.redis_nanos, &outcome));
    Ok(())
}

struct Bench<'a> {
    peer: Peer,
    stage: &'a Stage,
    standing: &'a Standing,
    results: &'a mut Results,
}

impl Bench<'_> {
    async fn idle(&mut self, connections: usize) -> Result<()> {
        let (outcome, used) = self.load(Work::Idle { connections }).await?;
        self.tell(Figure::IdleKib, used.resident_bytes as f64 / 1024.0 / outcome.count as f64);
        Ok(())
    }

    async fn connections(&mut self, count: usize) -> Result<()> {
        let (outcome, used) = self.load(Work::Connections { count, workers: WORKERS, refused: false }).await?;
        self.tell(Figure::Accepted, per_count_micros(used.proxy_nanos, &outcome));
        if self.peer.checks() {
            let (outcome, used) = self.load(Work::Connections { count, workers: WORKERS, refused: true }).await?;
            self.tell(Figure::Refused, per_count_micros(used.proxy_nanos, &outcome));
        }
        Ok(())
    }

    async fn closed(&mut self, work: Work, [proxy, redis, rate]: [Figure; 3]) -> Result<Outcome> {
        let (outcome, used) = self.load(work).await?;
        self.tell(proxy, per_count_micros(used.proxy_nanos, &outcome));
        self.tell(rate, outcome.count as f64 / outcome.seconds);
        if self.standing.redis.is_some() {
            self.tell(redis, per_count_micros(used.redis_nanos, &outcome));
            if proxy == Figure::Fifty {
                self.tell(Figure::TripsBeyond, used.scripts as f64 * 1000.0 / outcome.count as f64);
            }
        }
        Ok(outcome)
    }

    async fn paced(&mut self, millis: u64) -> Result<()> {
        let (outcome, used) = self.load(Work::Paced { connections: 50, per_second: PACED_PER_SECOND, millis }).await?;
        self.tell(Figure::Paced, per_count_micros(used.proxy_nanos, &outcome));
        self.waits([Figure::PacedP50, Figure::PacedP99], &outcome)
    }

    async fn polling(&mut self, millis: u64) -> Result<()> {
        let work = Work::Polling { clients: POLLING_CLIENTS, millis };
        let outcome = self.closed(work, [Figure::Polled, Figure::PolledRedis, Figure::PolledRate]).await?;
        self.waits([Figure::PolledP50, Figure::PolledP99], &outcome)
    }

    fn waits(&mut self, [p50, p99]: [Figure; 2], outcome: &Outcome) -> Result<()> {
        for (figure, wait) in [(p50, outcome.p50_micros), (p99, outcome.p99_micros)] {
            self.tell(figure, wait.context("no message came back")?);
        }
        Ok(())
    }

    async fn load(&self, work: Work) -> Result<(Outcome, Used)> {
        load(self.peer, self.stage, self.standing, work).await
    }

    fn tell(&mut self, figure: Figure, value: f64) {
        self.results.add(self.peer, figure, value);
    }
}

/// puts one load on a peer, and tells what it saw and what was used meanwhile
pub async fn load(peer: Peer, stage: &Stage, standing: &Standing, work: Work) -> Result<(Outcome, Used)> {
    let plan = Plan { address: standing.address, dialect: peer.dialect(), work };
    let failed = || format!("{}: {work:?}\n{}", peer.title(), standing.process.output());
    let mut load = Load::start(&stage.cores.rest, &plan).with_context(failed)?;
    let before = read(standing).await?;
    let outcome = load.go().with_context(failed)?;
    let after = read(standing).await?;
    let used = Used {
        proxy_nanos: after.proxy_nanos.saturating_sub(before.proxy_nanos),
        redis_nanos: after.redis_nanos.saturating_sub(before.redis_nanos),
        scripts: after.scripts.saturating_sub(before.scripts),
        resident_bytes: after.resident_bytes.cast_signed() - before.resident_bytes.cast_signed(),
    };
    Ok((outcome, used))
}

async fn read(standing: &Standing) -> Result<Reading> {
    let process = standing.process.id();
    let (redis_nanos, scripts) = match &standing.redis {
        Some(redis) => {
            let calls = redis.calls().await?;
            let scripts = ["eval", "evalsha"].iter().filter_map(|name| calls.get(*name)).sum();
            (cpu::used_nanos(redis.id())?, scripts)
        }
        None => (0, 0),
    };
    let resident_bytes = cpu::resident_bytes(process)?;
    Ok(Reading { proxy_nanos: cpu::used_nanos(process)?, redis_nanos, scripts, resident_bytes })
}

pub fn per_count_micros(nanos: u64, outcome: &Outcome) -> f64 {
    nanos as f64 / 1000.0 / outcome.count as f64
}
