//! Drills: bounded attacks on a gateway, each with a verdict, and with what well-behaved clients saw meanwhile.

mod aim;
mod busy;
mod crowd;
mod flood;
mod origin;
mod payload;
mod practice;
mod progress;
mod ratelimit;
pub mod raw;
mod reconnect;
mod slow;
mod tally;
#[cfg(test)]
mod tests;
pub mod verdict;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

use aim::{Aim, Target};
use busy::Busy;
use crowd::{Crowd, CrowdArgs, Phase};
use practice::{Practice, PracticeArgs};
use tally::Tally;
use verdict::{Check, Findings, Verdict};

const SECONDS: u16 = 10;
/// the longest that a drill attacks
const SECONDS_MAX: u16 = 600;
/// the most attackers at once
const CONNECTIONS_MAX: u32 = 20_000;
/// what a drill may take beyond its time to end its connections
const GRACE: Duration = Duration::from_secs(5);
/// the longest that cores are occupied before the first round trip, in seconds
const KEEP_BUSY_MAX: i64 = 60;
/// files that are open beside the connections
const FILES_BESIDE: u64 = 200;
/// the exit code of a drill that came to no verdict
const NO_VERDICT: u8 = 2;

#[derive(Debug, Subcommand)]
pub enum Drill {
    /// Attackers send events beyond every limit, as fast as they can
    #[command(after_help = flood::EXAMPLES)]
    Flood(flood::FloodArgs),
    /// Handshakes from origins that only look like the one that is allowed
    #[command(after_help = origin::EXAMPLES)]
    Origin(origin::OriginArgs),
    /// Hostile events and broken frames; what is malicious must not come back
    #[command(after_help = payload::EXAMPLES)]
    Payload(payload::PayloadArgs),
    /// Slowloris, half a handshake, frames in drops, readers that never read
    #[command(after_help = slow::EXAMPLES)]
    Slow(slow::SlowArgs),
    /// Connections that come and go, then everybody at once
    #[command(after_help = reconnect::EXAMPLES)]
    Reconnect(reconnect::ReconnectArgs),
    /// Senders who know when a window begins; no trailing window may hold more than the limit
    #[command(after_help = ratelimit::EXAMPLES)]
    Ratelimit(ratelimit::RatelimitArgs),
}

/// what all drills have in common
#[derive(Debug, Args)]
pub struct Common {
    #[command(flatten)]
    aim: Aim,
    #[command(flatten)]
    crowd: CrowdArgs,
    #[command(flatten)]
    practice: PracticeArgs,
    /// How long the attack lasts, at most 600 [default: 10, or longer where the drill has to wait]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(SECONDS_MAX)))]
    seconds: Option<u16>,
    /// Attackers at once [default: by drill]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(CONNECTIONS_MAX)))]
    connections: Option<u32>,
    /// Occupy every core of this machine, at the least priority, from so many seconds before the first round trip to the end:
    /// where attackers share the target's machine, its cores are then as busy before the attack as during it
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u8).range(1..=KEEP_BUSY_MAX))]
    keep_busy: Option<u8>,
    /// The verdict as JSON
    #[arg(long)]
    json: bool,
}

/// what a drill works with
pub struct Attack<'a> {
    target: &'a Arc<Target>,
    tally: &'a Arc<Tally>,
    connections: usize,
    ends: Instant,
}

