//! X19, X33: what users notice while refusals make a thousand audit records a second, and the coordinator stores them, stands still, or
//! has a full disk; and how fast it stores what waited.

use anyhow::{Context, Result, bail};
use clap::Args;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::cli::picket_executable;
use crate::client::Door;
use crate::compare::cores;
use crate::ingest::Trail;
use crate::machine::{self, Machine};
use crate::peers::{LIMIT_BEYOND, Peer, Stage, Standing, picket};
use crate::process::Running;
use crate::waits::{self, Waits};

const TICK: Duration = Duration::from_millis(50);
const REFUSED_PER_TICK: u32 = 50;
/// refusals under way at once
const REFUSED_AT_ONCE: usize = 300;
const STORED_WITHIN: Duration = Duration::from_secs(300);

#[derive(Debug, Args)]
pub struct AuditArgs {
    /// How often each way is measured; the table shows medians
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// How many seconds the coordinator stands still at the end
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u16).range(1..=900))]
    away: u16,
    /// The picket executable [default: beside this one]
    #[arg(long)]
    picket: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Stores,
    StandsStill,
    DiskFull,
}

impl Way {
    const ALL: [Way; 3] = [Way::Stores, Way::StandsStill, Way::DiskFull];

    fn title(self) -> &'static str {
        match self {
            Way::Stores => "the coordinator stores",
            Way::StandsStill => "it stands still",
            Way::DiskFull => "its disk is full",
        }
    }

    async fn begin(self, coordinator: &Running) -> Result<()> {
        match self {
            Way::Stores => Ok(()),
            Way::StandsStill => coordinator.signal("STOP").await,
            Way::DiskFull => coordinator.may_write_files_of("0").await,
        }
    }

    async fn end(self, coordinator: &Running) -> Result<()> {
        match self {
            Way::Stores => Ok(()),
            Way::StandsStill => coordinator.signal("CONT").await,
            Way::DiskFull => coordinator.may_write_files_of("unlimited").await,
        }
    }
}

pub async fn run(args: &AuditArgs) -> Result<()> {
    let stage = Stage { cores: cores()?, picket: picket_executable(args.picket.as_ref())?, peers: PathBuf::new() };
    if let Some(missing) = Peer::Picket.missing(&stage) {
        bail!("{missing}");
    }
    let machine = Machine::look();
    // One node for all rounds: two that are started alike differ more than what is looked for.
    let standing = picket::start(&stage, Peer::Picket.dialect(), LIMIT_BEYOND, &[], &[]).await?;
    let coordinator = standing.coordinator.as_ref().context("picket has a coordinator")?;
    let trail = Trail::open(standing.redis.as_ref().context("picket has a redis")?).await?;
    let refused = Arc::new(AtomicU32::new(0));
    let refusals = tokio::spawn(refusals(Door::new(standing.address, "/ws"), refused.clone()));
    let mut waits = vec![Waits::default(); Way::ALL.len()];
    for round in 1..=args.rounds {
        for (way, waits) in Way::ALL.into_iter().zip(&mut waits) {
            eprintln!("round {round} of {}: {}", args.rounds, way.title());
            measure(&stage, &standing, coordinator, way, waits).await?;
            is_stored(&trail).await?;
        }
    }
    let [stores, stands_still, disk_full] = &waits[..] else {
        bail!("three ways were measured");
    };
    print!("{}", waits::head(Way::Stores.title()));
    print!("{}", stands_still.beside(stores, Way::StandsStill.title()));
    print!("{}", disk_full.beside(stores, Way::DiskFull.title()));

    eprintln!("it stands still for {} s", args.away);
    coordinator.signal("STOP").await?;
    let (before, start) = (refused.load(Ordering::Relaxed), Instant::now());
    sleep(Duration::from_secs(args.away.into())).await;
    let arrival = f64::from(refused.load(Ordering::Relaxed) - before) / start.elapsed().as_secs_f64();
    let waiting = trail.lag().await?;
    coordinator.signal("CONT").await?;
    let took = is_stored(&trail).await?.as_secs_f64();
    refusals.abort();
    println!(
        "\nAfter {} s at {arrival:.0} records a second {waiting} waited in Redis; all were stored {took:.1} s later, others meanwhile \
         included: {:.0} a second, {:.0} times as fast as they came.\n\nMeasured on: {}; {}.",
        args.away,
        waiting as f64 / took + arrival,
        waiting as f64 / took / arrival + 1.0,
        machine.sentence(),
        machine::version(&stage.picket, "--version"),
    );
    Ok(())
}

async fn measure(stage: &Stage, standing: &Standing, coordinator: &Running, way: Way, waits: &mut Waits) -> Result<()> {
    way.begin(coordinator).await?;
    let measured = waits.measure(stage, standing).await;
    way.end(coordinator).await?;
    measured
}

/// until hardly anything waits: what comes all the time is on its way
async fn is_stored(trail: &Trail) -> Result<Duration> {
    let start = Instant::now();
    while trail.lag().await? > u64::from(REFUSED_PER_TICK) {
        if start.elapsed() > STORED_WITHIN {
            bail!("{} records were not stored within {STORED_WITHIN:?}", trail.lag().await?);
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(start.elapsed())
}

/// from pages that the policy does not allow, each from another address, until it is aborted
async fn refusals(door: Door, refused: Arc<AtomicU32>) {
    let door = door.header("origin", "https://elsewhere.example.net");
    let (mut under_way, mut ticks) = (JoinSet::new(), interval(TICK));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        while under_way.try_join_next().is_some() {}
        for _ in 0..REFUSED_PER_TICK {
            if under_way.len() < REFUSED_AT_ONCE {
                let number = refused.fetch_add(1, Ordering::Relaxed);
                let address = Ipv4Addr::from_bits(0x0A00_0000 | (number & 0x00FF_FFFF));
                let door = door.clone().forwarded_for(&address.to_string());
                under_way.spawn(async move { door.open().await.is_ok() });
            }
        }
    }
}
