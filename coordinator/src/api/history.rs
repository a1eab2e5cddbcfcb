//! `GET /config/history`: who changed what, when.

use axum::extract::State;
use picket_shared::clock::Timestamp;
use picket_shared::policy::{self, Policy};
use picket_shared::state::{PolicyVersion, StateError};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

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

/// the fields in which two policies differ, by dotted path; a secret that differs is one, and looks the same before and after
fn changes(before: &Policy, after: &Policy) -> Vec<Change> {
    let mut paths = Vec::new();
    let whole = |policy: &Policy| policy::stored(policy).unwrap_or_default();
    compare(&mut Vec::new(), &whole(before), &whole(after), &mut paths);
    paths.truncate(CHANGES_MAX);
    let shown = [before, after].map(|policy| serde_json::to_value(policy).unwrap_or_default());
    let at = |shown: &Value, path: &[String]| {
        let found = path.iter().try_fold(shown, |value, key| value.get(key));
        found.cloned().unwrap_or_default()
    };
    let change =
        |path: Vec<String>| Change { from: at(&shown[0], &path), to: at(&shown[1], &path), path: path.join(".") };
    paths.into_iter().map(change).collect()
}

/// the paths of the fields in which two policies differ
pub(super) fn changed(before: &Policy, after: &Policy) -> Vec<Value> {
    changes(before, after).into_iter().map(|change| change.path.into()).collect()
}

fn compare(path: &mut Vec<String>, before: &Value, after: &Value, paths: &mut Vec<Vec<String>>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let added = new.keys().filter(|key| !old.contains_key(*key));
            for key in old.keys().chain(added) {
                path.push(key.clone());
                let value = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(path, &value(old), &value(new), paths);
                path.pop();
            }
        }
        _ if before == after => {}
        _ => paths.push(path.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn r15_a_receivers_new_url_is_a_change_that_shows_no_url() {
        let to = |path: &str| {
            let receiver = json!({ "kind": "slack", "url": format!("https://hooks.example.com/{path}") });
            policy::read(&json!({ "monitoring": { "notifications": [receiver] } })).unwrap()
        };
        let found = changes(&to("one"), &to("two"));
        let masked = serde_json::to_value(to("one")).unwrap()["monitoring"]["notifications"].take();
        assert_eq!(found, [Change { path: "monitoring.notifications".into(), from: masked.clone(), to: masked }]);
        assert_eq!(changes(&to("one"), &to("one")), []);
    }
}
