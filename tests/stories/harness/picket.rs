//! The gateway under test: a real process, standalone or in one role, on ports of its own, ended when the story ends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::HOME;
use super::admin::{Admin, Reply};
use super::application::{Application, CHECK_TOKEN};
use super::caller::Caller;
use super::collector::Collector;
use super::hostile::HostileUpstream;
use super::log::Log;
use super::patience::eventually;
use super::polling::Polls;
use super::program;
use super::upstream::Upstream;
use super::wire::Wire;

pub const ADMIN: &str = "warden";
pub const PASSWORD: &str = "a-long-password-of-the-stories";
/// A debug build that starts beside others on two cores.
const STARTS_WITHIN: Duration = Duration::from_secs(20);
const ENDS_WITHIN: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct PicketBuilder {
    role: &'static str,
    config: Value,
    environment: Vec<(String, String)>,
    listeners: Vec<&'static str>,
    directory: Option<Arc<TempDir>>,
    file_bytes_max: Option<u64>,
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

    /// Exports to a collector, over gRPC or as the default says, and not seconds later.
    pub fn exporting_to(self, collector: &Collector, protocol: Option<&str>) -> Self {
        let exporting = self.exporting_to_endpoint(&collector.endpoint());
        match protocol {
            Some(protocol) => exporting.environment("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            None => exporting,
        }
    }

    /// In short intervals, so that stories are.
    pub fn exporting_to_endpoint(self, endpoint: &str) -> Self {
        self.environment("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .environment("OTEL_BSP_SCHEDULE_DELAY", "50")
            .environment("OTEL_BLRP_SCHEDULE_DELAY", "50")
            .environment("OTEL_METRIC_EXPORT_INTERVAL", "100")
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

    /// With the check API beside the gateway.
    pub fn checking(self) -> Self {
        self.node(json!({ "checkListen": "127.0.0.1:0", "checkToken": CHECK_TOKEN })).also_listening("check")
    }

    /// `picket node`.
    pub fn lone_node(mut self, id: &str) -> Self {
        (self.role, self.listeners) = ("node", vec!["gateway", "ops"]);
        self.node(json!({ "id": id }))
    }

    /// `picket coordinator`, with an audit store of its own.
    pub fn lone_coordinator(mut self, id: &str) -> Self {
        (self.role, self.listeners) = ("coordinator", vec!["management", "ops"]);
        self.node(json!({ "id": id }))
    }

    /// Its files may grow no further than that, as on a full disk; an error tells it, and no signal.
    pub fn with_files_up_to(mut self, bytes: u64) -> Self {
        self.file_bytes_max = Some(bytes);
        self
    }

    /// With the data directory of a process that ended.
    pub fn after(mut self, ended: &Picket) -> Self {
        self.directory = Some(ended.directory.clone());
        self
    }

    pub async fn start(self) -> Picket {
        let picket = self.start_unready().await;
        if picket.listeners.contains_key("ops") {
            eventually("readiness", async || (picket.ops("/readyz").await.status == 200).then_some(())).await;
        }
        picket
    }

    /// Its listeners are open; whether it is ready is the story's question.
    pub async fn start_unready(mut self) -> Picket {
        let directory = self.directory.take().unwrap_or_else(|| Arc::new(TempDir::new().unwrap()));
        let data = directory.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        if self.role == "coordinator" && self.config["coordinator"]["auditStore"].is_null() {
            let store = format!("sqlite:{}", data.join("audit.db").display());
            self = self.with(json!({ "coordinator": { "auditStore": store } }));
        }
        let config = directory.path().join("picket.yaml");
        std::fs::write(&config, serde_json::to_string_pretty(&self.config).unwrap()).unwrap();
        let mut child = program::command(directory.path(), &self.environment, self.file_bytes_max)
            .arg(self.role)
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
        let name = format!("{} {}", self.role, self.config["node"]["id"]);
        let mut picket = Picket { name, child, log, said, directory, listeners: HashMap::new() };
        picket.opens(&self.listeners).await;
        picket
    }
}

pub struct Picket {
    name: String,
    child: Child,
    log: Log,
    said: Log,
    directory: Arc<TempDir>,
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
            "coordinator": { "listen": "127.0.0.1:0", "opsListen": "127.0.0.1:0" },
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
        let listeners = vec!["gateway", "ops", "management"];
        PicketBuilder {
            role: "standalone",
            config,
            environment: Vec::new(),
            listeners,
            directory: None,
            file_bytes_max: None,
        }
        .environment("SOCKET_ADMIN_USERNAME", ADMIN)
        .environment("SOCKET_ADMIN_PASSWORD", PASSWORD)
    }

    /// A JSON route `/ws` before the upstream.
    pub fn guarding(upstream: &Upstream) -> PicketBuilder {
        Self::builder().route(json_route(&upstream.websocket_url("/ws")))
    }

    /// A route `/ws` of MessagePack, whose refusals have the form of a JSON route's.
    pub fn guarding_msgpack(upstream: &Upstream) -> PicketBuilder {
        let refusal = json!({ "type": "error", "event": "{event}", "reason": "{reason}" });
        let route = json!({ "protocol": "msgpack", "refusal": refusal });
        let mut whole = json_route(&upstream.websocket_url("/ws"));
        merge(&mut whole, route);
        Self::builder().route(whole)
    }

    pub fn guarding_hostile(upstream: &HostileUpstream) -> PicketBuilder {
        Self::builder().route(json_route(&upstream.websocket_url("/ws")))
    }

    pub fn guarding_socketio(upstream: &Upstream) -> PicketBuilder {
        Self::builder().route(json!({ "path": "/socket.io/", "upstream": upstream.http_url(), "protocol": "socketio" }))
    }

    /// The same for an application that has `socket.io-msgpack-parser`.
    pub fn guarding_packed_socketio(upstream: &Upstream) -> PicketBuilder {
        let upstream = upstream.http_url();
        let route = json!({ "path": "/socket.io/", "upstream": upstream, "protocol": "socketio", "parser": "msgpack" });
        Self::builder().route(route)
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

    pub fn polls(&self, address: &str) -> Polls {
        Polls::new(self.gateway(), address)
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

    /// An application that asks the check API.
    pub fn application(&self) -> Application {
        Application::new(self.address("check"), CHECK_TOKEN)
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

    /// All metrics in the form that may name traces.
    pub async fn openmetrics(&self) -> String {
        let url = format!("http://{}/metrics", self.address("ops"));
        let reply = Reply::accepting(&url, "application/openmetrics-text;version=1.0.0").await;
        assert!(reply.content_type().starts_with("application/openmetrics-text"), "{}", reply.content_type());
        reply.text
    }

    /// Standard error: one JSON object a line.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// After one more line there is nobody at the other end of standard error.
    pub fn nobody_reads_its_log(&self) {
        self.log.is_left_after_one_more_line();
    }

    /// Both outputs.
    pub fn everything_it_said(&self) -> String {
        format!("{}\n{}", self.said.text(), self.log.text())
    }

    pub fn data_directory(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    /// What a node says of itself: `normal`, `degraded` or `draining`.
    pub async fn mode(&self) -> String {
        let readiness = self.ops("/readyz").await;
        readiness.json()["mode"].as_str().unwrap_or_else(|| panic!("a mode: {}", readiness.text)).to_owned()
    }

    pub async fn policy_version(&self) -> u64 {
        let readiness = self.ops("/readyz").await;
        readiness.json()["policyVersion"].as_u64().unwrap_or_else(|| panic!("a version: {}", readiness.text))
    }

    pub fn config_file(&self) -> std::path::PathBuf {
        self.directory.path().join("picket.yaml")
    }

    /// What it has in memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a VmRSS line");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kibibytes * 1024
    }

    /// What it has used of processors, in ticks of ten milliseconds.
    pub fn processor_time(&self) -> Duration {
        const TICK: Duration = Duration::from_millis(10);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Past the program's name, which may have blanks: user and system time are the 12th and 13th field.
        let fields = stat.rsplit_once(')').expect("a name").1.split_whitespace();
        TICK * fields.skip(11).take(2).map(|ticks| ticks.parse::<u32>().unwrap()).sum()
    }

    /// Every file it opens from now on is one too many, until it may open as many as that.
    pub fn may_open_no_more_files(&self) {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let numbers: Vec<u64> = open.filter_map(|file| file.ok()?.file_name().to_str()?.parse().ok()).collect();
        let free = (0..).find(|number| !numbers.contains(number)).unwrap();
        self.may_open_files(free);
    }

    pub fn may_open_files(&self, count: u64) {
        let process = self.child.id().to_string();
        let set = Command::new("prlimit").args(["--pid", &process, &format!("--nofile={count}:")]).status().unwrap();
        assert!(set.success(), "prlimit --nofile={count}:");
    }

    /// The disk has room again.
    pub fn may_write_on(&self) {
        let process = self.child.id().to_string();
        let done = Command::new("prlimit").args(["--pid", &process, "--fsize=unlimited"]).status().unwrap();
        assert!(done.success());
    }

    pub fn terminates(&self) {
        signals("TERM", &self.child);
    }

    /// SIGSTOP: it does nothing, and does not know it.
    pub fn stands_still(&self) {
        signals("STOP", &self.child);
    }

    pub fn goes_on(&self) {
        signals("CONT", &self.child);
    }

    /// SIGKILL: no goodbye, nothing given back.
    pub fn dies(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
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
    }
}

impl Drop for Picket {
    fn drop(&mut self) {
        if self.child.kill().is_ok() && self.child.wait().is_err() {
            eprintln!("picket {} was not reaped", self.child.id());
        }
        if std::thread::panicking() {
            eprintln!("--- what picket {} said ---\n{}", self.name, self.everything_it_said());
        }
    }
}

pub fn signals(signal: &str, process: &Child) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg(process.id().to_string()).status().unwrap();
    assert!(sent.success(), "SIG{signal}");
}

fn json_route(upstream: &str) -> Value {
    json!({ "path": "/ws", "upstream": upstream, "protocol": "json", "eventField": "type" })
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
