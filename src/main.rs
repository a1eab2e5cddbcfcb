//! The one program: reads the command line, runs the command, and answers with its exit code.

mod cli;
mod commands;
mod config;
mod demo;
mod refusal;
mod role;
mod terminal;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(help) => return refusal::of_the_command_line(&help),
    };
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refusal::answer(&error),
    }
}
