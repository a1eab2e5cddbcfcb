//! The state that a cluster shares: a real `redis-server` on a port of its own, which a story may pause, kill, bring back
//! empty, and look into.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::patience::{eventually, within};
use super::picket::signals;
use super::resp::{self, Answer};

pub struct Redis {
    program: PathBuf,
    /// before the usual arguments: a configuration file comes first
    arguments: Vec<String>,
    address: SocketAddr,
    directory: TempDir,
    server: Option<Child>,
}

impl Redis {
    pub async fn start() -> Self {
        let mut redis = Self::away();
        redis.returns().await;
        redis
    }

    /// An address where nobody listens yet.
    pub fn away() -> Self {
        Self::away_as("redis-server".into(), Vec::new())
    }

    fn away_as(program: PathBuf, arguments: Vec<String>) -> Self {
        Self { program, arguments, address: free_address(), directory: TempDir::new().unwrap(), server: None }
    }

    /// With a configuration file, a copy of its own: a server that is promoted rewrites it.
    pub async fn start_with(program: PathBuf, settings: &str, more: Vec<String>) -> Self {
        let mut redis = Self::away_as(program, Vec::new());
        let file = redis.directory.path().join("redis.conf");
        std::fs::write(&file, settings).unwrap();
        redis.arguments = [file.display().to_string()].into_iter().chain(more).collect();
        redis.returns().await;
        redis
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// SIGSTOP: connections stay up, nothing is answered.
    pub fn pauses(&self) {
        signals("STOP", self.server());
    }

    pub fn resumes(&self) {
        signals("CONT", self.server());
    }

    /// SIGKILL; what it knew is gone.
    pub fn dies(&mut self) {
        let mut server = self.server.take().expect("a redis that runs");
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Starts, empty, at the same address.
    pub async fn returns(&mut self) {
        assert!(self.server.is_none(), "redis runs already");
        let server = Command::new(&self.program)
            .args(&self.arguments)
            .args(["--bind", "127.0.0.1", "--port", &self.address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--loglevel", "warning"])
            .arg("--dir")
            .arg(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("the cluster stories need redis-server (`apt-get install redis-server`): {error}")
            });
        self.server = Some(server);
        let ping: &[&[u8]] = &[b"PING"];
        eventually("an answer of redis-server", async || {
            let mut stream = TcpStream::connect(self.address).await.ok()?;
            resp::ask(&mut stream, ping).await.ok()
        })
        .await;
    }

    pub async fn flushes(&self) {
        self.does(&["FLUSHALL"]).await;
    }

    /// What it answers, which may be a failure.
    pub async fn answers(&self, command: &[&[u8]]) -> Answer {
        within("an answer of redis", async {
            let mut stream = TcpStream::connect(self.address).await.expect("a connection to redis");
            resp::ask(&mut stream, command).await.expect("an answer of redis")
        })
        .await
    }

    /// A command that must succeed.
    pub async fn does(&self, command: &[&str]) -> Answer {
        let bytes: Vec<_> = command.iter().map(|argument| argument.as_bytes()).collect();
        match self.answers(&bytes).await {
            Answer::Failure(why) => panic!("{command:?}: {why}"),
            answer => answer,
        }
    }

    pub async fn keys(&self) -> Vec<Vec<u8>> {
        self.does(&["KEYS", "*"]).await.list().into_iter().map(Answer::bytes).collect()
    }

    fn server(&self) -> &Child {
        self.server.as_ref().expect("a redis that runs")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let Some(server) = &mut self.server else { return };
        if server.kill().is_ok() && server.wait().is_err() {
            eprintln!("redis-server {} was not reaped", server.id());
        }
    }
}

/// Below the range from which the system takes ports for clients, so that nobody takes it while redis is away.
pub fn free_address() -> SocketAddr {
    const FIRST: u16 = 15_000;
    const PORTS: u16 = 16_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % u32::from(PORTS)) as u16;
    loop {
        let offset = (start + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS) % PORTS;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + offset));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
