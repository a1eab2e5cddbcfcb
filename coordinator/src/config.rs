//! A coordinator's wiring: its listener, its store, and who may manage. Fixed for the life of the process.

use picket_shared::secret::Secret;
use picket_shared::token::IssuerConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

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
    /// `sqlite:PATH`
    pub audit_store: String,
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
            admin: AdminConfig::default(),
            api_keys: Vec::new(),
            tokens: None,
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
