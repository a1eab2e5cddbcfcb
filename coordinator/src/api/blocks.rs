//! `GET /blocks`: what is in force, the newest first.

use axum::extract::State;
use picket_shared::state::{Block, BlockOrigin};
use schemars::JsonSchema;
use serde::Serialize;

use super::auth::Caller;
use super::input::{self, Query};
use super::openapi::{self, Operation};
use super::{Answer, Shared, Success};
use crate::enforcement::rounded;
use crate::scope::Scope;

const LIMIT_DEFAULT: u32 = 1000;
const LIMIT_MAX: u32 = 10_000;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BlockList {
    blocks: Vec<ListedBlock>,
    /// how many there are, beyond what is listed
    total: usize,
    version: u64,
    /// the shared state does not answer: this is what the coordinator knew last
    is_stale: bool,
}

#[derive(Serialize, JsonSchema)]
struct ListedBlock {
    #[serde(flatten)]
    block: Block,
    /// how the address stands at this moment
    score: f64,
}

pub(super) async fn get(State(api): Shared, _: Caller, mut query: Query) -> Answer<BlockList> {
    let network = query.take("ip", input::network);
    let origin = query.take("origin", |text| match text {
        "manual" => Ok(BlockOrigin::Manual),
        "automatic" => Ok(BlockOrigin::Automatic),
        _ => Err("must be manual or automatic".to_owned()),
    });
    let limit = query.take("limit", input::number(1, LIMIT_MAX)).unwrap_or(LIMIT_DEFAULT);
    let offset = query.take("offset", input::number(0, u32::MAX)).unwrap_or(0);
    query.finish()?;
    let now = api.clock.now();
    let (in_force, version, is_stale) = match api.state.blocks.load(now).await {
        Ok(set) => (set.blocks, set.at.version, false),
        Err(_) => (api.blocks.blocks(), api.blocks.version(), true),
    };
    let wanted = |block: &Block| {
        block.in_force(now)
            && network.is_none_or(|network| block.network.contains(&network) || network.contains(&block.network))
            && origin.is_none_or(|origin| block.origin == origin)
    };
    let mut blocks: Vec<_> = in_force.into_iter().filter(wanted).collect();
    blocks.sort_by(|a, b| b.since.cmp(&a.since).then(a.network.cmp(&b.network)));
    let total = blocks.len();
    let entry =
        |block: Block| ListedBlock { score: rounded(api.enforcement.standing(block.network.addr()).score), block };
    let blocks = blocks.into_iter().skip(offset as usize).take(limit as usize).map(entry).collect();
    Ok(Success(BlockList { blocks, total, version, is_stale }))
}

pub(super) fn describe() -> Operation {
    Operation::new(Scope::BlocksRead, "The blocks in force, the newest first")
        .query("ip", openapi::network(), "those that hold it, and those that it holds")
        .query("origin", openapi::one_of(["manual", "automatic"]), "who blocks")
        .query("limit", openapi::integer(1, LIMIT_MAX), "blocks of the answer; 1000 if not given")
        .query("offset", openapi::integer(0, u32::MAX), "blocks that are left out before it")
        .gives::<BlockList>("with the score of each address at this moment")
}
