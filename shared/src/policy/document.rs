//! The policy document: field names of the origin document, production defaults. All of it is live.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{Behaviour, Countries, Notification, Rule};

/// the most that `validation.maxPayloadSize` may allow, in bytes
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// where the process runs; decides the defaults and whether unsafe settings stop the start
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    #[default]
    Production,
    Development,
}

impl Environment {
    pub const fn as_str(self) -> &'static str {
        match self {
            Environment::Production => "production",
            Environment::Development => "development",
        }
    }
}

/// the security rules, live while the process runs
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Policy {
    /// whether refusals are carried out: `on`; `shadow`, where they are recorded and everybody passes; `off`, where nothing is looked at
    /// but what is needed to forward. What protects the gateway itself holds in any case
    pub enforce: Enforce,
    /// rules that are in shadow while others are enforced
    pub shadow: Vec<Rule>,
    pub cors: Cors,
    pub rate_limiting: RateLimiting,
    pub validation: Validation,
    pub security: Security,
    pub monitoring: Monitoring,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Enforce {
    #[default]
    On,
    Shadow,
    Off,
}

impl Enforce {
    pub const ALL: [Enforce; 3] = [Enforce::On, Enforce::Shadow, Enforce::Off];

    pub const fn as_str(self) -> &'static str {
        match self {
            Enforce::On => "on",
            Enforce::Shadow => "shadow",
            Enforce::Off => "off",
        }
    }
}

/// which web pages may connect
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Cors {
    /// exact origins (`https://app.example.com`) or all sub-domains of one (`https://*.example.com`)
    pub allowed_origins: Vec<String>,
    /// needed to allow `*`
    pub allow_any_origin: bool,
    pub allow_credentials: bool,
    pub allowed_methods: Vec<String>,
    pub allowed_headers: Vec<String>,
    /// whether clients that send no Origin (programs, not browsers) may connect
    pub allow_missing_origin: bool,
}

