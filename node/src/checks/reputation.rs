//! Admission 1: is the address blocked? One lookup in memory. An automatic block does not bind who is on the allow-list.

use ipnet::IpNet;
use picket_shared::address;
use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use picket_shared::state::{BlockOrigin, BlockView};
use std::net::IpAddr;

use crate::refusal::Denial;

pub fn check(blocks: &BlockView, allow_list: &[IpNet], address: IpAddr, now: Timestamp) -> Result<(), Denial> {
    let Some(block) = blocks.find(address, now) else {
        return Ok(());
    };
    if block.origin == BlockOrigin::Automatic && address::contains_any(allow_list, address) {
        return Ok(());
    }
    let denial = Denial::from(Reason::AddressBlocked)
        .because(format!("block of {} by {}: {}", block.network, block.by, block.reason));
    Err(match block.until {
        Some(until) => denial.retry_after(until.since(now)),
        None => denial,
    })
}
