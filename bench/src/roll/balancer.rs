//! HAProxy before the nodes, by the configuration that Picket ships: only the addresses are others.

use anyhow::{Result, bail};
use std::fmt::Write;
use std::net::SocketAddr;
use tempfile::TempDir;

use crate::peers::haproxy;
use crate::picket::Picket;
use crate::ports;
use crate::process::{Running, command};

const SHIPPED: &str = include_str!("../../../deploy/haproxy/picket.cfg");

pub struct Balancer {
    pub address: SocketAddr,
    pub process: Running,
    _directory: TempDir,
}

impl Balancer {
    pub async fn before(nodes: &[Picket]) -> Result<Self> {
        if let Some(missing) = haproxy::missing() {
            bail!("{missing}");
        }
        let (address, directory) = (ports::free(), TempDir::new()?);
        let file = directory.path().join("haproxy.cfg");
        std::fs::write(&file, config(address, nodes)?)?;
        let mut command = command(None, haproxy::program());
        command.arg("-db").arg("-f").arg(&file);
        let mut process = Running::start("haproxy", command)?;
        process.listens(address).await?;
        Ok(Balancer { address, process, _directory: directory })
    }
}

fn config(address: SocketAddr, nodes: &[Picket]) -> Result<String> {
    let kept = SHIPPED.lines().filter(|line| !line.trim_start().starts_with("server "));
    let mut config: String = kept.flat_map(|line| [line, "\n"]).collect();
    config = config.replace("bind :80", &format!("bind {address}"));
    for (number, node) in nodes.iter().enumerate() {
        writeln!(config, "    server edge-{number} {} cookie edge-{number} port {}", node.address, node.ops.port())?;
    }
    Ok(config)
}
