//! HAProxy as a plain proxy: one process, one thread, no log.

use anyhow::Result;
use std::net::SocketAddr;
use std::path::Path;
use tempfile::TempDir;

use super::{Stage, Standing, debian};
use crate::machine;
use crate::ports;
use crate::process::{Running, command};

pub fn missing() -> Option<String> {
    debian("haproxy", "haproxy")
}

pub fn version() -> String {
    let said = machine::version(program(), "-v");
    said.replace("version ", "").split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Debian keeps it out of a user's path
pub fn program() -> &'static Path {
    let system = Path::new("/usr/sbin/haproxy");
    if system.is_file() { system } else { Path::new("haproxy") }
}

pub async fn start((application, upstream): (Running, SocketAddr), stage: &Stage) -> Result<Standing> {
    let address = ports::free();
    let directory = TempDir::new()?;
    let file = directory.path().join("haproxy.cfg");
    std::fs::write(&file, config(address, upstream))?;
    let mut command = command(Some(&stage.cores.proxy), program());
    command.arg("-db").arg("-f").arg(&file);
    let mut process = Running::start("haproxy", command)?;
    process.listens(address).await?;
    Ok(Standing {
        process,
        address,
        redis: None,
        coordinator: None,
        _others: vec![application],
        _directories: vec![directory],
    })
}

fn config(address: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "global\n    maxconn 8000\n    nbthread 1\n\
         defaults\n    mode http\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n    timeout tunnel 1h\n\
         frontend gateway\n    bind {address} backlog 4096\n    default_backend application\n\
         backend application\n    server echo {upstream}\n"
    )
}
