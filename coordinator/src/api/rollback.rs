//! `POST /config/rollback`: an earlier version comes into force again, as a new version.

use axum::extract::State;
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::auth::Caller;
use super::input::{Input, NoQuery};
use super::openapi::{self, Operation};
use super::problem::Problem;
use super::{Answer, Shared, Success, config};
use crate::scope::Scope;

/// how far back a rollback looks
const VERSIONS_MAX: usize = 1000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    #[schemars(range(min = 1, max = i64::MAX))]
    version: u64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RolledBack {
    version: u64,
    restored: u64,
}

pub(super) async fn post(
    State(api): Shared,
    caller: Caller,
    headers: HeaderMap,
    _: NoQuery,
    Input(input): Input<Rollback>,
) -> Answer<RolledBack> {
    let history = api.state.policies.history(VERSIONS_MAX).await?;
    let earlier = history.into_iter().find(|version| version.version == input.version);
    let earlier = earlier.ok_or_else(|| Problem::not_found(format!("version {} is not kept", input.version)))?;
    let message = format!("policy rolled back to version {}", input.version);
    // What was allowed then is judged by this version's rules.
    let changed =
        config::change(&api, &caller, config::expected_version(&headers)?, &message, |_| Ok(earlier.policy.clone()))
            .await?;
    Ok(Success(RolledBack { version: changed.version, restored: input.version }))
}

pub(super) fn describe() -> Operation {
    Operation::new(Scope::ConfigWrite, "An earlier policy comes into force again, as a new version")
        .header(
            "If-Match",
            openapi::any_text(),
            "the version that is in force, as `\"7\"`, or an `ETag` that showed it",
        )
        .body::<Rollback>(json!({ "version": 3 }))
        .gives::<RolledBack>("the new version, and the one that it restores")
        .example(json!({ "version": 9, "restored": 3 }))
        .fails(StatusCode::NOT_FOUND, "that version is not kept")
        .fails(StatusCode::PRECONDITION_FAILED, "another version is in force")
        .fails(StatusCode::CONFLICT, "others change the policy at the same time")
}
