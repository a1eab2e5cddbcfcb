//! The demo's page: static files under a strict content security policy, and the newest audit records.
//!
//! Only loopback, and only requests that name this machine: a foreign name that resolves here (DNS rebinding) sees nothing.

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use picket_shared::secret::Secret;
use picket_shared::tasks::Tasks;
use serde_json::{Value, json};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

const AUDIT_RECORDS: usize = 20;
const AUDIT_TIMEOUT: Duration = Duration::from_secs(2);

/// who may ask the management API for the audit records
pub struct Viewer {
    pub username: String,
    pub password: Secret,
}

/// what the page shows
pub struct Page {
    pub gateway: SocketAddr,
    pub management: SocketAddr,
    /// without one the audit panel stays empty
    pub viewer: Option<Viewer>,
}

struct Shown {
    page: Page,
    client: reqwest::Client,
    policy: HeaderValue,
}

impl Page {
    pub const PORT: u16 = 8082;

    /// serves the page on this port of the loopback address, or on one of the system's choice if it is taken
    pub async fn start(self, port: u16, tasks: &Tasks) -> anyhow::Result<SocketAddr> {
        let listener = listen(port).await?;
        let address = listener.local_addr()?;
        let routes = self.routes()?;
        let stopped = tasks.stopped();
        tasks.spawn("demo page", async move {
            if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stopped).await {
                tracing::warn!(%error, "demo page ended");
            }
        });
        tracing::info!(listener = "demo", %address, "listening");
        Ok(address)
    }

    fn chat_url(&self) -> String {
        format!("ws://localhost:{}/chat", self.gateway.port())
    }

    fn routes(self) -> anyhow::Result<Router> {
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' {}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            self.chat_url()
        );
        let client = reqwest::Client::builder().no_proxy().timeout(AUDIT_TIMEOUT).build()?;
        let shown = Arc::new(Shown { policy: HeaderValue::from_str(&policy)?, client, page: self });
        Ok(Router::new()
            .route("/", get(|| async { file("text/html; charset=utf-8", include_str!("page.html")) }))
            .route("/page.css", get(|| async { file("text/css; charset=utf-8", include_str!("page.css")) }))
            .route("/page.js", get(|| async { file("text/javascript; charset=utf-8", include_str!("page.js")) }))
            .route("/settings", get(settings))
            .route("/audit", get(audit))
            .layer(middleware::from_fn_with_state(shown.clone(), guard))
            .with_state(shown))
    }
}

async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await,
        outcome => outcome,
    }
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, kind)], text)
}

async fn settings(State(shown): State<Arc<Shown>>) -> Json<Value> {
    Json(json!({ "chat": shown.page.chat_url() }))
}

async fn audit(State(shown): State<Arc<Shown>>) -> Response {
    match latest(&shown).await {
        Ok(logs) => Json(logs).into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why.to_string()).into_response(),
    }
}

/// the newest records of the management API, and nothing else of it
async fn latest(shown: &Shown) -> anyhow::Result<Value> {
    let Some(viewer) = &shown.page.viewer else {
        anyhow::bail!("the management password is known as a hash only");
    };
    let url = format!("http://{}/api/security/audit-logs?limit={AUDIT_RECORDS}", reachable(shown.page.management));
    let request = shown.client.get(url).basic_auth(&viewer.username, Some(viewer.password.expose()));
    let mut answer: Value = request.send().await?.error_for_status()?.json().await?;
    Ok(answer["data"]["logs"].take())
}

/// where a listener can be reached from this machine
fn reachable(listener: SocketAddr) -> SocketAddr {
    if listener.ip().is_unspecified() { (Ipv4Addr::LOCALHOST, listener.port()).into() } else { listener }
}

async fn guard(State(shown): State<Arc<Shown>>, request: Request, next: Next) -> Response {
    if !names_this_machine(request.headers()) {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    }
    let mut response = next.run(request).await;
    let fixed: [(HeaderName, HeaderValue); 4] = [
        (CONTENT_SECURITY_POLICY, shown.policy.clone()),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    response.headers_mut().extend(fixed);
    response
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    matches!(host.rsplit_once(':').map_or(host, |(name, _)| name), "localhost" | "127.0.0.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn page(tasks: &Tasks) -> SocketAddr {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        Page { gateway: nowhere, management: nowhere, viewer: None }.start(0, tasks).await.unwrap()
    }

    #[tokio::test]
    async fn the_page_runs_its_own_script_only_and_connects_to_the_gateway_only() {
        let tasks = Tasks::default();
        let address = page(&tasks).await;
        let reply = reqwest::get(format!("http://{address}/")).await.unwrap();
        let policy = reply.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(
            policy.contains("script-src 'self'; ") && policy.contains("connect-src 'self' ws://localhost:1/chat;"),
            "{policy}"
        );
        let html = reply.text().await.unwrap();
        assert!(
            html.contains("page.js")
                && !html.contains("<script>")
                && !html.contains("style=")
                && !html.contains("onclick")
        );
        assert_eq!(reqwest::get(format!("http://{address}/audit")).await.unwrap().status(), 503);
        assert!(tasks.stop(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn a_foreign_name_that_resolves_here_sees_nothing() {
        let tasks = Tasks::default();
        let address = page(&tasks).await;
        let request =
            reqwest::Client::new().get(format!("http://{address}/audit")).header("Host", "evil.example.com:8082");
        assert_eq!(request.send().await.unwrap().status(), 421);
    }
}
