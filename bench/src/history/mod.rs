//! A history of real processes, and the proof that no limit was ever broken in it.
//!
//! `picket-bench history` starts Redis, an upstream, a coordinator and three nodes, lets thousands of people in who behave as people
//! and attackers do, pauses and kills Redis and a node meanwhile, and writes down what clients, upstream, nodes and faults did, and
//! when. `picket-bench history check DIR` reads that, and nothing else.

mod check;
mod client;
mod cluster;
mod dice;
mod people;
mod plan;
mod record;
mod upstream;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::cli::picket_executable;
use crate::machine::{self, Machine};
use client::Stage;
use cluster::{Cluster, look_after};
use people::Life;
use plan::{Limits, NODES, Person, Phase, Plan, WINDOWS_PER_PHASE};
use record::{CLIENTS, FAULTS, Log, NODES as NODES_FILE, PLAN, UPSTREAM, Watch};

/// heartbeats tell the nodes how many they are
const KNOW_EACH_OTHER: Duration = Duration::from_secs(3);
/// after the last message, for answers that are on their way
const LINGER: Duration = Duration::from_secs(2);
/// who is not done by then hangs
const LEAVES_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct HistoryArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// How many people take part
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(10..=20_000))]
    subjects: u32,
    /// How long a phase lasts, in seconds: six of the longest windows
    #[arg(long, default_value_t = 36, value_parser = clap::value_parser!(u64).range(6..=3600))]
    seconds: u64,
    /// What happens, one after the other
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["calm", "paused", "killed", "node"])]
    phases: Vec<Phase>,
    /// Repeats who takes part and how; what the machine makes of it differs [default: a random one, which is printed]
    #[arg(long)]
    seed: Option<u64>,
    /// How long a node waits for Redis, in ms; a machine that is busy with other things needs more to be calm
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    timeout: u64,
    /// Keep the records in this directory
    #[arg(long)]
    keep: Option<PathBuf>,
    /// The picket executable [default: beside this one]
    #[arg(long)]
    picket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check records that were kept
    Check { directory: PathBuf },
}

pub async fn run(args: &HistoryArgs) -> Result<()> {
    if let Some(Action::Check { directory }) = &args.action {
        return judged(directory);
    }
    let executable = picket_executable(args.picket.as_ref())?;
    let machine = Machine::look();
    let temporary = TempDir::new()?;
    let directory = args.keep.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let seed = args.seed.unwrap_or_else(random_seed);
    eprintln!("seed {seed}: {} people, phases {:?} of {} s each", args.subjects, args.phases, args.seconds);
    record(args, &executable, directory, seed).await?;
    println!(
        "Measured on: {}; {}; {}.\n",
        machine.sentence(),
        machine::version(&executable, "--version"),
        machine::version("redis-server".as_ref(), "--version").split(" sha=").next().unwrap_or_default(),
    );
    judged(directory)
}

/// prints the verdict; a violation is an error
fn judged(directory: &Path) -> Result<()> {
    let verdict = check::check(directory)?;
    print!("{}", verdict.report());
    match verdict.violations().count() {
        0 => Ok(()),
        violations => bail!("{violations} times more was let through than was promised"),
    }
}

fn random_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ u64::from(std::process::id()) << 20
}

async fn record(args: &HistoryArgs, executable: &Path, directory: &Path, seed: u64) -> Result<()> {
    let longest = Duration::from_secs(args.seconds) / u32::try_from(WINDOWS_PER_PHASE)?;
    let limits = Limits::new(longest, args.subjects);
    let [clients, arrivals, faults, nodes] =
        [CLIENTS, UPSTREAM, FAULTS, NODES_FILE].map(|name| Log::create(directory, name));
    let (clients, arrivals, faults, nodes) = (clients?, arrivals?, faults?, nodes?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let upstream = listener.local_addr()?;
    let watch = Watch::start();
    write_plan(
        directory,
        &Plan { seed, people: args.subjects, nodes: NODES, started_ms: wall_ms(), limits: limits.clone() },
    )?;
    let mut background = JoinSet::new();
    background.spawn(upstream::serve(listener, arrivals.clone(), watch));
    let mut cluster =
        Cluster::start(executable.to_owned(), upstream, &limits, Duration::from_millis(args.timeout)).await?;
    let gateways = cluster.gateways.clone();
    let looks = nodes.clone();
    background.spawn(async move {
        if let Err(error) = look_after(gateways, looks, watch).await {
            eprintln!("nobody looks after the nodes: {error:#}");
        }
    });
    sleep(KNOW_EACH_OTHER).await;

    let stage = Arc::new(Stage::new(cluster.gateways.clone(), clients.clone(), watch));
    let phases = u32::try_from(args.phases.len())?;
    let until = Instant::now() + Duration::from_secs(args.seconds) * phases;
    let mut people = JoinSet::new();
    for number in 0..args.subjects {
        let life = Life::new(Person::new(number, seed), stage.clone(), limits.clone(), seed, until);
        people.spawn(life.live());
    }
    for phase in &args.phases {
        cluster.goes_through(*phase, &faults, watch).await?;
        cluster.still_runs()?;
        eprintln!("{phase:?} is over; {} messages so far", stage.messages());
    }
    let all_left = async {
        while let Some(life) = people.join_next().await {
            life??;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LEAVES_WITHIN, all_left).await.context("somebody did not leave")??;
    sleep(LINGER).await;
    background.shutdown().await;
    for log in [clients, arrivals, faults, nodes] {
        log.finish()?;
    }
    Ok(())
}

fn wall_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or_default()
}

fn write_plan(directory: &Path, plan: &Plan) -> Result<()> {
    let path = directory.join(PLAN);
    std::fs::write(&path, serde_json::to_string_pretty(plan)?).with_context(|| path.display().to_string())
}
