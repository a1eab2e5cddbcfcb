//! A coordinator on a port of its own, with the embedded state, a temporary store and a clock that is moved by hand.

use argon2::password_hash::PasswordHasher;
use http::{HeaderMap, Method};
use picket_shared::audit::{AuditRecord, Outbox};
use picket_shared::clock::{Clock, ManualClock, Timestamp};
use picket_shared::policy::{Environment, Policy};
use picket_shared::reason::Reason;
use picket_shared::secret::Secret;
use picket_shared::state::{
    BlockView, FilePolicy, LivePolicy, Mode, NodeStatus, OnLostRevocations, PolicySource, RevocationView, State,
    TrafficSnapshot, follow_blocks, follow_policy, follow_revocations,
};
use picket_shared::tasks::Tasks;
use picket_shared::telemetry::Metrics;
use picket_shared::token::{IssuerConfig, SigningAlgorithm, sign};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::api_keys::{self, ApiKeyConfig};
use crate::config::{AdminConfig, CoordinatorConfig, Scope};
use crate::{Parts, start};

pub const ADMIN: &str = "warden";
pub const PASSWORD: &str = "canary-password-81bd20c4f6";
pub const SECRET: &str = "canary-secret-of-the-management-issuer";
pub const START: Timestamp = Timestamp::from_millis(1_764_000_000_000);

pub struct OfficeBuilder {
    config: CoordinatorConfig,
    policy: Policy,
    state: State,
    trusted_proxies: Vec<&'static str>,
}

pub struct Office {
    pub address: SocketAddr,
    pub ops: SocketAddr,
    pub state: State,
    pub clock: Arc<ManualClock>,
    pub metrics: Metrics,
    pub folder: tempfile::TempDir,
    tasks: Tasks,
    outbox: Outbox,
}

impl OfficeBuilder {
    pub fn policy(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(&mut self.policy);
        self
    }

    /// puts something before a part of the state
    pub fn state(mut self, change: impl FnOnce(&mut State)) -> Self {
        change(&mut self.state);
        self
    }

    pub fn without_credential(mut self) -> Self {
        self.config.admin = AdminConfig::default();
        self
    }

    pub fn behind(mut self, proxy: &'static str) -> Self {
        self.trusted_proxies.push(proxy);
        self
    }

    pub fn with_key(mut self, name: &str, key: &Secret, scopes: &[Scope]) -> Self {
        let key_hash = Some(api_keys::hash(key));
        let key = ApiKeyConfig { name: name.into(), key_hash, key_file: None, scopes: scopes.to_vec() };
        self.config.api_keys.push(key);
        self
    }

    pub fn with_tokens(mut self) -> Self {
        self.config.tokens = Some(issuer());
        self
    }

    pub async fn start(mut self) -> Office {
        let folder = tempfile::tempdir().unwrap();
        self.config.audit_store = format!("sqlite:{}", folder.path().join("data/audit.db").display());
        let (state, clock, tasks, outbox) =
            (self.state, Arc::new(ManualClock::at(START)), Tasks::default(), Outbox::default());
        let policy = LivePolicy::starting_with(self.policy, Environment::Production).unwrap();
        let blocks = BlockView::default();
        let metrics = Metrics::start("test").unwrap();
        let mut versions = policy.changes();
        let file = FilePolicy { policy: policy.current().document.clone(), source: PolicySource::State };
        tasks.spawn("policy", follow_policy(policy.clone(), state.policies.clone(), file, START, tasks.stopped()));
        tasks.spawn("blocks", follow_blocks(blocks.clone(), state.blocks.clone(), clock.clone(), tasks.stopped()));
        let revocations = RevocationView::default();
        let (view, list, on_loss) = (revocations.clone(), state.revocations.clone(), OnLostRevocations::Wait);
        tasks.spawn("revocations", follow_revocations(view, list, clock.clone(), on_loss, tasks.stopped()));
        tasks.spawn("outbox", outbox.clone().deliver(state.audit.clone(), clock.clone(), tasks.stopped()));
        versions.changed().await.unwrap();
        let running = start(Parts {
            config: self.config,
            id: "office-1".into(),
            state: state.clone(),
            policy,
            blocks,
            revocations,
            outbox: outbox.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            metrics: metrics.clone(),
            trusted_proxies: self.trusted_proxies.iter().map(|text| text.parse().unwrap()).collect(),
            token_age_max: picket_shared::token::TOKEN_AGE_MAX,
            is_alone: true,
        })
        .await
        .unwrap();
        Office { address: running.management, ops: running.ops.unwrap(), state, clock, metrics, folder, tasks, outbox }
    }
}

impl Office {
    pub fn builder() -> OfficeBuilder {
        let cheap = argon2::Argon2::new(
            argon2::Algorithm::Argon2id,
            argon2::Version::V0x13,
            argon2::Params::new(8, 1, 1, None).unwrap(),
        );
        let hash = cheap.hash_password(PASSWORD.as_bytes()).unwrap().to_string();
        let admin = AdminConfig { username: Some(ADMIN.into()), password_hash: Some(Secret::new(hash)) };
        let anywhere = ([127, 0, 0, 1], 0).into();
        let config =
            CoordinatorConfig { listen: anywhere, ops_listen: anywhere, admin, ..CoordinatorConfig::default() };
        OfficeBuilder { config, policy: Policy::default(), state: State::memory(), trusted_proxies: Vec::new() }
    }

    pub async fn open() -> Office {
        Self::builder().start().await
    }

