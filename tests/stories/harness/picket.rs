//! The gateway under test: a real process in standalone mode, on ports of its own, ended when the story ends.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::HOME;
use super::admin::{Admin, Reply};
use super::caller::Caller;
use super::hostile::HostileUpstream;
use super::patience::eventually;
use super::program;
use super::upstream::Upstream;
use super::wire::Wire;

const ADMIN: &str = "warden";
const PASSWORD: &str = "a-long-password-of-the-stories";
/// A debug build that starts beside others on two cores.
const STARTS_WITHIN: Duration = Duration::from_secs(20);
const ENDS_WITHIN: Duration = Duration::from_secs(10);

pub struct PicketBuilder {
    config: Value,
    environment: Vec<(String, String)>,
    listeners: Vec<&'static str>,
}

impl PicketBuilder {
    /// Laid over the configuration as a merge patch.
    pub fn with(mut self, patch: Value) -> Self {
        merge(&mut self.config, patch);
        self
    }

    pub fn policy(self, patch: Value) -> Self {
        self.with(json!({ "policy": patch }))
    }

    pub fn node(self, patch: Value) -> Self {
        self.with(json!({ "node": patch }))
    }

    pub fn issuer(self, issuer: Value) -> Self {
        self.with(json!({ "auth": { "jwt": { "issuers": [issuer] } } }))
    }

    pub fn route(mut self, route: Value) -> Self {
        self.config["node"]["routes"].as_array_mut().unwrap().push(route);
        self
    }

    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without_environment(mut self, name: &str) -> Self {
        self.environment.retain(|(set, _)| set != name);
        self
    }

    /// Events are refused without end: for tables of hostile messages over one connection.
    pub fn patient(self) -> Self {
        self.policy(json!({
            "security": { "violationsBeforeClose": 100_000 },
            "rateLimiting": {
                "messageLimit": { "maxMessages": 100_000, "windowMs": 60_000 },
                "eventLimit": { "maxEvents": 100_000, "windowMs": 60_000 },
                "burstLimit": { "maxEvents": 100_000, "windowMs": 1000 },
            },
        }))
    }

    pub fn also_listening(mut self, listener: &'static str) -> Self {
        self.listeners.push(listener);
        self
    }

    pub async fn start(self) -> Picket {
        let directory = TempDir::new().unwrap();
        let config = directory.path().join("picket.yaml");
        std::fs::write(&config, serde_json::to_string_pretty(&self.config).unwrap()).unwrap();
        let data = directory.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let mut child = program::command(directory.path(), &self.environment)
            .arg("standalone")
            .arg("--config")
            .arg(&config)
            .arg("--data-dir")
            .arg(&data)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the picket executable starts");
        let (log, said) = (Log::default(), Log::default());
        said.follows(child.stdout.take().unwrap());
        log.follows(child.stderr.take().unwrap());
        let mut picket = Picket { child, log, said, directory, listeners: HashMap::new() };
        picket.opens(&self.listeners).await;
        picket
    }
}

pub struct Picket {
    child: Child,
    log: Log,
    said: Log,
    directory: TempDir,
    listeners: HashMap<String, SocketAddr>,
}

impl Picket {
    /// No routes yet.
    pub fn builder() -> PicketBuilder {
        let config = json!({
            "environment": "production",
            "state": { "url": "memory://" },
            "node": {
                "id": "edge-1",
                "listen": "127.0.0.1:0",
                "opsListen": "127.0.0.1:0",
                "trustedProxies": ["127.0.0.1/32"],
                "drain": { "graceMs": 100, "spreadMs": 100 },
                "routes": [],
            },
            "coordinator": { "listen": "127.0.0.1:0" },
            "policy": {
                "cors": { "allowedOrigins": [HOME] },
                // Out of the way of stories that ask again until the answer changes.
                "rateLimiting": {
                    "handshakeLimit": { "maxHandshakes": 10_000, "windowMs": 60_000 },
                    "connectionLimit": { "maxConnections": 10_000, "windowMs": 60_000 },
                },
                "security": { "blockSuspiciousIps": false },
            },
        });
        PicketBuilder { config, environment: Vec::new(), listeners: vec!["gateway", "ops", "management"] }
            .environment("SOCKET_ADMIN_USERNAME", ADMIN)
            .environment("SOCKET_ADMIN_PASSWORD", PASSWORD)
    }

