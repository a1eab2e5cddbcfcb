//! The ops listener: liveness, readiness and metrics, apart from the data port.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use picket_shared::telemetry::Metrics;
use serde_json::json;
use std::sync::Arc;

use crate::gate::Gate;
use crate::membership::Membership;

#[derive(Clone)]
pub struct Ops {
    pub gate: Arc<Gate>,
    pub membership: Arc<Membership>,
    pub metrics: Metrics,
}

pub fn router(ops: Ops) -> Router {
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

/// whether a load balancer should send connections here
async fn readyz(State(ops): State<Ops>) -> Response {
    let mode = ops.membership.mode();
    let status = if ops.membership.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let policy = &ops.gate.policy;
    let enforce = policy.enforcement().mode();
    (status, Json(json!({ "mode": mode, "policyVersion": policy.version(), "enforce": enforce }))).into_response()
}

async fn metrics(State(ops): State<Ops>, headers: HeaderMap) -> Response {
    let is_enabled = ops.gate.policy.current().document.monitoring.enable_metrics;
    ops.metrics.answer(is_enabled, &headers, ops.gate.instruments.exemplars()).into_response()
}
