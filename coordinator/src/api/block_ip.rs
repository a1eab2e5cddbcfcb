//! `POST /block-ip`: nobody of an address or prefix comes in, and who is in goes; or, with `dryRun=true`, whom that would hit.
//! What would hit the house itself needs `force`.

use axum::extract::State;
use http::StatusCode;
use ipnet::IpNet;
use picket_shared::address::NetworkText;
use picket_shared::audit::{AuditRecord, EventType, Severity, printable};
use picket_shared::policy::Rules;
use picket_shared::state::{Block, BlockOrigin, BlockScope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::auth::{Caller, Due};
use super::input::{self, Input, Query};
use super::openapi::{self, Operation};
use super::preview::{self, Preview};
use super::problem::Problem;
use super::{Answer, Api, Shared, Success};
use crate::scope::Scope;

/// the widest prefixes that are blocked without `force`
const WIDEST_V4: u8 = 8;
const WIDEST_V6: u8 = 32;
const REASON_BYTES_MAX: usize = 500;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct BlockIp {
    /// an address or a prefix
    #[schemars(length(min = 1, max = 64))]
    ip: String,
    #[schemars(length(min = 1, max = 500))]
    reason: String,
    /// until it is lifted, if not given
    #[schemars(range(min = 1, max = 315_360_000_000_u64))]
    duration_ms: Option<u64>,
    #[serde(default)]
    force: bool,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "BlockOutcome")]
pub(super) enum Outcome {
    /// with `dryRun=true`
    Preview(Box<Preview>),
    Blocked(Blocked),
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Blocked {
    block: Block,
    /// the version of the block list that has it
    version: u64,
    /// whether a replica of the shared state has it too, so that a failover does not undo it
    durable: bool,
}

pub(super) async fn post(
    State(api): Shared,
    caller: Caller,
    mut query: Query,
    Input(input): Input<BlockIp>,
) -> Answer<Outcome> {
    let dry_run = query.take("dryRun", input::boolean).unwrap_or(false);
    query.finish()?;
    let network = input::network(&input.ip).map_err(|message| Problem::mistake("ip", message))?;
    let objection = objection(network, &caller, &api.policy.current(), &api);
    if let Some(objection) = objection.filter(|_| !input.force && !dry_run) {
        return Err(Problem::conflict(format!("{objection}; send `force: true` if that is meant")));
    }
    let now = api.clock.now();
    let block = Block {
        network,
        reason: printable(&input.reason, REASON_BYTES_MAX),
        origin: BlockOrigin::Manual,
        by: caller.name.clone(),
        since: now,
        until: input.duration_ms.map(|millis| now.plus(Duration::from_millis(millis))),
        scope: BlockScope::Everyone,
        users: Vec::new(),
    };
    if dry_run {
        let names_users = caller.may(Scope::AuditRead);
        let preview = preview::of(&api, block, objection, names_users, now).await?;
        if names_users && api.gate.visits.come(&caller.name, caller.address, "preview of a block", now) == Due::Now {
            api.record(EventType::AdminAction, Severity::Low, &caller, "audit trail read", |record| {
                record.with("network", NetworkText(network).to_string()).with("path", "/api/security/block-ip")
            });
        }
        return Ok(Success(Outcome::Preview(Box::new(preview))));
    }
    let (version, durable) = api.state.blocks.put_durably(block.clone()).await?;
    api.record(EventType::IpBlocked, Severity::High, &caller, "address blocked", |record| {
        let record =
            details(record, network, &caller, &block.reason).with("forced", input.force && objection.is_some());
        match input.duration_ms {
            Some(millis) => record.with("durationMs", millis),
            None => record,
        }
    });
    Ok(Success(Outcome::Blocked(Blocked { block, version, durable })))
}

pub(super) fn describe() -> Operation {
    Operation::new(Scope::BlocksWrite, "Nobody of an address or prefix comes in, and who is in goes")
        .about("A block of the same address or prefix is replaced. Open sockets close within a second, on every node.")
        .body::<BlockIp>(json!({ "ip": "198.51.100.0/24", "reason": "scraper", "durationMs": 3_600_000 }))
        .query("dryRun", openapi::boolean(), "says whom it would hit, and blocks nobody")
        .gives::<Outcome>("it is blocked; or, in a dry run, whom it would hit")
        .example(json!({
            "block": {
                "ip": "198.51.100.0/24", "reason": "scraper", "origin": "manual", "by": "admin", "since": "2026-01-31T12:00:00.000Z",
                "until": "2026-01-31T13:00:00.000Z", "scope": "everyone",
            },
            "version": 17, "durable": true,
        }))
        .fails(StatusCode::CONFLICT, "it would hit the house itself: loopback, a trusted proxy, the allow \
             list, the caller, or a large part of all addresses; send `force: true` if that is meant. Or the \
             first request with this `Idempotency-Key` is still under way")
        .once()
}

/// the record is about the address that is blocked; who did it and from where is in its metadata
pub(super) fn details(record: AuditRecord, network: IpNet, caller: &Caller, reason: &str) -> AuditRecord {
    let record = AuditRecord { ip: network.addr(), ..record };
    record
        .with("network", NetworkText(network).to_string())
        .with("reason", reason)
        .with("actorAddress", caller.address.to_string())
}

/// why a block is most likely a mistake
fn objection(network: IpNet, caller: &Caller, rules: &Rules, api: &Api) -> Option<&'static str> {
    let loopback =
        [IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST)), IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8)];
    let widest = if network.addr().is_ipv4() { WIDEST_V4 } else { WIDEST_V6 };
    let touches = |others: &[IpNet]| others.iter().any(|other| other.contains(&network) || network.contains(other));
    if network.addr().is_unspecified() || network.prefix_len() < widest {
        Some("that is too large a part of all addresses")
    } else if touches(&loopback) {
        Some("that is the loopback address")
    } else if touches(&api.trusted_proxies) {
        Some("a trusted proxy is there, and everybody behind it")
    } else if touches(&rules.security.allow_list) {
        Some("an address of the allow list is there")
    } else if network.contains(&caller.address) {
        Some("you are calling from there")
    } else {
        None
    }
}
