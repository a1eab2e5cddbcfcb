//! `GET /config` and `PUT /config`: the policy in force, and its change by a merge patch (RFC 7396). With `dryRun=true` a change
//! is judged and shown, and not made.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use picket_shared::audit::{EventType, Severity};
use picket_shared::hex;
use picket_shared::policy::{self, Enforce, Policy, Rules};
use picket_shared::state::{NodeStatus, PolicyVersion, Published};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::auth::Caller;
use super::canary;
use super::history::changed;
use super::input::{self, JsonValue, NoQuery, Query};
use super::openapi::{self, Operation};
use super::problem::Problem;
use super::{Api, Shared, Success};
use crate::scope::Scope;

/// how often a change is tried on top of other people's changes
const TRIES_MAX: usize = 5;
/// of the hash in an `ETag`
const ETAG_HASH_BYTES: usize = 12;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PolicyInForce {
    /// secrets are masked
    policy: Policy,
    version: u64,
    /// whether every node runs this version
    applied: bool,
    nodes: Vec<NodePolicy>,
    /// the trial that is under way
    canary: Option<canary::UnderWay>,
    /// the shared state does not answer: this is what the coordinator enforces, and of nodes and trials nothing is known
    is_stale: bool,
}

/// any part of a policy
pub(super) struct PolicyPatch;

