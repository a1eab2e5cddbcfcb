//! Picket's own processes, as production would run them: nodes and a coordinator over one Redis.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

use crate::client::HOME;
use crate::ports;
use crate::process::{Running, command};
use crate::token;

pub const ADMIN: &str = "warden";
pub const PASSWORD: &str = "a-long-password-of-the-measurements";
const READY_WITHIN: Duration = Duration::from_secs(20);

/// what all processes of one cluster are started with
pub struct Plan<'a> {
    pub executable: &'a Path,
    pub redis: String,
    pub routes: Value,
    pub policy: Value,
    /// `node.limits`, where other than as shipped
    pub limits: Value,
}

/// one process, and where it listens
pub struct Picket {
    pub process: Running,
    /// the gateway of a node, the management API of a coordinator
    pub address: SocketAddr,
    /// where it tells of itself
    pub ops: SocketAddr,
    directory: TempDir,
}

impl Picket {
    /// for who keeps both in other places; the directory has to outlive the process
    pub fn into_parts(self) -> (Running, TempDir) {
        (self.process, self.directory)
    }
}

impl Plan<'_> {
    /// ready, with the policy of the state
    pub async fn node(&self, id: &str, cores: Option<&str>) -> Result<Picket> {
        self.node_with(id, cores, Value::Object(Map::new()), &[]).await
    }

    /// with its configuration laid over by a merge patch, and with variables of its own
    pub async fn node_with(
        &self,
        id: &str,
        cores: Option<&str>,
        patch: Value,
        environment: &[(&str, String)],
    ) -> Result<Picket> {
        self.node_at((ports::free(), ports::free()), id, cores, patch, environment).await
    }

    /// where a node was before, say
    pub async fn node_at(
        &self,
        (gateway, ops): (SocketAddr, SocketAddr),
        id: &str,
        cores: Option<&str>,
        patch: Value,
        environment: &[(&str, String)],
    ) -> Result<Picket> {
        let mut config = self.config(id, gateway, ops);
        merge(&mut config, patch);
        let mut node = self.start("node", id, config, (gateway, ops), cores, environment)?;
        node.process.listens(gateway).await?;
        let deadline = Instant::now() + READY_WITHIN;
        while !is_ready(ops).await {
            node.process.still_runs()?;
            if Instant::now() > deadline {
                bail!("node {id} is not ready:\n{}", node.process.output());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(node)
    }

    pub async fn coordinator(&self, id: &str, cores: Option<&str>) -> Result<Picket> {
        self.coordinator_with(id, cores, Value::Object(Map::new())).await
    }

    /// with its configuration laid over by a merge patch
    pub async fn coordinator_with(&self, id: &str, cores: Option<&str>, patch: Value) -> Result<Picket> {
        let (management, ops) = (ports::free(), ports::free());
        let mut config = self.config(id, management, ops);
        merge(&mut config, patch);
        let mut coordinator = self.start("coordinator", id, config, (management, ops), cores, &[])?;
        coordinator.process.listens(management).await?;
        Ok(coordinator)
    }

    fn config(&self, id: &str, address: SocketAddr, ops: SocketAddr) -> Value {
        json!({
            "environment": "production",
            "state": { "url": self.redis },
            "node": {
                "id": id,
                "listen": address,
                "opsListen": ops,
                "trustedProxies": ["127.0.0.0/8"],
                "routes": self.routes,
                "limits": self.limits,
            },
            "auth": { "jwt": { "issuers": [token::issuer()] } },
            "coordinator": { "listen": address, "opsListen": ops },
            "policy": self.policy,
        })
    }

    fn start(
        &self,
        role: &str,
        id: &str,
        mut config: Value,
        (address, ops): (SocketAddr, SocketAddr),
        cores: Option<&str>,
        environment: &[(&str, String)],
    ) -> Result<Picket> {
        let directory = TempDir::new()?;
        let data = directory.path().join("data");
        std::fs::create_dir(&data)?;
        let store = &mut config["coordinator"]["auditStore"];
        if store.is_null() {
            *store = json!(format!("sqlite:{}", data.join("audit.db").display()));
        }
        let file = directory.path().join("picket.yaml");
        std::fs::write(&file, serde_json::to_string_pretty(&config)?)?;
        let mut command = command(cores, self.executable);
        clean(&mut command);
        command
            .current_dir(directory.path())
            .env("SOCKET_ADMIN_USERNAME", ADMIN)
            .env("SOCKET_ADMIN_PASSWORD", PASSWORD)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .arg(role)
            .arg("--config")
            .arg(&file)
            .arg("--data-dir")
            .arg(&data);
        let process = Running::start(&format!("picket {role} {id}"), command)?;
        Ok(Picket { process, address, ops, directory })
    }
}

/// a JSON route `/ws` to this upstream
pub fn json_route(upstream: SocketAddr) -> Value {
    json!([{ "path": "/ws", "upstream": format!("ws://{upstream}/ws"), "protocol": "json", "eventField": "type" }])
}

/// the policy of production, with the origin of the measurements, and laid over by a merge patch
pub fn policy(patch: Value) -> Value {
    let mut policy = json!({ "cors": { "allowedOrigins": [HOME] } });
    merge(&mut policy, patch);
    policy
}

async fn is_ready(ops: SocketAddr) -> bool {
    let Ok(response) = reqwest::get(format!("http://{ops}/readyz")).await else {
        return false;
    };
    let ready = response.status().is_success();
    let state: Value = response.json().await.unwrap_or_default();
    ready && state["policyVersion"].as_u64().is_some_and(|version| version > 0)
}

/// without what the caller's environment would tell it
fn clean(command: &mut Command) {
    for (name, _) in std::env::vars() {
        if ["PICKET_", "SOCKET_ADMIN_", "OTEL_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    for name in ["WHITE_LIST_URLS", "REDIS_URL", "RUST_LOG"] {
        command.env_remove(name);
    }
}

/// the management API's client
pub struct Admin {
    http: reqwest::Client,
    base: String,
}

impl Admin {
    pub fn new(coordinator: &Picket) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        Ok(Admin { http, base: format!("http://{}/api/security", coordinator.address) })
    }

    /// reads the whole answer
    pub async fn get(&self, path: &str) -> Result<usize> {
        let request = self.http.get(format!("{}{path}", self.base)).basic_auth(ADMIN, Some(PASSWORD));
        let response = request.send().await.with_context(|| format!("GET {path}"))?;
        let status = response.status();
        let body = response.bytes().await?;
        if !status.is_success() {
            bail!("GET {path} was answered with {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body.len())
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<()> {
        let request = self.http.post(format!("{}{path}", self.base)).basic_auth(ADMIN, Some(PASSWORD)).json(body);
        let response = request.send().await.with_context(|| format!("POST {path}"))?;
        if !response.status().is_success() {
            bail!("POST {path} was answered with {}: {}", response.status(), response.text().await?);
        }
        Ok(())
    }
}

fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(target.entry(name).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_replaces_what_it_names_and_keeps_the_rest() {
        let policy = policy(json!({ "cors": { "allowMissingOrigin": true }, "security": { "allowAnonymous": false } }));
        assert_eq!(policy["cors"], json!({ "allowedOrigins": [HOME], "allowMissingOrigin": true }));
        assert_eq!(policy["security"]["allowAnonymous"], json!(false));
    }
}