    /// A JSON route `/ws` before the upstream.
    pub fn guarding(upstream: &Upstream) -> PicketBuilder {
        Self::builder().route(json_route(&upstream.websocket_url("/ws")))
    }

    pub fn guarding_hostile(upstream: &HostileUpstream) -> PicketBuilder {
        Self::builder().route(json_route(&upstream.websocket_url("/ws")))
    }

    pub fn guarding_socketio(upstream: &Upstream) -> PicketBuilder {
        Self::builder().route(json!({ "path": "/socket.io/", "upstream": upstream.http_url(), "protocol": "socketio" }))
    }

    pub fn address(&self, listener: &str) -> SocketAddr {
        self.listeners[listener]
    }

    pub fn gateway(&self) -> SocketAddr {
        self.address("gateway")
    }

    /// Someone on the JSON route, with an address of their own.
    pub fn caller(&self, address: &str) -> Caller {
        Caller::new(self.gateway(), "/ws", address)
    }

    pub fn socketio_caller(&self, address: &str) -> Caller {
        Caller::new(self.gateway(), "/socket.io/?EIO=4&transport=websocket", address)
    }

    /// An open WebSocket on the JSON route whose bytes the story makes itself.
    pub async fn wire(&self, address: &str) -> Wire {
        Wire::to(self.gateway()).await.upgraded("/ws", address, self.gateway()).await
    }

    pub fn admin(&self) -> Admin {
        Admin::new(self.address("management"), Some((ADMIN.to_owned(), PASSWORD.to_owned())))
    }

    pub fn stranger(&self) -> Admin {
        Admin::new(self.address("management"), None)
    }

    pub fn admin_with(&self, name: &str, password: &str) -> Admin {
        Admin::new(self.address("management"), Some((name.to_owned(), password.to_owned())))
    }

    pub async fn ops(&self, path: &str) -> Reply {
        Reply::from(&format!("http://{}{path}", self.address("ops"))).await
    }

    /// The sum of a counter or gauge over its labels, as Prometheus would read it.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.ops("/metrics").await.text;
        text.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Standard error: one JSON object a line.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Both outputs.
    pub fn everything_it_said(&self) -> String {
        format!("{}\n{}", self.said.text(), self.log.text())
    }

    pub fn data_directory(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    pub fn terminates(&self) {
        let sent = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success(), "SIGTERM");
    }

    pub async fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + ENDS_WITHIN;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "picket did not end:\n{}", self.log.text());
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    async fn opens(&mut self, listeners: &[&str]) {
        let deadline = Instant::now() + STARTS_WITHIN;
        while let Some(missing) = listeners.iter().find(|name| !self.listeners.contains_key(**name)) {
            self.listeners = self.log.listeners();
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("picket ended with {status} before its {missing} listener opened:\n{}", self.log.text());
            }
            assert!(Instant::now() < deadline, "picket's {missing} listener did not open:\n{}", self.log.text());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        eventually("readiness", async || (self.ops("/readyz").await.status == 200).then_some(())).await;
    }
}

impl Drop for Picket {
    fn drop(&mut self) {
        if self.child.kill().is_ok() && self.child.wait().is_err() {
            eprintln!("picket {} was not reaped", self.child.id());
        }
        if std::thread::panicking() {
            eprintln!("--- what picket said ---\n{}", self.everything_it_said());
        }
    }
}

fn json_route(upstream: &str) -> Value {
    json!({ "path": "/ws", "upstream": upstream, "protocol": "json", "eventField": "type" })
}

/// An output, line by line.
#[derive(Clone, Default)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    fn follows(&self, output: impl Read + Send + 'static) {
        let lines = self.lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { return };
                lines.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    fn text(&self) -> String {
        self.lines().join("\n")
    }

    fn listeners(&self) -> HashMap<String, SocketAddr> {
        let opened = |line: String| {
            let line: Value = serde_json::from_str(&line).ok()?;
            let fields = line.get("fields").unwrap_or(&line);
            let address = fields["address"].as_str()?.parse().ok()?;
            (fields["message"] == "listening").then(|| Some((fields["listener"].as_str()?.to_owned(), address)))?
        };
        self.lines().into_iter().filter_map(opened).collect()
    }
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.as_object_mut().unwrap().remove(&name);
            }
            value => merge(&mut target[name.as_str()], value),
        }
    }
}
