//! A node's wiring: listeners, bounds, routes, and how tokens are found and judged. Fixed for the life of the process.

use ipnet::IpNet;
use picket_shared::secret::Secret;
use picket_shared::state::{Stance, Stances};
use picket_shared::token::IssuerConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::assertion::AssertionConfig;
use crate::geo::GeoConfig;
use crate::tls::PairFiles;
use crate::upstream_tls::UpstreamTls;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NodeConfig {
    /// default: host name and a random part
    pub id: Option<String>,
    /// the gateway
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// /livez, /readyz and /metrics
    #[schemars(with = "String")]
    pub ops_listen: SocketAddr,
    /// the check API, for applications that keep their own server in front; off unless set
    #[schemars(with = "Option<String>")]
    pub check_listen: Option<SocketAddr>,
    /// the bearer token of the check API
    pub check_token: Option<Secret>,
    /// prefixes whose X-Forwarded-For, Forwarded and PROXY header count
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<IpNet>,
    /// whether a PROXY header (version 1 or 2) of a trusted proxy names the client
    pub proxy_protocol: ProxyProtocol,
    /// TLS on the gateway; the files are read again when they change
    pub tls: Option<PairFiles>,
    /// how limits decide while the shared state is away: share, open or closed, for all or by check
    pub on_outage: OnOutage,
    /// become ready although the shared state is away and there is no snapshot
    pub start_without_state: bool,
    /// a file whose word, off, shadow or on, takes the place of policy.enforce at this node, whatever else is away
    pub enforce_file: Option<PathBuf>,
    pub drain: Drain,
    pub limits: Limits,
    /// a short-lived signed X-Picket-Assertion beside the plain headers
    pub upstream_assertion: Option<AssertionConfig>,
    /// where an address is registered, for `policy.security.countries` and the audit trail
    pub geoip: Option<GeoConfig>,
    /// the longest path prefix wins
    pub routes: Vec<RouteConfig>,
}

impl Default for NodeConfig {
    fn default() -> Self {
        NodeConfig {
            id: None,
            listen: ([0, 0, 0, 0], 8080).into(),
            ops_listen: ([127, 0, 0, 1], 8081).into(),
            check_listen: None,
            check_token: None,
            trusted_proxies: Vec::new(),
            proxy_protocol: ProxyProtocol::Off,
            tls: None,
            on_outage: OnOutage::default(),
            start_without_state: false,
            enforce_file: None,
            drain: Drain::default(),
            limits: Limits::default(),
            upstream_assertion: None,
            geoip: None,
            routes: Vec::new(),
        }
    }
}

/// one stance for every check, or one for each
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OnOutage {
    All(Stance),
    ByCheck(Stances),
}

impl Default for OnOutage {
    fn default() -> Self {
        OnOutage::All(Stance::Share)
    }
}

