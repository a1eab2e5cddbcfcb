//! The configuration: one document for both roles, from flags, environment, file and defaults; checked as a whole before
//! anything starts.

mod check;
mod credential;
mod environment;
mod load;
mod origins;
mod otel;
mod shape;
pub mod yaml;

pub use credential::hash;
pub use load::{Loaded, Request, load};
pub use origins::Located;
pub use otel::Otel;

use picket_coordinator::config::CoordinatorConfig;
use picket_node::config::{AuthConfig, NodeConfig};
use picket_shared::policy::{Environment, Policy};
use picket_shared::secret;
use picket_shared::state::PolicySource;
use picket_shared::telemetry::LogFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use std::path::PathBuf;

/// Picket's configuration file
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "Picket configuration")]
pub struct Config {
    /// decides the defaults, and whether unsafe settings stop the start
    pub environment: Environment,
    /// what nodes and coordinators know in common
    pub state: StateConfig,
    /// a node's wiring: listeners, bounds, routes
    pub node: NodeConfig,
    /// how tokens are found and judged
    pub auth: AuthConfig,
    /// a coordinator's wiring: its listener, its store, and who may manage
    pub coordinator: CoordinatorConfig,
    /// logs, metrics and traces
    pub telemetry: TelemetryConfig,
    /// the security rules; all of it is live: `GET` and `PUT /api/security/config`
    pub policy: Policy,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct StateConfig {
    /// `memory://` for standalone; `redis://`, `rediss://`, `redis-cluster://`, `redis-sentinel://` (and with TLS `rediss-…`) for nodes and coordinators
    #[serde(serialize_with = "without_password")]
    pub url: String,
    /// certificates in PEM of the only authorities that vouch for Redis; without it, the system's do
    pub ca_file: Option<PathBuf>,
    /// what every key in the shared state starts with
    #[schemars(length(min = 1, max = 64))]
    pub key_prefix: String,
    /// for one command
    #[schemars(range(min = 1, max = 10_000))]
    pub timeout_ms: u64,
    /// which policy wins after the first start
    pub policy_source: PolicySource,
}

impl Default for StateConfig {
    fn default() -> Self {
        StateConfig {
            url: "redis://127.0.0.1:6379".into(),
            ca_file: None,
            key_prefix: "picket".into(),
            timeout_ms: 50,
            policy_source: PolicySource::State,
        }
    }
}

fn without_password<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&secret::masked_url(url).unwrap_or_else(|| url.to_owned()))
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TelemetryConfig {
    /// a collector that takes metrics, traces and logs by OTLP, such as `http://127.0.0.1:4318`; the rest is said by the standard variables `OTEL_*`
    pub otlp_endpoint: Option<String>,
    /// the name under which everything is reported
    pub service_name: String,
    /// of the log on standard error
    pub log_format: LogFormat,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        TelemetryConfig { otlp_endpoint: None, service_name: "picket".into(), log_format: LogFormat::Json }
    }
}

impl Config {
    /// whether the demo stands in for an application: without routes, in development, and for this machine only
    pub fn may_run_the_demo(&self) -> bool {
        self.node.routes.is_empty()
            && self.environment == Environment::Development
            && self.node.listen.ip().is_loopback()
    }
}
