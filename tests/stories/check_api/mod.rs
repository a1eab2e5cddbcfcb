//! The check API: an application that keeps its own server in front asks, and is told what the proxy would do.

mod both_doors;
mod connections;
mod proxies;
mod questions;
mod shadow;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Application, HOME, Picket, PicketBuilder, Upstream};

pub const ALICE: &str = "198.51.100.7";
pub const MALLORY: &str = "198.51.100.66";

/// A gateway and a check API over one state; the upstream lives as long as the story needs it.
pub async fn both_doors() -> (Upstream, PicketBuilder) {
    let upstream = Upstream::echo().await;
    let builder = Picket::guarding(&upstream).checking();
    (upstream, builder)
}

pub fn allowed() -> Value {
    json!({ "allowed": true })
}

#[track_caller]
pub fn is_refused(verdict: &Value, reason: &str) {
    assert_eq!((&verdict["allowed"], &verdict["reason"]), (&json!(false), &json!(reason)), "{verdict}");
}

/// `GET /v1/authz` for a client: the status, and the reason where there is one.
pub async fn authorizes(application: &Application, ip: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let reply = application
        .sends(Method::GET, "/v1/authz", |request| {
            let request = request.header("X-Forwarded-For", ip);
            let request = match headers.iter().any(|(name, _)| *name == "Origin") {
                true => request,
                false => request.header("Origin", HOME),
            };
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
        })
        .await;
    let reason = reply.headers.get("x-picket-reason").map_or("", |reason| reason.to_str().unwrap()).to_owned();
    (reply.status, reason)
}
