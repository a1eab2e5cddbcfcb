//! The command line.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

use crate::audit::{self, AuditArgs};
use crate::bare::{self, BareArgs};
use crate::blocks::{self, BlocksArgs};
use crate::compare::{self, CompareArgs};
use crate::costs::{self, CostsArgs};
use crate::drill::{self, Drill};
use crate::echo::{self, EchoArgs};
use crate::herd::{self, HerdArgs};
use crate::history::{self, HistoryArgs};
use crate::identities::{self, IdentitiesArgs};
use crate::ingest::{self, IngestArgs};
use crate::load::{self, LoadArgs};
use crate::lookup::{self, LookupArgs};
use crate::pages::{self, PagesArgs};
use crate::queries::{self, QueriesArgs};
use crate::roll::{self, RollArgs};
use crate::shares::{self, SharesArgs};
use crate::telemetry::{self, TelemetryArgs};
use crate::upstreams::{self, UpstreamsArgs};

/// Measure Picket beside its peers on loopback, and drill gateways with attacks
#[derive(Debug, Parser)]
#[command(name = "picket-bench", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What users notice of a coordinator that stands still or has a full disk, at a thousand audit records a second
    Audit(AuditArgs),
    /// Time from a block at the API until the last open socket of the address, on three nodes, is closed
    Blocks(BlocksArgs),
    /// Processor time, memory and latency beside bare proxies, a Node proxy and a Socket.IO server
    Compare(CompareArgs),
    /// What floods cost the attacker, and what they cost a node
    Costs(CostsArgs),
    /// Thousands of people on three nodes while Redis and a node fail, and the proof that no limit was broken
    History(HistoryArgs),
    /// Attack a gateway, and see what a well-behaved client notices of it
    #[command(subcommand)]
    Drill(Box<Drill>),
    /// What exporting traces, metrics and logs costs, and that a collector which is away costs nothing
    Telemetry(TelemetryArgs),
    /// What an upstream that is not well costs the users of another
    Upstreams(UpstreamsArgs),
    /// Time until everybody is back after Redis was away, and what that costs Redis
    Herd(HerdArgs),
    /// What a million newcomers leave in Redis, with and without a node's bound
    Identities(IdentitiesArgs),
    /// Audit records per second that one coordinator stores
    Ingest(IngestArgs),
    /// Time and memory of the block list with a million prefixes
    Lookup(LookupArgs),
    /// How long pages of the audit trail take among ten million records, in SQLite or PostgreSQL
    Pages(PagesArgs),
    /// Latency of checks while the management API searches a million audit records
    Queries(QueriesArgs),
    /// Restart three nodes behind HAProxy, one after the other, and see what users notice of it
    #[command(after_help = roll::EXAMPLES)]
    Roll(RollArgs),
    /// What nodes that share a limit admit of it, beside an exact log, and how often they ask Redis
    Shares(SharesArgs),
    #[command(hide = true)]
    Load(LoadArgs),
    #[command(hide = true)]
    Echo(EchoArgs),
    #[command(hide = true)]
    Bare(BareArgs),
}

/// what the process ends with
pub fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Audit(args) => many_threads()?.block_on(audit::run(&args)),
        Command::Blocks(args) => many_threads()?.block_on(blocks::run(&args)),
        Command::Compare(args) => many_threads()?.block_on(compare::run(&args)),
        // One thread, whose processor time is the attackers'.
        Command::Costs(args) => one_thread()?.block_on(costs::run(&args)),
        Command::History(args) => many_threads()?.block_on(history::run(&args)),
        Command::Upstreams(args) => many_threads()?.block_on(upstreams::run(&args)),
        Command::Telemetry(args) => many_threads()?.block_on(telemetry::run(&args)),
        Command::Herd(args) => many_threads()?.block_on(herd::run(&args)),
        Command::Identities(args) => many_threads()?.block_on(identities::run(&args)),
        Command::Ingest(args) => many_threads()?.block_on(ingest::run(&args)),
        Command::Lookup(args) => lookup::run(&args),
        Command::Pages(args) => many_threads()?.block_on(pages::run(&args)),
        Command::Queries(args) => many_threads()?.block_on(queries::run(&args)),
        Command::Roll(args) => return many_threads()?.block_on(roll::command(&args)),
        Command::Shares(args) => many_threads()?.block_on(shares::run(&args)),
        Command::Load(args) => one_thread()?.block_on(load::run(&args)),
        Command::Echo(args) => one_thread()?.block_on(echo::run(&args)),
        // As a proxy that has to use every core would be built; bound to one core it has one worker.
        Command::Bare(args) => many_threads()?.block_on(bare::run(&args)),
        Command::Drill(drill) => return modest_threads()?.block_on(drill::command(&drill)),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn many_threads() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")
}

/// for attackers, who would take nothing from a target's processor, nor from its clients', if they were elsewhere
fn modest_threads() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().on_thread_start(take_what_is_left).build().context("no runtime")
}

/// Lets everybody else go first, by `SCHED_IDLE` of sched(7), which whoever wakes up interrupts at once; the least nice value
/// would let a slice run out. Where it is not allowed, the thread stays as it is.
pub fn take_what_is_left() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle).ok();
}

fn one_thread() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")
}

/// the executable that is measured: the one that was named, or the sibling of this one
pub fn picket_executable(named: Option<&PathBuf>) -> Result<PathBuf> {
    let path = match named {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("picket"),
    };
    path.canonicalize().with_context(|| {
        format!("no picket at {}: build it with `cargo build --release`, or name it with --picket", path.display())
    })
}
