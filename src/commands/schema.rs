//! `picket schema`: the JSON Schema of the configuration file, for editors and checks.

use crate::config::Config;
use crate::terminal;

pub fn run() -> anyhow::Result<()> {
    let schema = serde_json::to_string_pretty(&schemars::schema_for!(Config))?;
    Ok(terminal::say(&format!("{schema}\n"))?)
}
