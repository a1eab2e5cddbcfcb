//! `GET /audit-logs/{id}/explanation`: what lies behind one verdict, by its record's id or by the code that the client was told: the
//! limit with what was counted, or the block and the records behind it; and how the address stands.

use axum::extract::State;
use http::StatusCode;
use ipnet::IpNet;
use picket_shared::address;
use picket_shared::appeal::AppealCode;
use picket_shared::audit::{AuditRecord, EventType};
use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use picket_shared::state::Block;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

use super::auth::Caller;
use super::input::{NoQuery, PathText};
use super::openapi::{self, Operation};
use super::problem::Problem;
use super::{Answer, Api, Shared, Success};
use crate::appeals;
use crate::enforcement::rounded;
use crate::scope::Scope;
use crate::store::Filter;

const RECORD_ID_BYTES_MAX: usize = 64;
/// records behind a block that are shown
const BEHIND_MAX: usize = 20;
/// records among which those are looked for
const SEARCHED_MAX: u32 = 1000;
/// a block's record comes at most so long before or after its beginning
const BLOCK_RECORDED_WITHIN: Duration = Duration::from_secs(10);
/// half-lives before a block in which what counted for it lies
const HALF_LIVES: u32 = 8;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explanation {
    record: AuditRecord,
    /// by which the client names the record
    appeal: Option<String>,
    rule: Option<Rule>,
    /// what was compared with what
    limit: Option<Limit>,
    /// the block that refused, or that the record is about
    block: Option<BlockStory>,
    node: Option<String>,
    /// as recorded with the verdict; `null` if it was not
    policy_version: Option<Value>,
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

/// a limit that had no room
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Limit {
    /// the policy's field
    setting: String,
    limit: Option<u64>,
    window_ms: Option<u64>,
    /// what was found, where it is not the limit itself that was used up
    observed: Option<u64>,
    /// whose uses were added up: the prefix, `user` or `connection`
    counted_for: Option<String>,
}

/// a block as it was made, and what called for it
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct BlockStory {
    network: String,
    /// the record of its making; `null` if that is not kept
    made: Option<AuditRecord>,
    /// the records that counted for it, the latest first; none of a block by hand
    behind: Vec<AuditRecord>,
    /// whether it is in force at this moment
    in_force: bool,
}

/// how the address stands at this moment
#[derive(Serialize, JsonSchema)]
struct AddressStanding {
    score: f64,
    parts: BTreeMap<Reason, f64>,
    block: Option<Block>,
}

pub(super) async fn get(State(api): Shared, _: Caller, PathText(id): PathText, _: NoQuery) -> Answer<Explanation> {
    let record = find(&api, &id).await?;
    let standing = api.enforcement.standing(record.ip);
    Ok(Success(Explanation {
        appeal: AppealCode::of(&record.id).map(|code| code.to_string()),
        rule: record.reason.map(rule),
        limit: limit(&record.metadata),
        block: block(&api, &record).await?,
        node: record.node.clone(),
        policy_version: record.metadata.get("policyVersion").cloned(),
        address: AddressStanding {
            score: rounded(standing.score),
            parts: standing.parts.into_iter().map(|(reason, points)| (reason, rounded(points))).collect(),
            block: api.blocks.find(record.ip, api.clock.now()),
        },
        record,
    }))
}

pub(super) fn describe() -> Operation {
    Operation::new(Scope::AuditRead, "What lies behind one record")
        .path(
            "id",
            openapi::text(RECORD_ID_BYTES_MAX),
            "of an audit record, or the code that a refused client was told",
        )
        .gives::<Explanation>(
            "its reason's row, the limit or block with what counted for it, and how its address stands",
        )
        .fails(StatusCode::NOT_FOUND, "no audit record has this id or code")
}

async fn find(api: &Api, id: &str) -> Result<AuditRecord, Problem> {
    if let Some(record) = api.store.find(id).await? {
        return Ok(record);
    }
    let Some(code) = AppealCode::parse(id) else {
        return Err(Problem::not_found(
            "no audit record has this id, and it is not a code: a character of that is wrong",
        ));
    };
    let found = appeals::find(&api.store, code, api.clock.now()).await?;
    found.ok_or_else(|| Problem::not_found("the code is sound, but its record is not kept (any more)"))
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

fn limit(metadata: &Map<String, Value>) -> Option<Limit> {
    let number = |name| metadata.get(name).and_then(Value::as_u64);
    let text = |name| metadata.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(Limit {
        setting: text("setting")?,
        limit: number("limit"),
        window_ms: number("windowMs"),
        observed: number("observed"),
        counted_for: text("countedFor"),
    })
}

/// the block that refused, or the one that the record tells of
async fn block(api: &Api, record: &AuditRecord) -> Result<Option<BlockStory>, Problem> {
    let network_in = |value: &Map<String, Value>| value.get("network")?.as_str().and_then(address::parse_network);
    let (network, made) = if record.event_type == EventType::IpBlocked {
        match network_in(&record.metadata) {
            Some(network) => (network, Some(record.clone())),
            None => return Ok(None),
        }
    } else {
        let Some(block) = record.metadata.get("block").and_then(Value::as_object) else { return Ok(None) };
        let Some(network) = network_in(block) else { return Ok(None) };
        let since = block.get("since").and_then(Value::as_str).and_then(Timestamp::parse_rfc3339);
        (network, making(api, network, since).await?)
    };
    let behind = match &made {
        Some(made) => behind(api, network, made).await?,
        None => Vec::new(),
    };
    let now = api.clock.now();
    let in_force = api.blocks.block_of(network).is_some_and(|block| block.in_force(now));
    Ok(Some(BlockStory { network: address::NetworkText(network).to_string(), made, behind, in_force }))
}

/// the record of the making of a block: of several soon after one another, the one that was made at that time
async fn making(api: &Api, network: IpNet, since: Option<Timestamp>) -> Result<Option<AuditRecord>, Problem> {
    let Some(since) = since else { return Ok(None) };
    let filter = Filter {
        event_type: Some(EventType::IpBlocked),
        network: Some(network),
        since: Some(since.minus(BLOCK_RECORDED_WITHIN)),
        until: Some(since.plus(BLOCK_RECORDED_WITHIN)),
        ..Filter::default()
    };
    let text = address::NetworkText(network).to_string();
    let records = api.store.page(&filter, None, SEARCHED_MAX).await?.records;
    let of_network =
        records.into_iter().filter(|record| record.metadata.get("network").is_some_and(|own| *own == text));
    Ok(of_network.min_by_key(|record| record.timestamp.as_millis().abs_diff(since.as_millis())))
}

/// the records that counted for an automatic block
async fn behind(api: &Api, network: IpNet, made: &AuditRecord) -> Result<Vec<AuditRecord>, Problem> {
    let Some(parts) = made.metadata.get("parts").and_then(Value::as_object) else { return Ok(Vec::new()) };
    let half_life = Duration::from_millis(api.policy.current().document.security.reputation.half_life_ms);
    let filter = Filter {
        network: Some(network),
        since: Some(made.timestamp.minus(half_life.saturating_mul(HALF_LIVES))),
        until: Some(made.timestamp.plus(Duration::from_millis(1))),
        ..Filter::default()
    };
    let counted = |record: &AuditRecord| record.reason.is_some_and(|reason| parts.contains_key(reason.token()));
    let records = api.store.page(&filter, None, SEARCHED_MAX).await?.records;
    Ok(records.into_iter().filter(counted).take(BEHIND_MAX).collect())
}
