//! `DELETE /subjects/{userId}`: takes from the audit trail what it says of a person. The chain of hashes stays valid.

use axum::extract::State;
use picket_shared::audit::{EventType, IDENTIFIER_BYTES_MAX, Severity};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::auth::Caller;
use super::input::{self, NoQuery, PathText};
use super::openapi::{self, Operation};
use super::problem::Problem;
use super::{Answer, Shared, Success};
use crate::scope::Scope;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Erasure {
    /// records from which the person was taken by this call, administration's included
    records: u64,
    /// false where there is more: call again
    complete: bool,
    /// a keyed hash of the user id: the same person has the same in this store, and the trail names it instead
    subject: String,
}

pub(super) async fn delete(
    State(api): Shared,
    caller: Caller,
    _: NoQuery,
    PathText(user_id): PathText,
) -> Answer<Erasure> {
    let user_id = input::user(&user_id).map_err(|message| Problem::mistake("userId", message))?;
    let erased = api.store.erase(&user_id, &*api.clock).await?;
    api.record(EventType::AdminAction, Severity::High, &caller, "personal data erased", |record| {
        record.with("subject", erased.subject.as_str()).with("records", erased.records).with("complete", erased.is_all)
    });
    Ok(Success(Erasure { records: erased.records, complete: erased.is_all, subject: erased.subject }))
}

pub(super) fn describe() -> Operation {
    Operation::new(Scope::AuditErase, "Takes from the audit trail what it says of a person")
        .about(
            "Address, user, socket, message and metadata of the user's records are erased; kind, time, reason, event and node stay. In \
             administration's records (a block that binds users, a revocation, an export) `subject` takes the place of the user's name, \
             and all else stays: who acted as administrator, too. The trail still verifies.",
        )
        .path("userId", openapi::text(IDENTIFIER_BYTES_MAX), "as the application calls the user")
        .gives::<Erasure>("how many records were erased")
        .example(json!({ "records": 128, "complete": true, "subject": "5f0c6a2c0f1d4f7a9e3b8c7d6a5b4c3d" }))
}
