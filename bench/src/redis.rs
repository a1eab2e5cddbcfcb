//! A `redis-server` of this program's own: in memory, on a port of its own, with nothing kept.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::ports;
use crate::process::{Running, command};

const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

pub struct Redis {
    address: SocketAddr,
    server: Running,
    cores: Option<String>,
    directory: TempDir,
}

/// what `INFO keyspace` tells
#[derive(Clone, Copy, Debug, Default)]
pub struct Keys {
    pub keys: u64,
    /// of them those that end by themselves
    pub ending: u64,
    pub mean_life_ms: u64,
}

impl Redis {
    pub async fn start(cores: Option<&str>) -> Result<Self> {
        let (address, directory) = (ports::free(), TempDir::new()?);
        let server = serve(address, cores, directory.path()).await?;
        Ok(Redis { address, server, cores: cores.map(str::to_owned), directory })
    }

    /// connections stay, and nothing is answered
    pub async fn pause(&self) -> Result<()> {
        self.server.signal("STOP").await
    }

    pub async fn resume(&self) -> Result<()> {
        self.server.signal("CONT").await
    }

    pub fn kill(&mut self) -> Result<()> {
        self.server.kill()
    }

    /// after it was killed: empty, at the same address
    pub async fn restart(&mut self) -> Result<()> {
        self.server = serve(self.address, self.cores.as_deref(), self.directory.path()).await?;
        Ok(())
    }

    pub async fn keys(&self) -> Result<Keys> {
        Ok(keys(&self.patient_info("keyspace").await?))
    }

    /// one number of `INFO`
    pub async fn number(&self, section: &str, name: &str) -> Result<u64> {
        let info = self.patient_info(section).await?;
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok());
        value.with_context(|| format!("redis tells no {name}"))
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// how often each command was called, since the start
    pub async fn calls(&self) -> Result<BTreeMap<String, u64>> {
        Ok(calls(&self.patient_info("commandstats").await?))
    }

    async fn patient_info(&self, section: &str) -> Result<String> {
        timeout(ANSWERS_WITHIN, self.info(section)).await.context("redis does not answer")?
    }

    async fn info(&self, section: &str) -> Result<String> {
        let mut stream = BufReader::new(TcpStream::connect(self.address).await?);
        stream.write_all(format!("INFO {section}\r\n").as_bytes()).await?;
        let mut length = String::new();
        stream.read_line(&mut length).await?;
        let Some(length) = length.trim_end().strip_prefix('$').and_then(|length| length.parse().ok()) else {
            bail!("redis answered INFO with {length:?}");
        };
        let mut text = vec![0; length];
        stream.read_exact(&mut text).await?;
        Ok(String::from_utf8(text)?)
    }
}

async fn serve(address: SocketAddr, cores: Option<&str>, directory: &Path) -> Result<Running> {
    let mut command = command(cores, "redis-server");
    command
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "no", "--loglevel", "warning"])
        .arg("--dir")
        .arg(directory);
    let mut server = Running::start("redis-server", command)?;
    server.listens(address).await?;
    Ok(server)
}

/// `db0:keys=3,expires=1,avg_ttl=1000`
fn keys(info: &str) -> Keys {
    let line = info.lines().find_map(|line| line.strip_prefix("db0:")).unwrap_or_default();
    let field =
        |name: &str| line.trim().split(',').find_map(|field| field.strip_prefix(name)?.parse().ok()).unwrap_or(0);
    Keys { keys: field("keys="), ending: field("expires="), mean_life_ms: field("avg_ttl=") }
}

/// `cmdstat_evalsha:calls=12,usec=…`
fn calls(info: &str) -> BTreeMap<String, u64> {
    let of_line = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    info.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::calls;

    #[test]
    fn calls_are_read_by_command() {
        let info = "# Commandstats\r\ncmdstat_evalsha:calls=12,usec=90,usec_per_call=7.5\r\n\
                    cmdstat_config|get:calls=1,usec=9\r\nother:1\r\n";
        let calls = calls(info);
        assert_eq!((calls["evalsha"], calls["config|get"], calls.len()), (12, 1, 2));
    }
}
