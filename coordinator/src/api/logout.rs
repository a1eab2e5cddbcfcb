//! `POST /logout`: ends the session of the request's cookie.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode};
use picket_shared::audit::{EventType, Severity};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;

use super::auth::{Caller, cookie};
use super::input::{Input, NoQuery};
use super::openapi::{Access, Operation};
use super::problem::Problem;
use super::{Shared, Success};

/// nothing
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Logout {}

pub(super) async fn post(
    State(api): Shared,
    caller: Caller,
    headers: HeaderMap,
    _: NoQuery,
    Input(input): Input<Logout>,
) -> Result<Response, Problem> {
    api.gate.sessions.close(&headers);
    api.record(EventType::AdminAction, Severity::Low, &caller, "logout from the management API", |record| record);
    let cookie = cookie("", Duration::ZERO, &headers)
        .ok_or_else(|| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no session"))?;
    Ok(([(SET_COOKIE, cookie)], Success(input)).into_response())
}

pub(super) fn describe() -> Operation {
    Operation::new(Access::Known, "Ends the session of the request's cookie")
        .body::<Logout>(json!({}))
        .gives::<Logout>("the session is over")
        .with_header("Set-Cookie", "removes the cookie")
}
