//! `GET /audit-logs/{id}/explanation`: what lies behind one verdict: its reason's row, its details, and how its address stands.

use axum::extract::State;
use http::StatusCode;
use picket_shared::audit::AuditRecord;
use picket_shared::reason::Reason;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

use super::auth::Caller;
use super::input::{NoQuery, PathText};
use super::openapi::{self, Operation};
use super::problem::Problem;
use super::{Answer, Shared, Success};
use crate::enforcement::rounded;
use crate::scope::Scope;

const RECORD_ID_BYTES_MAX: usize = 64;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explanation {
    record: AuditRecord,
    rule: Option<Rule>,
    node: Option<String>,
    /// as recorded with the verdict; `null` if it was not
    policy_version: Option<serde_json::Value>,
    address: AddressStanding,
}

/// what follows from the reason
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Rule {
    reason: Reason,
    message: &'static str,
    status: u16,
    close_code: u16,
    points: f64,
    at_most_every_ms: Option<u64>,
}

/// how the address stands at this moment
#[derive(Serialize, JsonSchema)]
struct AddressStanding {
    score: f64,
    parts: BTreeMap<Reason, f64>,
}

pub(super) async fn get(State(api): Shared, _: Caller, PathText(id): PathText, _: NoQuery) -> Answer<Explanation> {
    let record = api.store.find(&id).await?.ok_or_else(|| Problem::not_found("no audit record has this id"))?;
    let standing = api.enforcement.standing(record.ip);
    Ok(Success(Explanation {
        rule: record.reason.map(rule),
        node: record.node.clone(),
        policy_version: record.metadata.get("policyVersion").cloned(),
        address: AddressStanding {
            score: rounded(standing.score),
            parts: standing.parts.into_iter().map(|(reason, points)| (reason, rounded(points))).collect(),
        },
        record,
    }))
}

pub(super) fn describe() -> Operation {
    Operation::new(Scope::AuditRead, "What lies behind one record")
        .path("id", openapi::text(RECORD_ID_BYTES_MAX), "of an audit record")
        .gives::<Explanation>("its reason's row, its details, and how its address stands")
        .fails(StatusCode::NOT_FOUND, "no audit record has this id")
}

fn rule(reason: Reason) -> Rule {
    let consequence = reason.consequence();
    let every = consequence.points.at_most_every;
    Rule {
        reason,
        message: consequence.message,
        status: consequence.status,
        close_code: consequence.close_code,
        points: consequence.points.points,
        at_most_every_ms: every.map(|every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX)),
    }
}
