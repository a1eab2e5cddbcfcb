//! `GET /reputation/{ip}`: how an address stands, why, and who is behind it.

use axum::extract::State;
use picket_shared::address::{self, AddressKey};
use picket_shared::audit::AuditRecord;
use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use picket_shared::state::Block;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::auth::Caller;
use super::input::{self, NoQuery, PathText};
use super::openapi::{self, Operation};
use super::problem::Problem;
use super::{Answer, Shared, Success};
use crate::enforcement::rounded;
use crate::scope::Scope;
use crate::store::Filter;

/// records that are shown
const HISTORY_MAX: u32 = 50;
/// how far back users are looked for
const USERS_SINCE: Duration = Duration::from_secs(86_400);

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reputation {
    ip: IpAddr,
    /// what is scored and blocked as one: the address, or its /64
    subject: String,
    score: f64,
    threshold: u32,
    /// points by reason
    parts: BTreeMap<Reason, f64>,
    block: Option<Block>,
    /// automatic blocks that are remembered
    relapses: u32,
    allow_listed: bool,
    trusted_proxy: bool,
    history: Vec<AuditRecord>,
    users: Vec<SeenUser>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SeenUser {
    user_id: String,
    last_seen: Timestamp,
}

pub(super) async fn get(State(api): Shared, _: Caller, PathText(ip): PathText, _: NoQuery) -> Answer<Reputation> {
    let ip = input::single_address(&ip).map_err(|message| Problem::mistake("ip", message))?;
    let (now, rules, subject) = (api.clock.now(), api.policy.current(), AddressKey::of(ip));
    let standing = api.enforcement.standing(ip);
    let filter = Filter { network: Some(subject.network()), ..Filter::default() };
    let users = api.store.users(subject.network(), now.minus(USERS_SINCE)).await?;
    Ok(Success(Reputation {
        ip,
        subject: subject.to_string(),
        score: rounded(standing.score),
        threshold: rules.document.security.suspicious_activity_threshold,
        parts: standing.parts.into_iter().map(|(reason, points)| (reason, rounded(points))).collect(),
        block: api.blocks.find(ip, now),
        relapses: api.enforcement.relapses(ip),
        allow_listed: address::contains_any(&rules.security.allow_list, ip),
        trusted_proxy: address::contains_any(&api.trusted_proxies, ip),
        history: api.store.page(&filter, None, HISTORY_MAX).await?.records,
        users: users.into_iter().map(|(user_id, last_seen)| SeenUser { user_id, last_seen }).collect(),
    }))
}

pub(super) fn describe() -> Operation {
    Operation::new(Scope::AuditRead, "How an address stands, why, and who is behind it")
        .path("ip", openapi::address(), "a single address")
        .gives::<Reputation>("the score, its parts, the newest records, and the users seen there in the last day")
}
