//! The ops listener of a coordinator that runs by itself: liveness, readiness and metrics, apart from the management API.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use picket_shared::state::LivePolicy;
use picket_shared::telemetry::{Exemplars, Metrics};
use serde_json::json;

use crate::store::AuditStore;

#[derive(Clone)]
pub(crate) struct Ops {
    pub(crate) store: AuditStore,
    pub(crate) policy: LivePolicy,
    pub(crate) metrics: Metrics,
}

pub(crate) fn router(ops: Ops) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(ops)
}

/// the process runs
async fn livez() -> Json<serde_json::Value> {
    Json(json!({ "status": "alive" }))
}

/// Whether the store answers. Not Redis: while it is away the dashboard is wanted most.
async fn readyz(State(ops): State<Ops>) -> Response {
    let status = match ops.store.check().await {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(json!({ "store": status.is_success(), "policyVersion": ops.policy.version() }))).into_response()
}

async fn metrics(State(ops): State<Ops>, headers: HeaderMap) -> Response {
    let is_enabled = ops.policy.current().document.monitoring.enable_metrics;
    ops.metrics.answer(is_enabled, &headers, &Exemplars::default()).into_response()
}
