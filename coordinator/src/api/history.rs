//! `GET /config/history`: who changed what, when.

use axum::extract::State;
use picket_shared::clock::Timestamp;
use picket_shared::policy::Policy;
use picket_shared::state::{PolicyVersion, StateError};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::auth::Caller;
use super::input::{self, Query};
use super::openapi::{self, Operation};
use super::{Answer, Api, Shared, Success};
use crate::scope::Scope;

const LIMIT_DEFAULT: u32 = 20;
const LIMIT_MAX: u32 = 100;
/// changes that are listed for one version
const CHANGES_MAX: usize = 200;

#[derive(Serialize, JsonSchema)]
pub(super) struct History {
    versions: Vec<HistoryEntry>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct HistoryEntry {
    pub(super) version: u64,
    pub(super) by: String,
    pub(super) at: Timestamp,
    /// against the version before; `null` where that is not kept
    pub(super) changes: Option<Vec<Change>>,
}

/// one field that differs; secrets are masked
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct Change {
    pub(super) path: String,
    pub(super) from: Value,
    pub(super) to: Value,
}

pub(super) async fn get(State(api): Shared, _: Caller, mut query: Query) -> Answer<History> {
    let limit = query.take("limit", input::number(1, LIMIT_MAX)).unwrap_or(LIMIT_DEFAULT) as usize;
    query.finish()?;
    Ok(Success(History { versions: entries(&api, limit).await? }))
}

/// the newest versions, each with what it changed
pub(super) async fn entries(api: &Api, limit: usize) -> Result<Vec<HistoryEntry>, StateError> {
    let versions = api.state.policies.history(limit + 1).await?;
    let entry = |(index, version): (usize, &PolicyVersion)| HistoryEntry {
        version: version.version,
        by: version.by.clone(),
        at: version.at,
        changes: versions.get(index + 1).map(|before| changes(&before.policy, &version.policy)),
    };
    Ok(versions.iter().enumerate().take(limit).map(entry).collect())
}

pub(super) fn describe() -> Operation {
    Operation::new(Scope::ConfigRead, "Who changed what in the policy, when; the newest first")
        .query("limit", openapi::integer(1, LIMIT_MAX), "versions; 20 if not given")
        .gives::<History>("secrets are masked")
}

/// the fields in which two policies differ, by dotted path
pub(super) fn changes(before: &Policy, after: &Policy) -> Vec<Change> {
    let json = |policy: &Policy| serde_json::to_value(policy).unwrap_or_default();
    let mut changes = Vec::new();
    compare("", &json(before), &json(after), &mut changes);
    changes.truncate(CHANGES_MAX);
    changes
}

fn compare(path: &str, before: &Value, after: &Value, changes: &mut Vec<Change>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let added = new.keys().filter(|key| !old.contains_key(*key));
            for key in old.keys().chain(added) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null), changes);
            }
        }
        _ if before == after => {}
        _ => changes.push(Change { path: path.to_owned(), from: before.clone(), to: after.clone() }),
    }
}
