//! `GET /health`: a word for everybody, the whole for callers with a credential. 503 when it cannot serve.

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use picket_shared::clock::CLOCK_OFFSET_MAX_MS;
use picket_shared::policy::Enforce;
use picket_shared::state::{Mode, NodeStatus, StateError};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

use super::auth::Caller;
use super::input::NoQuery;
use super::metrics::ClusterMetrics;
use super::nodes::Node;
use super::openapi::{Access, Operation};
use super::problem::Problem;
use super::{Api, Shared};
use crate::alarms::{AUDIT_LAG_MAX, Condition, Readings};
use crate::scope::Scope;
use crate::store::StoreError;

/// after the start, nodes may take so long to report
const NODES_APPEAR_WITHIN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "HealthStatus")]
enum Status {
    Healthy,
    Warning,
    Degraded,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "HealthAnswer")]
enum Answer {
    Whole(Box<Health>),
    Word(Word),
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "HealthWord")]
struct Word {
    status: Status,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: Status,
    issues: Vec<Issue>,
    metrics: Option<ClusterMetrics>,
    nodes: Vec<Node>,
    state: StateHealth,
    audit_lag: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
struct Issue {
    status: Status,
    kind: &'static str,
    message: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct StateHealth {
    reachable: bool,
    store: &'static str,
    policy_version: u64,
    blocks_version: u64,
}

/// what was found when everything was asked
struct Findings {
    nodes: Result<Vec<NodeStatus>, StateError>,
    lag: Result<u64, StateError>,
    dead_letters: Result<u64, StateError>,
    policy: Result<u64, StateError>,
    store: Result<(), StoreError>,
}

pub(super) async fn get(
    State(api): Shared,
    caller: Option<Extension<Caller>>,
    _: NoQuery,
) -> Result<Response, Problem> {
    let now = api.clock.now();
    let (nodes, lag, dead_letters, policy, store) = tokio::join!(
        api.state.nodes.nodes(now),
        api.state.audit.lag(),
        api.state.audit.dead_letters(),
        api.state.policies.newest_version(),
        api.store.check(),
    );
    let findings = Findings { nodes, lag, dead_letters, policy, store };
    let serves = findings.nodes.is_ok() && findings.lag.is_ok() && findings.store.is_ok();
    let health = judge(&api, findings);
    let code = if serves { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let whole = caller.is_some_and(|Extension(caller)| caller.may(Scope::MetricsRead));
    let answer = if whole { Answer::Whole(Box::new(health)) } else { Answer::Word(Word { status: health.status }) };
    Ok((code, Json(answer)).into_response())
}

pub(super) fn describe() -> Operation {
    Operation::new(Access::Open, "A word for everybody, the whole for callers with the scope `metrics:read`")
        .gives_json::<Answer>(StatusCode::OK, "it serves")
        .gives_json::<Answer>(StatusCode::SERVICE_UNAVAILABLE, "it cannot serve")
}

fn judge(api: &Api, findings: Findings) -> Health {
    let now = api.clock.now();
    let mut issues = Vec::new();
    if let Err(error) = &findings.store {
        tracing::warn!(error = error as &dyn std::error::Error, "audit store not healthy");
        issues.push(Issue {
            status: Status::Degraded,
            kind: "store",
            message: "the audit store is not available".to_owned(),
        });
    }
    let (reachable, nodes) = match findings.nodes {
        Ok(nodes) => (true, nodes),
        Err(_) => (false, Vec::new()),
    };
    if !reachable || findings.lag.is_err() {
        issues.push(Issue {
            status: Status::Degraded,
            kind: "state",
            message: "the shared state is not reachable".to_owned(),
        });
    }
    for node in nodes.iter().filter(|node| node.mode == Mode::Degraded) {
        issues.push(Issue {
            status: Status::Degraded,
            kind: "node",
            message: format!("node {} decides without the shared state", node.id),
        });
    }
    for node in nodes.iter().filter(|node| node.enforce != Enforce::On) {
        let whose = if node.is_switched { "its own switch" } else { "the policy" };
        issues.push(Issue {
            status: Status::Warning,
            kind: "enforcement",
            message: format!("node {} refuses nobody: enforcement is `{}` by {whose}", node.id, node.enforce.as_str()),
        });
    }
    for node in nodes.iter().filter(|node| node.clock_offset_ms.unsigned_abs() > CLOCK_OFFSET_MAX_MS) {
        let (off, side) =
            (node.clock_offset_ms.unsigned_abs(), if node.clock_offset_ms > 0 { "behind" } else { "ahead of" });
        issues.push(Issue {
            status: Status::Warning,
            kind: "clock",
            message: format!("the clock of node {} is {off} ms {side} the cluster's", node.id),
        });
    }
    if reachable && nodes.is_empty() && now.since(api.started) > NODES_APPEAR_WITHIN {
        issues.push(Issue { status: Status::Warning, kind: "nodes", message: "no node is alive".to_owned() });
    }
    let lag = findings.lag.ok();
    if let Some(lag) = lag.filter(|lag| *lag > AUDIT_LAG_MAX) {
        issues.push(Issue {
            status: Status::Warning,
            kind: "auditLag",
            message: format!("{lag} audit records wait to be stored"),
        });
    }
    if let Some(dead) = findings.dead_letters.ok().filter(|dead| *dead > 0) {
        issues.push(Issue {
            status: Status::Warning,
            kind: "deadLetters",
            message: format!("{dead} audit entries could not be read and were put aside"),
        });
    }
    if let Some(newest) = findings.policy.ok().filter(|newest| *newest > api.policy.version()) {
        issues.push(Issue {
            status: Status::Warning,
            kind: "policy",
            message: format!("version {newest} of the policy is not in force, version {} is", api.policy.version()),
        });
    }
    issues.extend(alarms(api, &Readings::of(&nodes, api.load.last_minute(now))));
    let list = nodes.iter().cloned().map(Node::from).collect();
    let metrics = ClusterMetrics::of(nodes, now);
    Health {
        status: issues.iter().map(|issue| issue.status).max().unwrap_or(Status::Healthy),
        issues,
        nodes: list,
        metrics: reachable.then_some(metrics),
        state: StateHealth {
            reachable,
            store: if findings.store.is_ok() { "ok" } else { "failed" },
            policy_version: api.policy.version(),
            blocks_version: api.blocks.version(),
        },
        audit_lag: lag,
    }
}

/// what is found by watching, at this moment or until it has been calm for a while; and who is not told of it
fn alarms(api: &Api, readings: &Readings) -> Vec<Issue> {
    let rules = api.policy.current();
    let raised = api.alarms.in_force();
    let found: BTreeMap<_, _> =
        raised.into_iter().chain(Condition::beyond(readings, &rules.document.monitoring)).collect();
    let warn = |kind, message| Issue { status: Status::Warning, kind, message };
    let found = found.into_iter().filter(|(condition, _)| !is_found_by_asking(*condition));
    let unheard = api.alarms.receivers.failing().into_iter().map(|message| warn("notifications", message));
    found.map(|(condition, message)| warn(condition.as_str(), message)).chain(unheard).collect()
}

/// whether it is an issue of its own already
const fn is_found_by_asking(condition: Condition) -> bool {
    match condition {
        Condition::StateOutage | Condition::DegradedNodes | Condition::AuditLag | Condition::DeadLetters => true,
        Condition::HighConnectionCount | Condition::HighMessageRate | Condition::ErrorRate => false,
        Condition::LostNodes | Condition::StalePolicy => false,
    }
}
