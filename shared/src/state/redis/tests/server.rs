//! A redis-server of the test's own: on a free port, in a temporary folder, ended with the test.

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::Config;
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::SystemClock;
use crate::state::State;
use crate::state::redis::{ClockSource, RedisOptions, RedisState};
use crate::tasks::Tasks;

/// how long anything may take that a test waits for
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Server {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
    /// of all processes that the test plays
    tasks: Tasks,
}

impl Server {
    pub(super) async fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let process = run(port, folder.path());
        let server = Server { process, port, folder, tasks: Tasks::default() };
        server.answers().await;
        server
    }

    /// a process that uses Redis as in production
    pub(super) async fn process(&self) -> RedisState {
        self.process_with(RedisOptions::default()).await
    }

    pub(super) async fn process_with(&self, options: RedisOptions) -> RedisState {
        RedisState::connect(&self.url(), options, &self.tasks, Arc::new(SystemClock)).await.unwrap()
    }

    /// a process that can be stopped by itself
    pub(super) async fn process_of_its_own(&self) -> (RedisState, Tasks) {
        let tasks = Tasks::default();
        let process = RedisState::connect(&self.url(), RedisOptions::default(), &tasks, Arc::new(SystemClock)).await.unwrap();
        (process, tasks)
    }

    /// a state whose clock is the caller's, with a block list that is whole
    pub(super) async fn state_by_caller(&self) -> State {
        let options = RedisOptions { clock_source: ClockSource::Caller, timeout: PATIENCE, ..RedisOptions::default() };
        let state = self.process_with(options).await.state();
        state.blocks.seed(Vec::new()).await.unwrap();
        state
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// a command beside Picket
    pub(super) async fn command(&self, words: &[&str]) -> Value {
        let client = self.client().await;
        let command = CustomCommand::new(words[0].to_owned(), ClusterHash::Random, false);
        let arguments: Vec<Value> = words[1..].iter().map(|word| (*word).into()).collect();
        let answer = client.custom(command, arguments).await.unwrap();
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
        self.process = run(self.port, self.folder.path());
        self.answers().await;
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill {signal}");
    }

    async fn answers(&self) {
        eventually("redis-server answers", async || tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok()).await;
    }

    async fn client(&self) -> Client {
        let client = Builder::from_config(Config::from_url(&self.url()).unwrap()).build().unwrap();
        client.init().await.unwrap();
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.process.kill().and_then(|()| self.process.wait());
        assert!(ended.is_ok() || std::thread::panicking(), "redis-server did not end: {ended:?}");
    }
}

fn run(port: u16, folder: &Path) -> Child {
    Command::new("redis-server")
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
