//! The bare proxy: this executable again.

use anyhow::Result;

use super::{Stage, Standing, echo};
use crate::dialect::Dialect;
use crate::ports;
use crate::process::{Running, command};

pub async fn start(stage: &Stage, manner: &[&str]) -> Result<Standing> {
    let (echo, upstream) = echo(stage, Dialect::Json).await?;
    let address = ports::free();
    let mut command = command(Some(&stage.cores.proxy), std::env::current_exe()?);
    command.args(["bare", "--listen", &address.to_string(), "--upstream", &upstream.to_string()]);
    command.args(manner);
    let mut process = Running::start("the bare proxy", command)?;
    process.listens(address).await?;
    Ok(Standing { process, address, redis: None, coordinator: None, _others: vec![echo], _directories: Vec::new() })
}