impl Default for Cors {
    fn default() -> Self {
        Cors {
            allowed_origins: Vec::new(),
            allow_any_origin: false,
            allow_credentials: true,
            allowed_methods: vec!["GET".into(), "POST".into()],
            allowed_headers: vec!["Authorization".into(), "Content-Type".into()],
            allow_missing_origin: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RateLimiting {
    /// handshakes per address on one node, failed ones too, before every other check
    pub handshake_limit: HandshakeLimit,
    /// connections per address, over all nodes
    pub connection_limit: ConnectionLimit,
    /// messages per user, else per address, over all sockets and nodes
    pub message_limit: MessageLimit,
    /// events per connection
    pub event_limit: EventsLimit,
    /// events per connection in a short time
    pub burst_limit: EventsLimit,
    /// limits of single events, by name
    pub events: BTreeMap<String, NamedEventLimit>,
    /// factor on `messageLimit` and `events` by role; the highest wins
    pub roles: BTreeMap<String, f64>,
    pub concurrent_connections: ConcurrentConnections,
}

impl Default for RateLimiting {
    fn default() -> Self {
        RateLimiting {
            handshake_limit: HandshakeLimit::default(),
            connection_limit: ConnectionLimit::default(),
            message_limit: MessageLimit::default(),
            event_limit: EventsLimit { max_events: 1000, window_ms: 60_000, exact: false },
            burst_limit: EventsLimit { max_events: 50, window_ms: 1000, exact: false },
            events: BTreeMap::new(),
            roles: BTreeMap::new(),
            concurrent_connections: ConcurrentConnections::default(),
        }
    }
}

macro_rules! limit {
    ($(#[$doc:meta])* $name:ident { $max:ident = $default:literal }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields, rename_all = "camelCase")]
        pub struct $name {
            #[schemars(range(min = 1))]
            pub $max: u32,
            /// length of the sliding window in milliseconds
            #[schemars(range(min = 100, max = 86_400_000))]
            pub window_ms: u64,
            /// count every use in the shared state at once, without shares
            pub exact: bool,
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $max: $default, window_ms: 60_000, exact: false }
            }
        }
    };
}

limit!(HandshakeLimit { max_handshakes = 300 });
limit!(ConnectionLimit { max_connections = 50 });

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct MessageLimit {
    #[schemars(range(min = 1))]
    pub max_messages: u32,
    /// length of the sliding window in milliseconds
    #[schemars(range(min = 100, max = 86_400_000))]
    pub window_ms: u64,
    /// which events count, with `*` globs
    pub events: Vec<String>,
    /// count every use in the shared state at once, without shares
    pub exact: bool,
}

impl Default for MessageLimit {
    fn default() -> Self {
        MessageLimit { max_messages: 100, window_ms: 60_000, events: vec!["*".into()], exact: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct EventsLimit {
    #[schemars(range(min = 1))]
    pub max_events: u32,
    /// length of the sliding window in milliseconds
    #[schemars(range(min = 100, max = 86_400_000))]
    pub window_ms: u64,
    /// count every use in the shared state at once, without shares
    pub exact: bool,
}

impl Default for EventsLimit {
    fn default() -> Self {
        EventsLimit { max_events: 1000, window_ms: 60_000, exact: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NamedEventLimit {
    #[schemars(range(min = 1))]
    pub max_events: u32,
    /// length of the sliding window in milliseconds
    #[schemars(range(min = 100, max = 86_400_000))]
    pub window_ms: u64,
    #[serde(default)]
    pub per: Per,
    /// count every use in the shared state at once, without shares
    #[serde(default)]
    pub exact: bool,
}

/// whose uses are added up
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    #[default]
    Connection,
    User,
    Address,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ConcurrentConnections {
    /// binds anonymous and not yet authenticated sockets
    #[schemars(range(min = 1))]
    pub per_address: u32,
    #[schemars(range(min = 1))]
    pub per_user: u32,
}

impl Default for ConcurrentConnections {
    fn default() -> Self {
        ConcurrentConnections { per_address: 100, per_user: 20 }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Validation {
    /// bytes of one message
    #[schemars(range(min = 1, max = PAYLOAD_BYTES_MAX))]
    pub max_payload_size: usize,
    /// Unicode scalar values of any one text in a payload
    #[schemars(range(min = 1))]
    pub max_message_length: usize,
    /// nesting of a payload
    #[schemars(range(min = 1, max = 120))]
    pub max_depth: usize,
    /// known events, with `*` globs; null allows all
    pub allowed_event_types: Option<Vec<String>>,
    /// events that need a login, with `*` globs
    pub require_authentication: Vec<String>,
    /// roles that may send an event, by its name
    pub event_roles: BTreeMap<String, Vec<String>>,
    pub content: Content,
    /// JSON Schema of an event's payload, by its name
    pub schemas: BTreeMap<String, serde_json::Value>,
}

impl Default for Validation {
    fn default() -> Self {
        Validation {
            max_payload_size: 1_048_576,
            max_message_length: 10_000,
            max_depth: 64,
            allowed_event_types: None,
            require_authentication: Vec::new(),
            event_roles: BTreeMap::new(),
            content: Content::default(),
            schemas: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Content {
    pub mode: ContentMode,
}

/// what happens to text that could run or load something when shown as HTML
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ContentMode {
    #[default]
    Sanitize,
    Reject,
    Detect,
    Off,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Security {
    pub allow_anonymous: bool,
    /// over all nodes
    pub max_anonymous_connections: u32,
    pub max_anonymous_per_address: u32,
    /// the rounded score at which an address is blocked
    #[schemars(range(min = 1))]
    pub suspicious_activity_threshold: u32,
    pub block_suspicious_ips: bool,
    /// false stops the storing of low-severity records, never scoring or administration's own trail
    pub enable_audit_logging: bool,
    /// refused events after which a connection is closed
    #[schemars(range(min = 1))]
    pub violations_before_close: u32,
    /// addresses and prefixes that are never blocked
    pub allow_list: Vec<String>,
    pub auto_block: AutoBlock,
    pub reputation: Reputation,
    /// from where clients may come; the nodes need `node.geoip`
    pub countries: Countries,
    /// rules over what somebody does on all sockets
    pub behaviour: Vec<Behaviour>,
}

impl Default for Security {
    fn default() -> Self {
        Security {
            allow_anonymous: true,
            max_anonymous_connections: 1000,
            max_anonymous_per_address: 20,
            suspicious_activity_threshold: 5,
            block_suspicious_ips: true,
            enable_audit_logging: true,
            violations_before_close: 5,
            allow_list: Vec::new(),
            auto_block: AutoBlock::default(),
            reputation: Reputation::default(),
            countries: Countries::default(),
            behaviour: Vec::new(),
        }
    }
}

/// how long an automatic block lasts
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct AutoBlock {
    #[schemars(range(min = 1000))]
    pub base_ms: u64,
    /// each relapse lasts so many times longer
    #[schemars(range(min = 1.0, max = 100.0))]
    pub factor: f64,
    #[schemars(range(min = 1000))]
    pub max_ms: u64,
}

impl Default for AutoBlock {
    fn default() -> Self {
        AutoBlock { base_ms: 600_000, factor: 4.0, max_ms: 604_800_000 }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Reputation {
    /// the time in which a score falls to its half
    #[schemars(range(min = 1000))]
    pub half_life_ms: u64,
    /// points by reason, instead of the built-in ones
    pub points: BTreeMap<String, f64>,
}

impl Default for Reputation {
    fn default() -> Self {
        Reputation { half_life_ms: 1_800_000, points: BTreeMap::new() }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Monitoring {
    pub enable_metrics: bool,
    pub enable_health_checks: bool,
    pub alert_thresholds: AlertThresholds,
    /// who is told of alarms
    pub notifications: Vec<Notification>,
}

impl Default for Monitoring {
    fn default() -> Self {
        Monitoring {
            enable_metrics: true,
            enable_health_checks: true,
            alert_thresholds: AlertThresholds::default(),
            notifications: Vec::new(),
        }
    }
}

/// above these an alarm is raised, and health says `warning`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct AlertThresholds {
    /// open connections
    pub high_connection_count: u64,
    /// events per minute
    pub high_message_rate: u64,
    /// refused ÷ all events and attempts of the last minute
    #[schemars(range(min = 0.0, max = 1.0))]
    pub error_rate: f64,
}

impl Default for AlertThresholds {
    fn default() -> Self {
        AlertThresholds { high_connection_count: 1000, high_message_rate: 10_000, error_rate: 0.1 }
    }
}
