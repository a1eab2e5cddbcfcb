//! The administrator at the management API.

use std::net::SocketAddr;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::events::Events;
use super::patience::{eventually, within};

pub struct Admin {
    base: String,
    http: reqwest::Client,
    credential: Option<(String, String)>,
}

pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Admin {
    pub fn new(management: SocketAddr, credential: Option<(String, String)>) -> Self {
        Self { base: format!("http://{management}/api/security"), http: http(), credential }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.asks(Method::GET, path, |request| request).await
    }

    pub async fn get_bearing(&self, path: &str, token: &str) -> Reply {
        self.asks(Method::GET, path, |request| request.bearer_auth(token)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.asks(Method::POST, path, |request| request.json(&body)).await
    }

    /// Takes a person out of the trail.
    pub async fn erases(&self, user: &str) -> Value {
        let path = format!("/subjects/{user}");
        let json = |request: RequestBuilder| request.header(CONTENT_TYPE, "application/json");
        let erased = self.asks(Method::DELETE, &path, json).await.data();
        assert_eq!(erased["complete"], true, "{erased}");
        erased
    }

    pub async fn asks(&self, method: Method, path: &str, with: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Reply {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some((name, password)) = &self.credential {
            request = request.basic_auth(name, Some(password));
        }
        Reply::to(with(request), path).await
    }

    /// The stream of audit records of a query, from behind the one that was heard last.
    pub async fn listens(&self, query: &str, last: Option<&str>) -> Events {
        let mut request = self.http.get(format!("{}/stream?{query}", self.base));
        if let Some((name, password)) = &self.credential {
            request = request.basic_auth(name, Some(password));
        }
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        Events::of(within("the stream opens", request.send()).await.unwrap()).await
    }

    pub async fn changes_policy(&self, patch: Value) -> Reply {
        self.asks(Method::PUT, "/config", |request| request.json(&patch)).await
    }

    pub async fn changes_policy_if(&self, version: &str, patch: Value) -> Reply {
        self.asks(Method::PUT, "/config", |request| request.json(&patch).header("If-Match", format!("\"{version}\"")))
            .await
    }

    /// The policy's version, as it would stand in `If-Match`.
    pub async fn policy_version(&self) -> String {
        let version = self.get("/config").await.data()["version"].clone();
        version.as_str().map_or_else(|| version.to_string(), str::to_owned)
    }

    pub async fn blocks(&self, ip: &str) {
        self.post("/block-ip", json!({ "ip": ip, "reason": "a story" })).await.succeeds();
    }

    pub async fn unblocks(&self, ip: &str) -> Reply {
        self.post("/unblock-ip", json!({ "ip": ip, "reason": "a story" })).await
    }

    /// Whether `GET /blocks` lists the address or prefix.
    pub async fn lists_block(&self, ip: &str) -> bool {
        let data = self.get("/blocks").await.data();
        let entries =
            data.as_array().or_else(|| data["blocks"].as_array()).unwrap_or_else(|| panic!("a list of blocks: {data}"));
        entries
            .iter()
            .filter_map(|block| block["ip"].as_str())
            .any(|listed| listed == ip || listed.strip_suffix("/32") == Some(ip))
    }

    pub async fn audit(&self, query: &str) -> Vec<Value> {
        let data = self.get(&format!("/audit-logs?{query}")).await.data();
        data["logs"].as_array().unwrap_or_else(|| panic!("logs: {data}")).clone()
    }

    /// The records of a query, newest first, once there are at least `count`.
    pub async fn audited(&self, query: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} audit records for {query}"), async || {
            let logs = self.audit(query).await;
            (logs.len() >= count).then_some(logs)
        })
        .await
    }

    /// Waits until the metrics say so.
    pub async fn counts(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let last = std::sync::Mutex::new(Value::Null);
        let counted = tokio::time::timeout(
            std::time::Duration::from_secs(9),
            eventually(what, async || {
                let metrics = self.get("/metrics").await.data();
                *last.lock().unwrap() = metrics.clone();
                holds(&metrics).then_some(metrics)
            }),
        )
        .await;
        counted.unwrap_or_else(|_| panic!("{what}: the metrics stayed {}", last.lock().unwrap()))
    }
}

impl Reply {
    pub async fn from(url: &str) -> Self {
        Self::to(http().get(url), url).await
    }

    pub async fn accepting(url: &str, media_type: &str) -> Self {
        Self::to(http().get(url).header(ACCEPT, media_type), url).await
    }

    async fn to(request: RequestBuilder, what: &str) -> Self {
        let response = within(what, request.send()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = within(what, response.text()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        Self { status, headers, text }
    }

    pub fn content_type(&self) -> &str {
        self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("not JSON ({error}), status {}: {}", self.status, self.text))
    }

    pub fn succeeds(&self) -> Value {
        assert!((200..300).contains(&self.status), "status {}: {}", self.status, self.text);
        let body = self.json();
        assert_eq!(body["success"], true, "{body}");
        body
    }

    pub fn data(&self) -> Value {
        self.succeeds()["data"].clone()
    }

    /// Refused with a problem document.
    pub fn fails_with(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert!(self.content_type().starts_with("application/problem+json"), "{}: {}", self.content_type(), self.text);
        let problem = self.json();
        assert_eq!(problem["success"], false, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["title"].is_string() && problem["error"].is_string(), "{problem}");
        problem
    }
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}
