//! A redis-server of the test's own: on a free port, in a temporary folder, ended with the test.

use fred::error::Error;
use fred::interfaces::ClientLike;
use fred::types::config::Config;
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::clock::SystemClock;
use crate::state::State;
use crate::state::redis::{ClockSource, RedisOptions, RedisState};
use crate::tasks::Tasks;

/// how long anything may take that a test waits for
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Server {
    process: Child,
    program: OsString,
    port: u16,
    folder: tempfile::TempDir,
    /// of all processes that the test plays
    tasks: Tasks,
}

impl Server {
    pub(super) async fn start() -> Self {
        Server::start_with(&[]).await
    }

    async fn start_with(more: &[&str]) -> Self {
        Server::start_in(tempfile::tempdir().unwrap(), more).await
    }

    async fn start_in(folder: tempfile::TempDir, more: &[&str]) -> Self {
        Server::start_program("redis-server".into(), folder, more).await
    }

    pub(super) async fn start_valkey() -> Self {
        Server::start_program(valkey(), tempfile::tempdir().unwrap(), &[]).await
    }

    /// with the users and permissions of `deploy/redis-acl.conf`, and a default user for the test
    pub(super) async fn start_with_permissions() -> Self {
        Server::start_with(&[concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/redis-acl.conf")]).await
    }

    async fn start_program(program: OsString, folder: tempfile::TempDir, more: &[&str]) -> Self {
        let port = free_port();
        let process = run(&program, port, folder.path(), more);
        let server = Server { process, program, port, folder, tasks: Tasks::default() };
        server.answers().await;
        server
    }

    /// a member of a cluster, with the port of its bus
    pub(super) async fn start_member() -> (Self, String) {
        let bus = free_port().to_string();
        let cluster = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-announce-ip", "127.0.0.1"];
        (Server::start_with(&cluster).await, bus)
    }

    /// a cluster of one, which still refuses scripts over two slots
    pub(super) async fn start_cluster() -> Self {
        let (server, _) = Server::start_member().await;
        server.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
        let is_ok =
            async || server.command(&["CLUSTER", "INFO"]).await.as_string().unwrap().contains("cluster_state:ok");
        eventually("the cluster is ok", is_ok).await;
        server
    }

    pub(super) async fn start_replica(&self) -> Self {
        let replica = Server::start_with(&[
            "--replicaof",
            &format!("127.0.0.1 {}", self.port),
            "--repl-diskless-sync-delay",
            "0",
        ])
        .await;
        let in_sync = async || {
            replica.command(&["INFO", "replication"]).await.as_string().unwrap().contains("master_link_status:up")
        };
        eventually("the replica is in sync", in_sync).await;
        replica
    }

    /// watches this server as `main`, and promotes its replica
    pub(super) async fn start_sentinel(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sentinel.conf");
        let settings = format!(
            "sentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 6000\n",
            self.port
        );
        std::fs::write(&file, settings).unwrap();
        let sentinel = Server::start_in(folder, &[&file.display().to_string(), "--sentinel"]).await;
        let knows = async || {
            sentinel.command(&["INFO", "sentinel"]).await.as_string().unwrap().contains("status=ok,address=127.0.0.1")
        };
        eventually("the sentinel knows the master", knows).await;
        let replicas = async || sentinel.command(&["INFO", "sentinel"]).await.as_string().unwrap().contains("slaves=1");
        eventually("the sentinel knows the replica", replicas).await;
        sentinel
    }

    /// a process that uses Redis as in production
    pub(super) async fn process(&self) -> RedisState {
        self.process_with(RedisOptions::default()).await
    }

    pub(super) async fn process_with(&self, options: RedisOptions) -> RedisState {
        self.process_at(&self.url(), options).await
    }

    pub(super) async fn process_at(&self, url: &str, options: RedisOptions) -> RedisState {
        RedisState::connect(url, options, &self.tasks, Arc::new(SystemClock)).await.unwrap()
    }

    /// a process that can be stopped by itself
    pub(super) async fn process_of_its_own(&self) -> (RedisState, Tasks) {
        let tasks = Tasks::default();
        let process =
            RedisState::connect(&self.url(), RedisOptions::default(), &tasks, Arc::new(SystemClock)).await.unwrap();
        (process, tasks)
    }

    /// a state whose clock is the caller's, with a block list that is whole
    pub(super) async fn state_by_caller(&self) -> State {
        let options = RedisOptions { clock_source: ClockSource::Caller, timeout: PATIENCE, ..RedisOptions::default() };
        Server::with_whole_list(self.process_with(options).await).await
    }

    pub(super) async fn with_whole_list(process: RedisState) -> State {
        let state = process.state();
        state.blocks.seed(Vec::new()).await.unwrap();
        state
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn url_of(&self, user: &str, password: &str) -> String {
        format!("redis://{user}:{password}@{}", self.address())
    }

    pub(super) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// a command beside Picket
    pub(super) async fn command(&self, words: &[&str]) -> Value {
        self.command_at(&self.url(), words).await.unwrap()
    }

    /// a command that may be refused, as another user perhaps
    pub(super) async fn command_at(&self, url: &str, words: &[&str]) -> Result<Value, Error> {
        let client = Builder::from_config(Config::from_url(url).unwrap()).build().unwrap();
        client.init().await.unwrap();
        let command = CustomCommand::new(words[0].to_owned(), ClusterHash::Random, false);
        let arguments: Vec<Value> = words[1..].iter().map(|word| (*word).into()).collect();
        let answer = client.custom(command, arguments).await;
        client.quit().await.unwrap();
        answer
    }

    pub(super) async fn keys(&self) -> Vec<String> {
        let keys = self.command(&["KEYS", "*"]).await.into_array();
        keys.into_iter().map(|key| String::from_utf8_lossy(key.as_bytes().unwrap()).into_owned()).collect()
    }

    /// stops it in the middle of whatever it does; connections stay open
    pub(super) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(super) fn resume(&self) {
        self.signal("-CONT");
    }

    pub(super) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// starts it again after [`Server::kill`], empty
    pub(super) async fn start_again(&mut self) {
        self.process = run(&self.program, self.port, self.folder.path(), &[]);
        self.answers().await;
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill {signal}");
    }

    async fn answers(&self) {
        eventually("redis-server answers", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok()
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.process.kill().and_then(|()| self.process.wait());
        assert!(ended.is_ok() || std::thread::panicking(), "redis-server did not end: {ended:?}");
    }
}

/// below the range from which the system takes ports for clients, so that nobody takes it while redis is away
fn free_port() -> u16 {
    const FIRST: u16 = 15_000;
    const PORTS: u16 = 16_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % u32::from(PORTS)) as u16;
    loop {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// where `tests/run` says that it is, or where it puts it
fn valkey() -> OsString {
    let known = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.venv-valkey/bin/valkey-server"));
    let program = std::env::var_os("PICKET_VALKEY_SERVER").map_or_else(known, PathBuf::from);
    assert!(program.is_file(), "no valkey-server at {}: `tests/run valkey` installs it", program.display());
    program.into()
}

fn run(program: &OsString, port: u16, folder: &Path, more: &[&str]) -> Child {
    Command::new(program)
        .args(more)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("these tests need redis-server (Debian: apt-get install redis-server)")
}

/// waits until `condition` holds, and fails when it does not in good time; answers how long it took
pub(super) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) -> Duration {
    let start = tokio::time::Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    start.elapsed()
}
