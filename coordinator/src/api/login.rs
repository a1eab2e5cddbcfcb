//! `POST /login`: opens a session for a browser that proves the management credential.

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::StatusCode;
use http::header::SET_COOKIE;
use picket_shared::clock::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::auth::{Claim, ClientAddress, SESSION_LIFE, Session, cookie};
use super::input::{Input, NoQuery};
use super::openapi::{Access, Operation};
use super::problem::Problem;
use super::{Shared, Success};
use picket_shared::secret::Secret;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    #[schemars(length(min = 1, max = 256))]
    username: String,
    password: Secret,
}

#[derive(Serialize, JsonSchema)]
struct LoggedIn {
    name: String,
    ends: Timestamp,
}

pub(super) async fn post(
    State(api): Shared,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    headers: HeaderMap,
    _: NoQuery,
    Input(input): Input<Login>,
) -> Result<Response, Problem> {
    let claim = Claim::Password { name: input.username, password: input.password.expose().to_owned() };
    let caller = api.gate.log_in(claim, address).await?;
    let now = api.clock.now();
    let session = Session { name: caller.name.clone(), scopes: caller.scopes, ends: now.plus(SESSION_LIFE) };
    let answer = LoggedIn { name: caller.name, ends: session.ends };
    api.gate.sessions.close(&headers);
    let id = api.gate.sessions.open(session, now);
    let cookie = cookie(&id, SESSION_LIFE, &headers)
        .ok_or_else(|| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no session"))?;
    Ok(([(SET_COOKIE, cookie)], Success(answer)).into_response())
}

pub(super) fn describe() -> Operation {
    Operation::new(Access::Open, "Opens a session for a browser that proves the management credential")
        .body::<Login>(json!({ "username": "admin", "password": "correct horse battery staple" }))
        .gives::<LoggedIn>("the session is in a cookie")
        .with_header("Set-Cookie", "`HttpOnly; SameSite=Strict`")
}