    pub fn admin(&self) -> Visitor<'_> {
        self.visitor(ADMIN, PASSWORD)
    }

    pub fn stranger(&self) -> Visitor<'_> {
        Visitor { office: self, login: Login::None, from: None }
    }

    pub fn visitor(&self, name: &str, password: &str) -> Visitor<'_> {
        Visitor { office: self, login: Login::Basic(name.into(), password.into()), from: None }
    }

    pub fn bearer(&self, claims: Value) -> Visitor<'_> {
        let mut all =
            json!({ "iss": "management", "aud": "picket", "sub": "carol", "exp": START.as_millis() / 1000 + 600 });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let token = sign(&issuer(), all.as_object().unwrap()).unwrap();
        Visitor { office: self, login: Login::Bearer(token), from: None }
    }

    pub fn with_key(&self, key: &Secret) -> Visitor<'_> {
        Visitor { office: self, login: Login::Bearer(key.expose().to_owned()), from: None }
    }

    pub fn refuses(&self, reason: Reason, address: &str) {
        self.hears(AuditRecord::refusal(reason, address.parse().unwrap(), self.clock.now()));
    }

    pub fn hears(&self, record: AuditRecord) {
        self.outbox.record(record);
    }

    pub async fn has_node(&self, id: &str, traffic: TrafficSnapshot) {
        self.has_node_that(id, traffic, |_| ()).await;
    }

    pub async fn has_node_that(&self, id: &str, traffic: TrafficSnapshot, says: impl FnOnce(&mut NodeStatus)) {
        let mut status = NodeStatus {
            id: id.into(),
            version: "0.1.0".into(),
            mode: Mode::Normal,
            policy_version: 1,
            connections: traffic.active_connections,
            last_seen: self.clock.now(),
            traffic,
            decisions: None,
            knows_countries: None,
            enforce: Default::default(),
            is_switched: false,
            on_trial: false,
            clock_offset_ms: 0,
        };
        says(&mut status);
        self.state.nodes.node_alive(status).await.unwrap();
    }

    /// the records of a query, newest first, once there are at least `count`
    pub async fn audited(&self, query: &str, count: usize) -> Vec<Value> {
        let path = format!("/audit-logs?{query}");
        eventually(&format!("{count} records for {query}"), async || {
            let logs = self.admin().get(&path).await.data()["logs"].as_array().unwrap().clone();
            (logs.len() >= count).then_some(logs)
        })
        .await
    }

    pub async fn closes(self) -> tempfile::TempDir {
        assert!(self.tasks.stop(Duration::from_secs(10)).await, "every task ends");
        self.folder
    }
}

pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let patience = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if let Some(found) = attempt().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    patience.await.unwrap_or_else(|_| panic!("{what}: did not happen"))
}

fn issuer() -> IssuerConfig {
    IssuerConfig {
        issuer: "management".into(),
        audience: "picket".into(),
        algorithms: vec![SigningAlgorithm::HS256],
        secret: Some(Secret::new(SECRET)),
        secret_file: None,
        public_key_file: None,
        jwks_url: None,
        ca_file: None,
    }
}

enum Login {
    None,
    Basic(String, String),
    Bearer(String),
}

pub struct Visitor<'a> {
    office: &'a Office,
    login: Login,
    from: Option<&'static str>,
}

impl Visitor<'_> {
    /// through a trusted proxy
    pub fn from(self, address: &'static str) -> Self {
        Visitor { from: Some(address), ..self }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.asks(Method::GET, &format!("/api/security{path}"), |request| request).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.asks(Method::POST, &format!("/api/security{path}"), |request| request.json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.asks(Method::PUT, &format!("/api/security{path}"), |request| request.json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        let json = |request: RequestBuilder| request.header("content-type", "application/json");
        self.asks(Method::DELETE, &format!("/api/security{path}"), json).await
    }

    pub async fn asks(&self, method: Method, path: &str, with: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Reply {
        let response = self.sends(method.clone(), path, with).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let reply = Reply { status, headers, text: response.text().await.unwrap() };
        super::openapi::is_described(&method, path, &reply);
        reply
    }

    /// the answer as it comes
    pub async fn sends(
        &self,
        method: Method,
        path: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> reqwest::Response {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.request(method, format!("http://{}{path}", self.office.address));
        request = match &self.login {
            Login::None => request,
            Login::Basic(name, password) => request.basic_auth(name, Some(password)),
            Login::Bearer(token) => request.bearer_auth(token),
        };
        if let Some(address) = self.from {
            request = request.header("X-Forwarded-For", address);
        }
        with(request).send().await.unwrap()
    }
}

pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {} {}", self.status, self.text))
    }

    pub fn data(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        assert_eq!(self.json()["success"], true, "{}", self.text);
        self.json()["data"].clone()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// a problem document of this status
    pub fn fails_with(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        let problem = self.json();
        for field in ["type", "title", "detail", "error"] {
            assert!(problem[field].is_string(), "{field}: {problem}");
        }
        assert!(problem["errors"].is_array(), "{problem}");
        assert_eq!((&problem["success"], &problem["status"]), (&json!(false), &json!(status)), "{problem}");
        problem
    }

    /// the paths of the mistakes
    pub fn mistakes(&self) -> Vec<String> {
        let problem = self.fails_with(422);
        problem["errors"].as_array().unwrap().iter().map(|error| error["path"].as_str().unwrap().to_owned()).collect()
    }
}