impl JsonSchema for PolicyPatch {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PolicyPatch".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "description": "any part of a policy (`#/components/schemas/Policy`)" })
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NodePolicy {
    id: String,
    policy_version: u64,
    enforce: Enforce,
    /// whether `enforce` is the word of the node's own switch
    is_switched: bool,
    on_trial: bool,
}

impl From<NodeStatus> for NodePolicy {
    fn from(status: NodeStatus) -> Self {
        let NodeStatus { id, policy_version, enforce, is_switched, on_trial, .. } = status;
        NodePolicy { id, policy_version, enforce, is_switched, on_trial }
    }
}

pub(super) async fn get(State(api): Shared, _: Caller, headers: HeaderMap, _: NoQuery) -> Result<Response, Problem> {
    let shown = match current(&api).await {
        Ok(current) => shown(&api, current.policy, current.version).await?,
        Err(_) => known(&api),
    };
    let etag = shown.etag();
    Ok(match is_known(&headers, &etag) {
        true => (StatusCode::NOT_MODIFIED, [(ETAG, etag)]).into_response(),
        false => ([(ETAG, etag)], Success(shown)).into_response(),
    })
}

pub(super) async fn put(
    State(api): Shared,
    caller: Caller,
    mut query: Query,
    headers: HeaderMap,
    JsonValue(patch): JsonValue,
) -> Result<Response, Problem> {
    let dry_run = query.take("dryRun", input::boolean).unwrap_or(false);
    let canary = query.take("canary", |node| Ok(node.to_owned()));
    let seconds = query.take("seconds", input::number(canary::SECONDS_MIN, canary::SECONDS_MAX));
    if canary.is_none() && seconds.is_some() {
        query.mistake("seconds", "is how long a trial lasts: name its node in `canary`");
    }
    query.finish()?;
    let patched = patched(&patch)?;
    let expected = expected_version(&headers)?;
    if dry_run {
        let (current, rules) = judge(&api, expected, patched).await?;
        return show(&api, rules.document, current.version).await;
    }
    if let Some(node) = canary {
        let (current, rules) = judge(&api, expected, patched).await?;
        let seconds = seconds.unwrap_or(canary::SECONDS_DEFAULT);
        canary::begin(&api, caller, node, seconds, current.clone(), rules.document).await?;
        return show(&api, current.policy, current.version).await;
    }
    let changed = change(&api, &caller, expected, "policy changed", patched).await?;
    show(&api, changed.policy, changed.version).await
}

pub(super) fn describe_get() -> Operation {
    Operation::new(Scope::ConfigRead, "The policy in force, and which nodes run it")
        .header("If-None-Match", openapi::any_text(), "an `ETag` of before: 304 while the answer is the same")
        .gives::<PolicyInForce>("secrets are masked")
        .with_header(
            "ETag",
            "weak, of the whole answer: also nodes and trial change it; `If-Match` of a change takes it",
        )
        .gives_nothing(StatusCode::NOT_MODIFIED, "the answer is the same")
        .with_header("ETag", "of the answer")
}

pub(super) fn describe_put() -> Operation {
    Operation::new(Scope::ConfigWrite, "Changes the policy in part")
        .about(
            "A merge patch (RFC 7396): objects are merged, `null` removes, everything else replaces. The \
             result is judged whole: it is in force on every node, or nothing is changed.",
        )
        .query("dryRun", openapi::boolean(), "judges and shows the change, and does not make it")
        .query("canary", openapi::any_text(), "the node at which the change is tried first: it is taken back when that node refuses far more connections, or far more events, than before and than the others, else published; the answer shows the policy that is in force meanwhile")
        .query("seconds", openapi::integer(canary::SECONDS_MIN, canary::SECONDS_MAX), "how long it is tried; 30 if not given")
        .header("If-Match", openapi::any_text(), "the version that the change was made on, as `\"7\"`, or an `ETag` that showed it")
        .body::<PolicyPatch>(json!({ "rateLimiting": { "messageLimit": { "maxMessages": 50 } } }))
        .gives::<PolicyInForce>("the policy with the change")
        .with_header("ETag", "of this answer, as of one to `GET`")
        .fails(StatusCode::CONFLICT, "others change the policy at the same time, another one is on trial, or the switch of the node refuses nobody")
        .fails(StatusCode::NOT_FOUND, "no such node is alive")
        .fails(StatusCode::PRECONDITION_FAILED, "another version is in force")
}

/// puts what `make` makes of the policy in force into its place; tries again when another change came first and no version was expected
pub(super) async fn change(
    api: &Api,
    caller: &Caller,
    expected: Option<u64>,
    message: &str,
    make: impl Fn(&Policy) -> Result<Policy, Problem>,
) -> Result<PolicyVersion, Problem> {
    for _ in 0..TRIES_MAX {
        let (current, Rules { document: policy, .. }) = judge(api, expected, &make).await?;
        if policy == current.policy {
            return Ok(current);
        }
        let seen = (current.version > 0).then_some(current.version);
        let now = api.clock.now();
        if let Published::Version(version) = api.state.policies.publish(policy.clone(), seen, &caller.name, now).await?
        {
            record(api, caller, message, &current, &policy, version);
            return Ok(PolicyVersion { version, policy, by: caller.name.clone(), at: now });
        }
    }
    Err(Problem::conflict("others change the policy at the same time; try again"))
}

/// makes of a policy the same with the patch
pub(super) fn patched(patch: &Value) -> Result<impl Fn(&Policy) -> Result<Policy, Problem>, Problem> {
    if !patch.is_object() {
        return Err(Problem::mistake("", "must be an object: the part of the policy that changes"));
    }
    Ok(|current: &Policy| {
        let mut merged = to_json(current)?;
        merge(&mut merged, patch);
        policy::unmask(&mut merged, current);
        policy::read(&merged).map_err(Problem::mistakes)
    })
}

/// the version in force, and what would take its place; or every mistake in that
pub(super) async fn judge(
    api: &Api,
    expected: Option<u64>,
    make: impl Fn(&Policy) -> Result<Policy, Problem>,
) -> Result<(PolicyVersion, Rules), Problem> {
    let current = current(api).await?;
    if expected.is_some_and(|expected| expected != current.version) {
        return Err(Problem::new(StatusCode::PRECONDITION_FAILED, format!("version {} is in force", current.version)));
    }
    let policy = make(&current.policy)?;
    let rules = Rules::compile(policy, api.policy.environment()).map_err(Problem::mistakes)?;
    check_countries(api, &current.policy, &rules).await?;
    Ok((current, rules))
}

/// To a node that knows no countries everybody would come from an unknown one. What was so before hinders no other change.
async fn check_countries(api: &Api, before: &Policy, rules: &Rules) -> Result<(), Problem> {
    if rules.security.countries.are_none() || rules.document.security.countries == before.security.countries {
        return Ok(());
    }
    let nodes = api.state.nodes.nodes(api.clock.now()).await?;
    match nodes.into_iter().find(|node| node.knows_countries == Some(false)) {
        None => Ok(()),
        Some(node) => {
            let id = node.id;
            let message = format!("names countries, and node {id} knows none: give it node.geoip: {{ file: … }} first");
            Err(Problem::mistake("security.countries", message))
        }
    }
}

pub(super) fn record(api: &Api, caller: &Caller, message: &str, before: &PolicyVersion, after: &Policy, version: u64) {
    let paths = changed(&before.policy, after);
    tracing::info!(version, by = caller.name, "policy changed");
    api.record(EventType::PolicyChanged, Severity::High, caller, message, |record| {
        record.with("version", version).with("previousVersion", before.version).with("changed", paths)
    });
}

/// the policy in force, under the number of the newest version of the state: 0 while there is none, and ahead of what is in
/// force where the newest document was refused
pub(super) async fn current(api: &Api) -> Result<PolicyVersion, Problem> {
    let version = api.state.policies.newest_version().await?;
    let sound = |stored: &PolicyVersion| Rules::compile(stored.policy.clone(), api.policy.environment()).is_ok();
    // The history leaves out what cannot be read, and fails like all else where the state does not answer.
    let newest = api.state.policies.history(1).await?.into_iter().next();
    let in_force = || PolicyVersion { version, at: api.started, ..api.policy.as_version() };
    Ok(newest.filter(sound).unwrap_or_else(in_force))
}

async fn show(api: &Api, policy: Policy, version: u64) -> Result<Response, Problem> {
    let shown = shown(api, policy, version).await?;
    Ok(([(ETAG, shown.etag())], Success(shown)).into_response())
}

async fn shown(api: &Api, policy: Policy, version: u64) -> Result<PolicyInForce, Problem> {
    let now = api.clock.now();
    let nodes: Vec<_> = api.state.nodes.nodes(now).await?.into_iter().map(NodePolicy::from).collect();
    let applied = nodes.iter().all(|node| node.policy_version >= version);
    let canary = api.state.trials.under_way(now).await?.map(canary::UnderWay::from);
    Ok(PolicyInForce { policy, version, applied, nodes, canary, is_stale: false })
}

/// what is shown while the state is away
fn known(api: &Api) -> PolicyInForce {
    let PolicyVersion { policy, version, .. } = api.policy.as_version();
    PolicyInForce { policy, version, applied: false, nodes: Vec::new(), canary: None, is_stale: true }
}

impl PolicyInForce {
    /// Of all that is shown, not of the version alone: nodes that take it up and a trial change the answer too. Weak, as the version
    /// is what a change is made on.
    fn etag(&self) -> String {
        // What cannot be written is no answer either.
        let written = serde_json::to_vec(self).unwrap_or_default();
        format!("W/\"{}-{}\"", self.version, hex::encode(&Sha256::digest(written)[..ETAG_HASH_BYTES]))
    }
}

/// whether `If-None-Match` names the answer; its tag may be one of several, and is compared weakly (RFC 9110 section 13.1.2)
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let names = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = names.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || opaque(tag) == opaque(etag))
}

/// a tag without the mark of a weak one
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// the version of `If-Match`, as `"7"` or in a tag that a read gave; none of `*`
pub(super) fn expected_version(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let version = opaque(text).trim_matches('"').split('-').next().unwrap_or_default().parse();
    let version = version.map_err(|_| {
        Problem::bad_request(
            "If-Match must be a version, as in If-Match: \"7\", or the ETag of an answer that showed it",
        )
    })?;
    Ok(Some(version))
}

pub(super) fn to_json(policy: &Policy) -> Result<Value, Problem> {
    policy::stored(policy).map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// RFC 7396: objects are merged, `null` removes, everything else replaces
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(fields) = target {
        for (key, value) in patch {
            if value.is_null() {
                fields.remove(key);
            } else {
                merge(fields.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_7396() {
        for (target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut merged = target.clone();
            merge(&mut merged, &patch);
            assert_eq!(merged, expected, "{target} with {patch}");
        }
    }
}
