//! The management API and the dashboard: one endpoint, one file. Everything lies behind [`auth`], paths that do not exist included.

mod analytics;
mod audit_logs;
pub(crate) mod auth;
mod block_ip;
mod blocks;
mod canary;
mod change;
mod config;
mod csv;
mod dashboard;
mod explanation;
mod export;
mod guard;
mod harm;
mod health;
mod history;
mod idempotency;
mod input;
mod login;
mod logout;
mod metrics;
mod nodes;
mod ocsf;
mod openapi;
mod pages;
mod preview;
mod problem;
mod report;
mod reputation;
mod revoke;
mod rollback;
mod routes;
mod stream;
mod subjects;
mod unblock_ip;
mod what_if;

#[cfg(test)]
mod tests;

use axum::extract::{DefaultBodyLimit, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use ipnet::IpNet;
use picket_shared::audit::{AuditRecord, EventType, Outbox, Severity};
use picket_shared::clock::{Clock, Timestamp};
use picket_shared::listener::Listener;
use picket_shared::state::{BlockView, LivePolicy};
use picket_shared::tasks::Tasks;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

use crate::alarms::Alarms;
use crate::enforcement::Enforcement;
use crate::load::Load;
use crate::metrics::Instruments;
use crate::store::AuditStore;
use crate::tail::Tail;
pub(crate) use analytics::Cache as AnalyticsCache;
pub(crate) use export::Slots as Exports;
pub(crate) use idempotency::Untold;
pub(crate) use stream::Streams;
pub(crate) use what_if::Turn;

use auth::{Caller, Gate};
use problem::Problem;
use routes::Routes;

/// where the operations are
const BASE: &str = "/api/security";
/// the largest body of a request
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// what the endpoints work with
pub(crate) struct Api {
    pub(crate) id: String,
    pub(crate) started: Timestamp,
    pub(crate) gate: Gate,
    pub(crate) state: picket_shared::state::State,
    pub(crate) policy: LivePolicy,
    pub(crate) blocks: BlockView,
    pub(crate) store: AuditStore,
    pub(crate) enforcement: Arc<Enforcement>,
    pub(crate) alarms: Arc<Alarms>,
    pub(crate) load: Arc<Load>,
    pub(crate) outbox: Outbox,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    pub(crate) instruments: Instruments,
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// how long an application's token may live
    pub(crate) token_age_max: Duration,
    pub(crate) exports: export::Slots,
    pub(crate) untold: idempotency::Untold,
    pub(crate) what_if: what_if::Turn,
    pub(crate) analytics: analytics::Cache,
    pub(crate) streams: stream::Streams,
    pub(crate) tail: Arc<Tail>,
}

type Shared = State<Arc<Api>>;

impl Api {
    /// records what an administrator did
    fn record(
        &self,
        kind: EventType,
        severity: Severity,
        caller: &Caller,
        message: &str,
        details: impl FnOnce(AuditRecord) -> AuditRecord,
    ) {
        let record = AuditRecord::new(kind, severity, caller.address, message, self.clock.now())
            .with("actor", caller.name.as_str());
        self.outbox.record(AuditRecord { node: Some(self.id.clone()), ..details(record) });
    }
}

/// serves until the tasks are told to stop
pub(crate) async fn serve(listener: Listener, api: Api) {
    let tasks = api.tasks.clone();
    crate::listener::serve(listener, router(Arc::new(api)), tasks).await;
}

/// every operation
fn routes() -> Routes {
    Routes::default()
        .get("/metrics", metrics::get, metrics::describe())
        .get("/audit-logs", audit_logs::get, audit_logs::describe())
        .get("/audit-logs/export", export::get, export::describe())
        .get("/audit-logs/{id}/explanation", explanation::get, explanation::describe())
        .delete("/subjects/{userId}", subjects::delete, subjects::describe())
        .get("/dashboard", dashboard::get, dashboard::describe())
        .get("/health", health::get, health::describe())
        .get("/config", config::get, config::describe_get())
        .put("/config", config::put, config::describe_put())
        .get("/config/history", history::get, history::describe())
        .post("/config/rollback", rollback::post, rollback::describe())
        .post("/config/what-if", what_if::post, what_if::describe())
        .post("/block-ip", block_ip::post, block_ip::describe())
        .post("/unblock-ip", unblock_ip::post, unblock_ip::describe())
        .get("/blocks", blocks::get, blocks::describe())
        .post("/revoke", revoke::post, revoke::describe())
        .get("/reputation/{ip}", reputation::get, reputation::describe())
        .get("/report", report::get, report::describe())
        .get("/nodes", nodes::get, nodes::describe())
        .post("/login", login::post, login::describe())
        .post("/logout", logout::post, logout::describe())
        .get("/stream", stream::get, stream::describe())
        .get("/openapi.json", openapi::get, openapi::describe())
}

fn router(api: Arc<Api>) -> Router {
    let routes = routes();
    let document = openapi::Document::of(routes.list());
    let pages = pages::routes().fold(Router::new(), |router, (path, page)| router.route(path, page));
    pages
        .nest(BASE, routes.into_router(&api))
        .layer(Extension(document))
        .fallback(async || Problem::not_found("there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(http::StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(api.clone(), auth::authenticate))
        .layer(middleware::from_fn_with_state(api.clone(), guard::guard))
        .with_state(api)
}

/// `{"success": true, "data": …}`
struct Success<T>(T);

impl<T: Serialize> IntoResponse for Success<T> {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Envelope<T> {
            success: bool,
            data: T,
        }
        Json(Envelope { success: true, data: self.0 }).into_response()
    }
}

type Answer<T> = Result<Success<T>, Problem>;
