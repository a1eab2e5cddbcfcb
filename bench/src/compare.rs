//! Every peer in turn, round after round, and what came of it as a table, a file for programs, and a chart.

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

use crate::chart;
use crate::cli::picket_executable;
use crate::figures::Results;
use crate::machine::{self, Machine};
use crate::measure::{self, Effort};
use crate::peers::{Cores, LIMIT_BEYOND, Peer, Stage};
use crate::table;

const FULL: Effort = Effort { millis: 3000, idle: 2000, connections: 2000 };
const QUICK: Effort = Effort { millis: 800, idle: 400, connections: 300 };
/// of this process's children: two for each idle connection, and some
const FILES_MIN: u64 = 5000;

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// How often every peer is measured; tables show medians
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=20))]
    rounds: u8,
    /// One short round, to see that everything works: its figures mean little
    #[arg(long)]
    quick: bool,
    /// Only these peers
    #[arg(long, value_delimiter = ',')]
    only: Vec<Peer>,
    /// All but these peers
    #[arg(long, value_delimiter = ',')]
    skip: Vec<Peer>,
    /// Where compare.md, compare.json and compare.svg are written
    #[arg(long, default_value = "bench/results")]
    out: PathBuf,
    /// The folder of the peers in JavaScript
    #[arg(long, default_value = "bench/peers")]
    peers: PathBuf,
    /// The picket executable [default: beside this one]
    #[arg(long)]
    picket: Option<PathBuf>,
}

pub async fn run(args: &CompareArgs) -> Result<()> {
    let stage = Stage {
        cores: cores()?,
        picket: picket_executable(args.picket.as_ref())?,
        peers: args.peers.canonicalize().with_context(|| format!("no folder {}", args.peers.display()))?,
    };
    let peers = chosen(args);
    refuse_what_is_missing(&peers, &stage)?;
    enough_files()?;
    let machine = Machine::look();
    let (effort, rounds) = if args.quick { (QUICK, 1) } else { (FULL, args.rounds) };
    let start = Instant::now();
    let mut results = Results::default();
    for round in 1..=rounds {
        for peer in &peers {
            eprintln!("{:>4} s  round {round} of {rounds}: {}", start.elapsed().as_secs(), peer.title());
            measure::round(*peer, &stage, effort, &mut results).await?;
        }
    }
    let versions = peers.iter().map(|peer| (peer.title(), peer.version(&stage))).collect::<Vec<_>>();
    let redis = machine::version("redis-server".as_ref(), "--version");
    let redis = redis.split(" sha=").next().unwrap_or_default().replace("Redis server v=", "Redis ");
    let about =
        table::About { machine: &machine, versions: &versions, redis: &redis, rounds, effort, quick: args.quick };
    let report = table::report(&results, &about);
    std::fs::create_dir_all(&args.out)?;
    std::fs::write(args.out.join("compare.md"), &report)?;
    std::fs::write(args.out.join("compare.svg"), chart::draw(&results))?;
    let file = json!({
        "machine": machine, "versions": versions, "redis": redis, "cores": stage.cores, "rounds": rounds, "quick": args.quick,
        "messageLimit": LIMIT_BEYOND, "results": results,
    });
    std::fs::write(args.out.join("compare.json"), format!("{}\n", serde_json::to_string_pretty(&file)?))?;
    print!("{report}");
    Ok(())
}

fn chosen(args: &CompareArgs) -> Vec<Peer> {
    let all = <Peer as clap::ValueEnum>::value_variants().iter().copied();
    all.filter(|peer| (args.only.is_empty() || args.only.contains(peer)) && !args.skip.contains(peer)).collect()
}

/// nothing is left out silently
fn refuse_what_is_missing(peers: &[Peer], stage: &Stage) -> Result<()> {
    let missing = |peer: &Peer| Some(format!("  {}: {}", peer.title(), peer.missing(stage)?));
    let missing: Vec<_> = peers.iter().filter_map(missing).collect();
    if !missing.is_empty() {
        bail!("not everything is installed:\n{}\nbench/run installs it; --skip leaves a peer out", missing.join("\n"));
    }
    if peers.is_empty() {
        bail!("no peer is left to measure");
    }
    Ok(())
}

/// the proxy alone on the first core, everything else on the others
pub fn cores() -> Result<Cores> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    let mut cores = list_of(list.trim()).into_iter();
    let proxy = cores.next().context("no core is known")?;
    let rest: Vec<_> = cores.map(|core| core.to_string()).collect();
    if rest.is_empty() {
        bail!("two cores are needed: one for the proxy, one for the load");
    }
    Ok(Cores { proxy: proxy.to_string(), rest: rest.join(",") })
}

/// `0-3,8`
fn list_of(text: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

fn enough_files() -> Result<()> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_default();
    let soft = line.split_whitespace().next().unwrap_or_default();
    match soft.parse::<u64>() {
        Ok(files) if files < FILES_MIN => bail!("only {files} files may be open: run `ulimit -n 20000` first"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::list_of;

    #[test]
    fn a_list_of_cores_is_read() {
        assert_eq!(list_of("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(list_of("7"), [7]);
        assert_eq!(list_of(""), Vec::<u32>::new());
    }
}
