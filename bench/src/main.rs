//! Measures Picket beside its peers on loopback, and drills gateways with attacks. It starts every process that it needs, and ends
//! only those.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to the terminal")]
#![expect(clippy::disallowed_methods, reason = "a stopwatch reads the clock; tasks end with their runtime")]

mod audit;
mod bare;
mod blocks;
mod chart;
mod cli;
mod client;
mod compare;
mod costs;
mod cpu;
mod dialect;
mod drill;
mod echo;
mod figures;
mod herd;
mod history;
mod http;
mod identities;
mod ingest;
mod load;
mod lookup;
mod machine;
mod measure;
mod numbers;
mod pages;
mod peers;
mod picket;
mod ports;
mod process;
mod queries;
mod redis;
mod roll;
mod shares;
mod stats;
mod table;
mod telemetry;
mod token;
mod upstreams;
mod waits;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("picket-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