impl OnOutage {
    pub fn stances(self) -> Stances {
        match self {
            OnOutage::All(stance) => Stances::all(stance),
            OnOutage::ByCheck(stances) => stances,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    #[default]
    Off,
    Optional,
    Required,
}

/// how a node leaves: unready at once, accepting a little longer, then closing its sockets spread over time
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Drain {
    /// how long new connections are still accepted
    pub grace_ms: u64,
    /// over which time the open ones are closed
    pub spread_ms: u64,
}

impl Default for Drain {
    fn default() -> Self {
        Drain { grace_ms: 5000, spread_ms: 30_000 }
    }
}

/// every bound of the data path
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// sockets that a node serves at once
    #[schemars(range(min = 1))]
    pub connections_max: usize,
    /// bytes of a request's head
    #[schemars(range(min = 8192, max = 1_048_576))]
    pub header_bytes_max: usize,
    /// headers of a request
    #[schemars(range(min = 1, max = 1000))]
    pub headers_max: usize,
    /// for a whole request head
    #[schemars(range(min = 1))]
    pub header_timeout_ms: u64,
    /// upgrades that a node takes up in any second, from all addresses together; the others are told when to come back
    #[schemars(range(min = 1, max = 1_000_000))]
    pub upgrades_per_second_max: u32,
    /// addresses whose handshakes are counted at once
    #[schemars(range(min = 1))]
    pub handshake_addresses_max: usize,
    /// counters of addresses and users that this node keeps in the shared state at once; newcomers beyond are counted together
    #[schemars(range(min = 1, max = 10_000_000))]
    pub identities_max: usize,
    /// until a Socket.IO CONNECT after the upgrade
    #[schemars(range(min = 1))]
    pub connect_timeout_ms: u64,
    /// Socket.IO sessions whose client polls, on this node
    #[schemars(range(min = 1))]
    pub polling_sessions_max: usize,
    /// bytes of the body of a polling client's request
    #[schemars(range(min = 1, max = 67_108_864))]
    pub polling_body_bytes_max: usize,
    /// packets in that body
    #[schemars(range(min = 1, max = 100_000))]
    pub polling_packets_max: usize,
    /// sockets that wait for their Socket.IO CONNECT, on this node
    #[schemars(range(min = 1))]
    pub pending_max: usize,
    /// the same, of one address
    #[schemars(range(min = 1))]
    pub pending_per_address: usize,
    /// connections that the check API knows at once
    #[schemars(range(min = 1))]
    pub check_connections_max: usize,
    /// after which the check API forgets a connection that nobody asked about, and gives its slot back
    #[schemars(range(min = 1000, max = 86_400_000))]
    pub check_idle_ms: u64,
    /// bytes of one request's body to the check API
    #[schemars(range(min = 1024, max = 67_108_864))]
    pub check_body_bytes_max: usize,
    /// requests that the check API answers at once
    #[schemars(range(min = 1))]
    pub check_requests_max: usize,
    /// processor time in a second for which the payloads of one connection are looked into
    #[schemars(range(min = 1, max = 1000))]
    pub inspection_ms_per_second: u32,
    /// keys in one payload
    #[schemars(range(min = 1))]
    pub keys_max: usize,
    /// binary attachments of one Socket.IO packet
    #[schemars(range(max = 1000))]
    pub attachments_max: usize,
    /// namespaces of one Socket.IO connection
    #[schemars(range(min = 1, max = 1000))]
    pub namespaces_max: usize,
    /// bytes of a token
    #[schemars(range(min = 1, max = 8192))]
    pub token_bytes_max: usize,
    /// bytes of an event's name
    #[schemars(range(min = 1, max = 65_536))]
    pub identifier_bytes_max: usize,
    /// fragments of one message
    #[schemars(range(min = 1))]
    pub fragments_max: usize,
    /// from the first to the last byte of one message
    #[schemars(range(min = 1))]
    pub message_timeout_ms: u64,
    /// pings, pongs and closes of a client in any five seconds
    #[schemars(range(min = 1))]
    pub control_frames_max: u32,
    /// bytes of one message of the upstream, which is what may wait for a slow reader
    #[schemars(range(min = 1, max = 67_108_864))]
    pub upstream_message_bytes_max: usize,
    /// for which a peer may take no byte of a write
    #[schemars(range(min = 1))]
    pub write_timeout_ms: u64,
    /// silence after which a ping is sent
    #[schemars(range(min = 1))]
    pub ping_interval_ms: u64,
    /// silence after a ping that ends the connection
    #[schemars(range(min = 1))]
    pub pong_timeout_ms: u64,
    /// until the upstream has accepted the connection
    #[schemars(range(min = 1))]
    pub upstream_connect_timeout_ms: u64,
    /// until the upstream has answered the upgrade
    #[schemars(range(min = 1))]
    pub upstream_header_timeout_ms: u64,
    /// failures in a row after which an upstream is left alone
    #[schemars(range(min = 1))]
    pub upstream_failures_max: u32,
    /// for how long, until it is tried again
    #[schemars(range(min = 1))]
    pub upstream_eject_ms: u64,
    /// bytes of the read buffer of one socket
    #[schemars(range(min = 256, max = 1_048_576))]
    pub read_buffer_bytes: usize,
    /// bytes of memory that the process may have; 0: what its control group allows
    pub memory_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 100_000,
            header_bytes_max: 16_384,
            headers_max: 100,
            header_timeout_ms: 5000,
            upgrades_per_second_max: 1000,
            handshake_addresses_max: 100_000,
            identities_max: 200_000,
            connect_timeout_ms: 10_000,
            polling_sessions_max: 10_000,
            polling_body_bytes_max: 1_000_000,
            polling_packets_max: 500,
            pending_max: 10_000,
            pending_per_address: 100,
            check_connections_max: 100_000,
            check_idle_ms: 120_000,
            check_body_bytes_max: 2_097_152,
            check_requests_max: 256,
            inspection_ms_per_second: 200,
            keys_max: 10_000,
            attachments_max: 10,
            namespaces_max: 16,
            token_bytes_max: picket_shared::token::TOKEN_BYTES_MAX,
            identifier_bytes_max: picket_shared::audit::IDENTIFIER_BYTES_MAX,
            fragments_max: 1024,
            message_timeout_ms: 30_000,
            control_frames_max: 50,
            upstream_message_bytes_max: 16_777_216,
            write_timeout_ms: 10_000,
            ping_interval_ms: 25_000,
            pong_timeout_ms: 20_000,
            upstream_connect_timeout_ms: 3000,
            upstream_header_timeout_ms: 10_000,
            upstream_failures_max: 3,
            upstream_eject_ms: 10_000,
            read_buffer_bytes: 2048,
            memory_bytes_max: 0,
        }
    }
}

impl Limits {
    pub fn inspection_per_second(&self) -> Duration {
        Duration::from_millis(self.inspection_ms_per_second.into())
    }

