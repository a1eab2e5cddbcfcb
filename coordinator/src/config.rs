//! A coordinator's wiring: its listener, its store, and who may manage. Fixed for the life of the process.

use picket_shared::audit::Severity;
use picket_shared::secret::{self, Secret};
use picket_shared::token::IssuerConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use std::net::SocketAddr;
use std::time::Duration;

use crate::store::Bounds;

pub use crate::api_keys::ApiKeyConfig;
pub use crate::scope::Scope;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct CoordinatorConfig {
    /// management API and dashboard
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// `/livez`, `/readyz` and `/metrics` of `picket coordinator`; in `picket standalone` the node's tell of both
    #[schemars(with = "String")]
    pub ops_listen: SocketAddr,
    /// `sqlite:PATH` for one coordinator, `postgres://USER:PASSWORD@HOST/DATABASE` for several or for much data
    #[serde(serialize_with = "without_password")]
    pub audit_store: String,
    pub retention: RetentionConfig,
    pub admin: AdminConfig,
    /// keys of machines, each with what it may do
    #[schemars(length(max = 100))]
    pub api_keys: Vec<ApiKeyConfig>,
    /// whose tokens open the management API; never an application's issuer
    pub tokens: Option<IssuerConfig>,
}

impl Default for CoordinatorConfig {
    fn default() -> Self {
        CoordinatorConfig {
            listen: ([127, 0, 0, 1], 9090).into(),
            ops_listen: ([127, 0, 0, 1], 9091).into(),
            audit_store: "sqlite:./picket.db".into(),
            retention: RetentionConfig::default(),
            admin: AdminConfig::default(),
            api_keys: Vec::new(),
            tokens: None,
        }
    }
}

fn without_password<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&secret::masked_url(url).unwrap_or_else(|| url.to_owned()))
}

/// which audit records are kept. What is beyond a bound is deleted, the oldest first
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RetentionConfig {
    /// how many days records are kept, by severity; null keeps them until another bound is reached
    pub max_age_days: AgesConfig,
    /// how many records are kept
    #[schemars(range(min = 1))]
    pub max_records: Option<u64>,
    /// how many bytes the records' contents may have; with its indices a store takes about three times as much
    #[schemars(range(min = 1_000_000))]
    pub max_bytes: Option<u64>,
    /// how many days the counts by minute are kept, from which reports are made
    #[schemars(range(min = 1, max = 36_500))]
    pub counts_days: u32,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        RetentionConfig {
            max_age_days: AgesConfig::default(),
            max_records: Some(10_000_000),
            max_bytes: None,
            counts_days: 400,
        }
    }
}

impl RetentionConfig {
    pub(crate) fn bounds(&self) -> Bounds {
        let ages =
            Severity::ALL.into_iter().filter_map(|severity| Some((severity, days(self.max_age_days.of(severity)?))));
        Bounds { ages: ages.collect(), records_max: self.max_records, bytes_max: self.max_bytes }
    }

    pub(crate) fn counts_kept(&self) -> Duration {
        days(self.counts_days)
    }
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 86_400)
}

/// days by severity
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct AgesConfig {
    #[schemars(range(min = 1, max = 36_500))]
    pub low: Option<u32>,
    #[schemars(range(min = 1, max = 36_500))]
    pub medium: Option<u32>,
    #[schemars(range(min = 1, max = 36_500))]
    pub high: Option<u32>,
    #[schemars(range(min = 1, max = 36_500))]
    pub critical: Option<u32>,
}

impl AgesConfig {
    fn of(&self, severity: Severity) -> Option<u32> {
        match severity {
            Severity::Low => self.low,
            Severity::Medium => self.medium,
            Severity::High => self.high,
            Severity::Critical => self.critical,
        }
    }
}

/// the management credential
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct AdminConfig {
    /// who manages; without a colon
    pub username: Option<String>,
    /// Argon2 hash in PHC string format
    pub password_hash: Option<Secret>,
}
