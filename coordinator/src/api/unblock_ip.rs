//! `POST /unblock-ip`: lifts a block, and gives the address a clean sheet.

use axum::extract::State;
use http::StatusCode;
use ipnet::IpNet;
use picket_shared::address::{AddressKey, NetworkText};
use picket_shared::audit::{AuditRecord, EventType, Severity, printable};
use picket_shared::state::Lift;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::auth::Caller;
use super::block_ip::details;
use super::input::{self, Input, NoQuery};
use super::openapi::Operation;
use super::problem::Problem;
use super::{Answer, Api, Shared, Success};
use crate::scope::Scope;

const REASON_BYTES_MAX: usize = 500;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UnblockIp {
    /// an address or a prefix, as it was blocked
    #[schemars(length(min = 1, max = 64))]
    ip: String,
    #[schemars(length(max = 500))]
    reason: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Unblocked {
    /// what was lifted
    ip: String,
}

pub(super) async fn post(
    State(api): Shared,
    caller: Caller,
    _: NoQuery,
    Input(input): Input<UnblockIp>,
) -> Answer<Unblocked> {
    let network = input::network(&input.ip).map_err(|message| Problem::mistake("ip", message))?;
    let lift = lift(&api, network).await?;
    api.enforcement.lifted(lift.clone());
    let Lift { network: lifted, at } = lift;
    let reason = printable(input.reason.as_deref().unwrap_or_default(), REASON_BYTES_MAX);
    api.record(EventType::IpUnblocked, Severity::Medium, &caller, "address unblocked", |record| {
        // Coordinators know a lift by its time.
        AuditRecord { timestamp: at, ..details(record, lifted, &caller, &reason) }
    });
    Ok(Success(Unblocked { ip: NetworkText(lifted).to_string() }))
}

pub(super) fn describe() -> Operation {
    Operation::new(Scope::BlocksWrite, "Lifts a block, and gives the address a clean sheet")
        .body::<UnblockIp>(json!({ "ip": "198.51.100.0/24", "reason": "a mistake" }))
        .gives::<Unblocked>("what was lifted")
        .example(json!({ "ip": "198.51.100.0/24" }))
        .fails(StatusCode::NOT_FOUND, "it is not blocked, or only as part of a wider prefix")
        .once()
}

/// lifts the block of the network, or the automatic one of the /64 that an IPv6 address belongs to
async fn lift(api: &Api, network: IpNet) -> Result<Lift, Problem> {
    let now = api.clock.now();
    let subject = AddressKey::of(network.addr()).network();
    let is_address = network.prefix_len() == network.max_prefix_len();
    for candidate in
        [Some(network), Some(subject).filter(|subject| is_address && *subject != network)].into_iter().flatten()
    {
        if api.state.blocks.lift(candidate, now).await? {
            return Ok(Lift { network: candidate, at: now });
        }
    }
    Err(Problem::not_found(match api.blocks.find(network.addr(), now) {
        Some(wider) if wider.network.contains(&network) && wider.network != network => {
            format!(
                "{} is not blocked by itself but as part of {}; unblock that",
                NetworkText(network),
                NetworkText(wider.network)
            )
        }
        _ => format!("{} is not blocked", NetworkText(network)),
    }))
}