    pub fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RouteConfig {
    /// prefix of the request's path
    pub path: String,
    /// host names that this route serves; empty: any
    #[serde(default)]
    pub hosts: Vec<String>,
    /// `http://`, `ws://`, `https://` or `wss://`, one or a list of them; with a path it replaces the prefix, without one the
    /// request's path is kept
    pub upstream: UpstreamUrls,
    /// how `https://` and `wss://` upstreams are known
    #[serde(default)]
    pub upstream_tls: Option<UpstreamTls>,
    pub protocol: Protocol,
    /// How a refused upgrade is answered. `accept-then-close` takes it and closes it with the reason's code and token, which
    /// browsers show their page; of an HTTP status they show nothing. An overloaded node answers by HTTP in either case.
    #[serde(default)]
    pub deny_mode: DenyMode,
    /// `json`, `msgpack`: top-level name or JSON pointer of the event's name
    #[serde(default = "default_event_field")]
    pub event_field: String,
    /// `json`, `msgpack`: a template of the answer to a refused message, for applications whose protocol has an error of its own
    #[serde(default)]
    pub refusal: Option<serde_json::Value>,
    /// `socketio`: the transports that clients may use
    #[serde(default = "default_transports")]
    pub transports: Vec<Transport>,
    /// `socketio`: how the application's server and clients write packets
    #[serde(default)]
    pub parser: Parser,
}

/// where a route's connections go: the least busy of those that are well
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum UpstreamUrls {
    One(String),
    Several(Vec<String>),
}

impl UpstreamUrls {
    pub fn urls(&self) -> &[String] {
        match self {
            UpstreamUrls::One(url) => std::slice::from_ref(url),
            UpstreamUrls::Several(urls) => urls,
        }
    }
}

impl From<String> for UpstreamUrls {
    fn from(url: String) -> Self {
        UpstreamUrls::One(url)
    }
}

fn default_event_field() -> String {
    "type".into()
}

fn default_transports() -> Vec<Transport> {
    vec![Transport::Polling, Transport::WebSocket]
}

/// a transport of Engine.IO
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Polling,
    WebSocket,
}

/// a parser of Socket.IO, as its server and clients have it as their `parser`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Parser {
    /// text, with binary apart
    #[default]
    Default,
    /// `socket.io-msgpack-parser`
    MsgPack,
}

/// how the bytes of a route are understood
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Engine.IO 4 and Socket.IO 5
    SocketIo,
    /// one JSON value per text message
    Json,
    /// one MessagePack value per binary message
    MsgPack,
    /// free text
    Text,
    /// not looked into: size and rate only
    Opaque,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DenyMode {
    #[default]
    Http,
    AcceptThenClose,
}

/// how tokens are found and judged
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct AuthConfig {
    /// where a token may stand, first found wins: socketio-auth, authorization, subprotocol, `query:NAME`, `cookie:NAME`
    pub token_sources: Vec<String>,
    /// what becomes of a token that is not valid: the connection is refused, or anonymous
    pub invalid_token: InvalidToken,
    /// JSON Web Tokens (RFC 7519)
    pub jwt: JwtConfig,
    /// opaque tokens that an endpoint of the application vouches for
    pub sessions: SessionsConfig,
}

impl Default for AuthConfig {
    fn default() -> Self {
        AuthConfig {
            token_sources: vec!["socketio-auth".into(), "authorization".into()],
            invalid_token: InvalidToken::Refuse,
            jwt: JwtConfig::default(),
            sessions: SessionsConfig::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InvalidToken {
    #[default]
    Refuse,
    Anonymous,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct JwtConfig {
    /// whose tokens are believed
    pub issuers: Vec<IssuerConfig>,
    /// the claim with the user's id
    pub user_claim: String,
    /// the claim with a role or a list of roles
    pub role_claim: String,
    /// how long a token may live (`exp` less `iat` or, where that is missing, less the time at which it is used): one that lives longer is
    /// refused, and a revocation is remembered for so long
    #[schemars(range(min = 60_000, max = 315_360_000_000_u64))]
    pub max_token_age_ms: u64,
}

impl Default for JwtConfig {
    fn default() -> Self {
        JwtConfig {
            issuers: Vec::new(),
            user_claim: "sub".into(),
            role_claim: "role".into(),
            max_token_age_ms: u64::try_from(picket_shared::token::TOKEN_AGE_MAX.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct SessionsConfig {
    /// redis is not available in this version
    pub mode: SessionsMode,
    /// asked with `GET` and the bearer token; 200 with a JSON object is valid, 401, 403 or `null` is not
    pub introspect_url: Option<String>,
    /// JSON pointer to the user's id in the answer
    pub user_pointer: String,
    /// JSON pointer to a role or a list of roles
    pub role_pointer: String,
    /// how long an answer holds
    #[schemars(range(max = 3_600_000))]
    pub cache_ms: u64,
}

impl Default for SessionsConfig {
    fn default() -> Self {
        SessionsConfig {
            mode: SessionsMode::Off,
            introspect_url: None,
            user_pointer: "/user/id".into(),
            role_pointer: "/user/role".into(),
            cache_ms: 30_000,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionsMode {
    #[default]
    Off,
    Introspect,
    Redis,
}
