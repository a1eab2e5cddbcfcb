//! The commands, one file each.

mod check_config;
mod role;
mod schema;
mod standalone;
mod token;

use std::path::{Path, PathBuf};

use picket_shared::policy::Environment;
use serde_json::{Value, json};

use crate::cli::{Cli, Command};
use crate::config::{self, Loaded, Request};
use crate::refusal::Refusal;

pub fn run(cli: Cli) -> anyhow::Result<()> {
    let variables = variables()?;
    match cli.command {
        Command::Standalone(args) => standalone::run(args, &variables),
        Command::Node(_) => role::refuse("node"),
        Command::Coordinator(_) => role::refuse("coordinator"),
        Command::CheckConfig(args) => check_config::run(args, &variables),
        Command::Schema => schema::run(),
        Command::Token(args) => token::run(&args, &variables),
    }
}

/// the environment's variables; those that Picket reads must be Unicode
fn variables() -> Result<Vec<(String, String)>, Refusal> {
    let all = std::env::vars_os().map(|(name, value)| match (name.into_string(), value.into_string()) {
        (Ok(name), Ok(value)) => Ok(Some((name, value))),
        (Ok(name), Err(_)) if name.starts_with("PICKET_") => {
            Err(Refusal::Command(format!("environment variable {name}: is not valid Unicode")))
        }
        _ => Ok(None),
    });
    all.filter_map(Result::transpose).collect()
}

/// the configuration as `standalone` has it: in development where neither a file nor a variable says otherwise, and with the
/// state in memory
fn load(file: Option<&Path>, variables: &[(String, String)], data_dir: &Path) -> Result<Loaded, Refusal> {
    let environment = if file.is_some() { Environment::Production } else { Environment::Development };
    config::load(Request { file, variables, environment, overlay: overlay(data_dir) }).map_err(Refusal::Configuration)
}

fn overlay(data_dir: &Path) -> Value {
    let store = data_dir.join("picket.db");
    json!({ "state": { "url": "memory://" }, "coordinator": { "auditStore": format!("sqlite:{}", store.display()) } })
}

/// a folder that no other process has
fn temporary_folder() -> PathBuf {
    std::env::temp_dir().join(format!("picket-{}", picket_shared::random::hex(8)))
}
