//! The check API: the second door to the two pipelines, for applications that keep their own server in front.
//!
//! The application asks about each connection and each event, and carries out what it is told. Same checks, same limits, same
//! records as at the proxy: only who moves the bytes differs.

mod authz;
mod body;
mod connection;
mod connections;
mod event;
mod guard;
mod listener;
mod problem;
mod verdict;

pub use listener::open;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, delete, get, post};
use ipnet::IpNet;
use picket_shared::address::canonical_networks;
use picket_shared::secret::Secret;
use picket_shared::tasks::Tasks;
use std::sync::Arc;
use tokio::sync::Semaphore;

use self::connections::Connections;
use self::guard::Guard;
use self::problem::Problem;
use crate::gate::Gate;

pub struct CheckApi {
    gate: Arc<Gate>,
    tasks: Tasks,
    connections: Connections,
    guard: Guard,
    trusted_proxies: Vec<IpNet>,
}

impl CheckApi {
    pub fn new(gate: Arc<Gate>, tasks: Tasks, token: Secret, trusted_proxies: &[IpNet]) -> Self {
        CheckApi {
            connections: Connections::new(&gate.limits),
            guard: Guard::new(token, Semaphore::new(gate.limits.check_requests_max)),
            trusted_proxies: canonical_networks(trusted_proxies),
            gate,
            tasks,
        }
    }

    /// gives every slot back: the node leaves, and the application asks another one
    pub fn forget_all(&self) {
        self.connections.clear();
    }
}

fn router(api: Arc<CheckApi>) -> Router {
    Router::new()
        .route("/v1/check/connection", post(connection::check))
        .route("/v1/check/connection/{id}", delete(connection::end))
        .route("/v1/check/event", post(event::check))
        .route("/v1/authz", get(authz::check))
        // Envoy appends the path of the request that it asks about, and keeps its method.
        .route("/v1/authz/{*path}", any(authz::check))
        .fallback(|| async { Problem::not_found("nothing is here; see docs/check-api.md") })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(from_fn_with_state(api.clone(), guard::pass))
        .with_state(api)
}
