//! The commands, one file each.

pub mod api_key;
mod audit;
mod check_config;
mod explain;
mod schema;
mod serve;
mod token;

use std::path::{Path, PathBuf};

use picket_shared::policy::Environment;
use serde_json::{Value, json};

use crate::cli::{Cli, Command};
use crate::config::{self, Loaded, Request};
use crate::refusal::Refusal;
use crate::role::Role;

pub fn run(cli: Cli) -> anyhow::Result<()> {
    let variables = variables()?;
    match cli.command {
        Command::Standalone(args) => serve::run(Role::Standalone, args, &variables),
        Command::Node(args) => serve::run(Role::Node, args, &variables),
        Command::Coordinator(args) => serve::run(Role::Coordinator, args, &variables),
        Command::CheckConfig(args) => check_config::run(args, &variables),
        Command::Schema => schema::run(),
        Command::Audit(command) => audit::run(&command),
        Command::Explain(args) => explain::run(&args, &variables),
        Command::ApiKey(args) => api_key::run(&args),
        Command::Token(args) => token::run(&args, &variables),
    }
}

/// the environment's variables; those that Picket reads must be Unicode
fn variables() -> Result<Vec<(String, String)>, Refusal> {
    let all = std::env::vars_os().map(|(name, value)| match (name.into_string(), value.into_string()) {
        (Ok(name), Ok(value)) => Ok(Some((name, value))),
        (Ok(name), Err(_)) if name.starts_with("PICKET_") || name.starts_with("OTEL_") => {
            Err(Refusal::Command(format!("environment variable {name}: is not valid Unicode")))
        }
        _ => Ok(None),
    });
    all.filter_map(Result::transpose).collect()
}

/// the configuration as a role has it; standalone is in development where neither a file nor a variable says otherwise
fn load(
    role: Role,
    file: Option<&Path>,
    variables: &[(String, String)],
    data_dir: Option<&Path>,
) -> Result<Loaded, Refusal> {
    let environment = match (role, file) {
        (Role::Standalone, None) => Environment::Development,
        _ => Environment::Production,
    };
    let with = |overlay| {
        let request = Request { role, file, variables, environment, overlay };
        config::load(request).map_err(Refusal::Configuration)
    };
    let loaded = with(overlay(role, None))?;
    // The folder is where an embedded store lies; it does not take the place of a server.
    match data_dir {
        Some(folder) if loaded.config.coordinator.audit_store.starts_with("sqlite:") => {
            with(overlay(role, Some(folder)))
        }
        _ => Ok(loaded),
    }
}

/// what a role has instead of some defaults
fn overlay(role: Role, data_dir: Option<&Path>) -> Value {
    let mut overlay = json!({});
    if role == Role::Standalone {
        overlay["state"] = json!({ "url": "memory://" });
    }
    if let Some(store) = data_dir.map(|folder| folder.join("picket.db")) {
        overlay["coordinator"] = json!({ "auditStore": format!("sqlite:{}", store.display()) });
    }
    overlay
}

/// a folder that no other process has
fn temporary_folder() -> PathBuf {
    std::env::temp_dir().join(format!("picket-{}", picket_shared::random::hex(8)))
}