/// prints the verdict; the exit code is the verdict too
pub async fn command(drill: &Drill) -> Result<ExitCode> {
    match run(drill).await {
        Ok(verdict) => {
            let json = drill.common().json;
            println!("{}", if json { serde_json::to_string_pretty(&verdict)? } else { verdict.table() });
            Ok(if verdict.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => {
            eprintln!("picket-bench drill {}: {error:#}", drill.name());
            Ok(ExitCode::from(NO_VERDICT))
        }
    }
}

pub async fn run(drill: &Drill) -> Result<Verdict> {
    let common = drill.common();
    let practice = match common.practice.wanted() {
        true => Some(Practice::start(&common.practice, common.aim.protocol).await?),
        false => None,
    };
    let target = Arc::new(match &practice {
        Some(practice) => common.aim.at_practice(practice.address)?,
        None => common.aim.resolve().await?,
    });
    let connections = common.connections.map_or(drill.connections(), |connections| connections as usize);
    enough_files(connections)?;
    let _busy = match common.keep_busy {
        Some(seconds) => {
            let busy = Busy::begin()?;
            tokio::time::sleep(Duration::from_secs(seconds.into())).await;
            Some(busy)
        }
        None => None,
    };
    let crowd = Crowd::gather(&target, &common.crowd, drill.seconds())?;
    let tally = Arc::new(Tally::default());
    progress::follow("before the drill", &tally, crowd.spend(Phase::Before)).await?;
    crowd.is_welcome()?;
    crowd.enter(Phase::During);
    let seconds = Duration::from_secs(drill.seconds().into());
    let attack = Attack { target: &target, tally: &tally, connections, ends: Instant::now() + seconds };
    let work = timeout(seconds + GRACE, drill.attack(&attack));
    let findings = progress::follow(drill.name(), &tally, work).await?.context("the drill did not end in time")??;
    progress::follow("after the drill", &tally, crowd.spend(Phase::After)).await?;
    let seen = crowd.leave();
    let Findings { mut checks, figures } = findings;
    checks.extend(seen.checks(drill.p99_ratio()));
    Ok(Verdict::new(drill.name(), &target.url, drill.seconds(), checks, figures, seen))
}

impl Drill {
    fn name(&self) -> &'static str {
        match self {
            Drill::Flood(_) => "flood",
            Drill::Origin(_) => "origin",
            Drill::Payload(_) => "payload",
            Drill::Slow(_) => "slow",
            Drill::Reconnect(_) => "reconnect",
            Drill::Ratelimit(_) => "ratelimit",
        }
    }

    fn common(&self) -> &Common {
        match self {
            Drill::Flood(args) => &args.common,
            Drill::Origin(args) => &args.common,
            Drill::Payload(args) => &args.common,
            Drill::Slow(args) => &args.common,
            Drill::Reconnect(args) => &args.common,
            Drill::Ratelimit(args) => &args.common,
        }
    }

    fn seconds(&self) -> u16 {
        let said = self.common().seconds;
        let seconds = match self {
            Drill::Slow(args) => said.unwrap_or(SECONDS).max(args.seconds_min()),
            Drill::Ratelimit(args) => said.unwrap_or(args.seconds()),
            Drill::Flood(_) | Drill::Origin(_) | Drill::Payload(_) | Drill::Reconnect(_) => said.unwrap_or(SECONDS),
        };
        seconds.min(SECONDS_MAX)
    }

    /// attackers where nobody said how many
    fn connections(&self) -> usize {
        match self {
            Drill::Flood(_) | Drill::Reconnect(_) => 50,
            Drill::Slow(_) => 500,
            Drill::Origin(_) | Drill::Payload(_) => 4,
            Drill::Ratelimit(_) => 2,
        }
    }

    /// how much worse the p99 of the well-behaved may become, where the drill is about that
    fn p99_ratio(&self) -> Option<f64> {
        match self {
            Drill::Flood(args) => Some(args.p99_ratio),
            Drill::Slow(args) => Some(args.p99_ratio),
            Drill::Origin(_) | Drill::Payload(_) | Drill::Reconnect(_) | Drill::Ratelimit(_) => None,
        }
    }

    async fn attack(&self, attack: &Attack<'_>) -> Result<Findings> {
        match self {
            Drill::Flood(_) => flood::attack(attack).await,
            Drill::Origin(args) => origin::attack(args, attack).await,
            Drill::Payload(args) => payload::attack(args, attack).await,
            Drill::Slow(args) => slow::attack(args, attack).await,
            Drill::Reconnect(args) => reconnect::attack(args, attack).await,
            Drill::Ratelimit(args) => ratelimit::attack(args, attack).await,
        }
    }
}

/// raises the soft limit of open files, for this process alone
fn enough_files(connections: usize) -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let needed = connections as u64 + FILES_BESIDE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        bail!("{connections} connections need {needed} open files, and the hard limit is {:?}", limit.maximum);
    }
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: Some(needed), ..limit })
        .context("the limit of open files cannot be raised")
}
