//! The peers: what each is, whether it is installed, and how it starts, as a proxy before the echo or as a server of its own.

mod bare;
pub mod haproxy;
mod nginx;
mod node;
pub mod picket;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use tempfile::TempDir;

use crate::dialect::Dialect;
use crate::process::Running;
use crate::redis::Redis;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    Bare,
    BareEager,
    BareBusy,
    Nginx,
    Haproxy,
    Picket,
    PicketTwoCores,
    NodeProxy,
    PicketSocketio,
    SocketioChecked,
    SocketioUnchecked,
}

/// which processor cores are whose
#[derive(Clone, Debug, Serialize)]
pub struct Cores {
    pub proxy: String,
    /// load, echo, Redis, coordinator
    pub rest: String,
}

/// what peers are started with
pub struct Stage {
    pub cores: Cores,
    pub picket: PathBuf,
    /// `bench/peers`
    pub peers: PathBuf,
}

impl Stage {
    /// the proxy may use the cores of the rest, too
    fn on_all_cores(&self) -> Stage {
        let cores = Cores { proxy: format!("{},{}", self.cores.proxy, self.cores.rest), rest: self.cores.rest.clone() };
        Stage { cores, picket: self.picket.clone(), peers: self.peers.clone() }
    }
}

/// a peer that runs, and everything around it; all of it ends when this is dropped
pub struct Standing {
    /// the process that is measured
    pub process: Running,
    pub address: SocketAddr,
    pub redis: Option<Redis>,
    pub coordinator: Option<Running>,
    /// other processes beside it, and their files
    _others: Vec<Running>,
    _directories: Vec<TempDir>,
}

/// messages per minute that a user may send: beyond every load, or what a trip to Redis is measured with
pub const LIMIT_BEYOND: u32 = 1_000_000;

impl Peer {
    pub fn title(self) -> &'static str {
        match self {
            Peer::Bare => "bare tokio-tungstenite proxy (no checks)",
            Peer::BareEager => "the same, flushing each message",
            Peer::BareBusy => "the same with 1 µs of work per message",
            Peer::Nginx => "nginx (no checks)",
            Peer::Haproxy => "HAProxy (no checks)",
            Peer::Picket => "Picket, JSON route, all checks",
            Peer::PicketTwoCores => "the same on two cores, which the load shares",
            Peer::NodeProxy => "Node ws proxy, same checks",
            Peer::PicketSocketio => "Picket, Socket.IO route, all checks",
            Peer::SocketioChecked => "Socket.IO server, same checks in-process",
            Peer::SocketioUnchecked => "Socket.IO server, no checks",
        }
    }

    pub fn dialect(self) -> Dialect {
        match self {
            Peer::Bare
            | Peer::BareEager
            | Peer::BareBusy
            | Peer::Nginx
            | Peer::Haproxy
            | Peer::Picket
            | Peer::PicketTwoCores
            | Peer::NodeProxy => Dialect::Json,
            Peer::PicketSocketio | Peer::SocketioChecked | Peer::SocketioUnchecked => Dialect::Socketio,
        }
    }

    /// whether it decides anything, and so can refuse a connection
    pub fn checks(self) -> bool {
        match self {
            Peer::Picket | Peer::PicketTwoCores | Peer::NodeProxy | Peer::PicketSocketio | Peer::SocketioChecked => {
                true
            }
            Peer::Bare | Peer::BareEager | Peer::BareBusy | Peer::Nginx | Peer::Haproxy | Peer::SocketioUnchecked => {
                false
            }
        }
    }

    /// whether it is there for what it says about messages, and is another peer in all else
    pub fn is_variant(self) -> bool {
        matches!(self, Peer::BareEager | Peer::BareBusy | Peer::PicketTwoCores)
    }

    /// what has to be installed first, and how
    pub fn missing(self, stage: &Stage) -> Option<String> {
        match self {
            Peer::Bare | Peer::BareEager | Peer::BareBusy => None,
            Peer::Nginx => nginx::missing().or_else(|| node::missing(stage)),
            Peer::Haproxy => haproxy::missing().or_else(|| node::missing(stage)),
            Peer::Picket | Peer::PicketTwoCores | Peer::PicketSocketio => picket::missing(),
            Peer::NodeProxy | Peer::SocketioChecked | Peer::SocketioUnchecked => node::missing(stage),
        }
    }

    pub fn version(self, stage: &Stage) -> String {
        match self {
            Peer::Bare | Peer::BareEager | Peer::BareBusy => "tokio-tungstenite 0.30".to_owned(),
            Peer::Nginx => nginx::version(),
            Peer::Haproxy => haproxy::version(),
            Peer::Picket | Peer::PicketTwoCores | Peer::PicketSocketio => {
                crate::machine::version(&stage.picket, "--version")
            }
            Peer::NodeProxy | Peer::SocketioChecked | Peer::SocketioUnchecked => node::version(self),
        }
    }

    pub async fn start(self, stage: &Stage, limit: u32) -> Result<Standing> {
        match self {
            Peer::Bare => bare::start(stage, &[]).await,
            Peer::BareEager => bare::start(stage, &["--flush-each"]).await,
            Peer::BareBusy => bare::start(stage, &["--work-nanos", "1000"]).await,
            Peer::Nginx => nginx::start(echo(stage, self.dialect()).await?, stage).await,
            Peer::Haproxy => haproxy::start(echo(stage, self.dialect()).await?, stage).await,
            Peer::Picket | Peer::PicketSocketio => picket::start(stage, self.dialect(), limit, &[], &[]).await,
            Peer::PicketTwoCores => picket::start(&stage.on_all_cores(), self.dialect(), limit, &[], &[]).await,
            Peer::NodeProxy | Peer::SocketioChecked | Peer::SocketioUnchecked => node::start(self, stage, limit).await,
        }
    }

    /// where clients of Socket.IO may poll: proxies of any HTTP stand before a server that answers polls; nothing for peers that
    /// know WebSockets only
    pub async fn start_for_polling(self, stage: &Stage, limit: u32) -> Result<Option<Standing>> {
        let standing = match self {
            Peer::Nginx => nginx::start(node::application(stage).await?, stage).await,
            Peer::Haproxy => haproxy::start(node::application(stage).await?, stage).await,
            Peer::PicketSocketio | Peer::SocketioChecked | Peer::SocketioUnchecked => self.start(stage, limit).await,
            Peer::Bare | Peer::BareEager | Peer::BareBusy | Peer::Picket | Peer::PicketTwoCores | Peer::NodeProxy => {
                return Ok(None);
            }
        };
        standing.map(Some)
    }
}

/// the echo server, in a process of its own
async fn echo(stage: &Stage, dialect: Dialect) -> Result<(Running, SocketAddr)> {
    crate::echo::process(Some(&stage.cores.rest), dialect).await
}

fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
        std::env::split_paths(&path).chain(system).any(|folder| folder.join(program).is_file())
    })
}

fn debian(program: &str, package: &str) -> Option<String> {
    (!is_installed(program)).then(|| format!("{program} is missing: apt-get install {package}"))
}
