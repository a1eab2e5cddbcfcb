//! Admission 1: is the address blocked? One lookup in memory. An automatic block does not bind who is on the allow-list.
//!
//! A block that spares clean users is asked about again when it is known who comes in.

use ipnet::IpNet;
use picket_shared::address::{self, NetworkText};
use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use picket_shared::state::{Block, BlockOrigin, BlockView};
use picket_shared::token::Principal;
use serde_json::json;
use std::net::IpAddr;

use crate::refusal::Denial;

/// blocks that are for everybody at the address
pub fn check(blocks: &BlockView, allow_list: &[IpNet], address: IpAddr, now: Timestamp) -> Result<(), Denial> {
    refuse_bound(blocks, allow_list, address, now, Block::binds_everyone)
}

/// blocks that are for this principal
pub fn check_principal(
    blocks: &BlockView,
    allow_list: &[IpNet],
    address: IpAddr,
    principal: &Principal,
    now: Timestamp,
) -> Result<(), Denial> {
    let user = principal.user().map(|user| &*user.id);
    refuse_bound(blocks, allow_list, address, now, |block| block.binds(user))
}

fn refuse_bound(
    blocks: &BlockView,
    allow_list: &[IpNet],
    address: IpAddr,
    now: Timestamp,
    binds: impl Fn(&Block) -> bool,
) -> Result<(), Denial> {
    let is_allowed =
        |block: &Block| block.origin == BlockOrigin::Automatic && address::contains_any(allow_list, address);
    let Some(block) = blocks.find_that(address, now, |block| binds(block) && !is_allowed(block)) else {
        return Ok(());
    };
    let denial = Denial::from(Reason::AddressBlocked)
        .because(format!("block of {} by {}: {}", block.network, block.by, block.reason))
        .with("block", json!({ "network": NetworkText(block.network).to_string(), "origin": block.origin, "by": block.by, "reason": block.reason,
            "since": block.since, "until": block.until, "scope": block.scope }));
    Err(match block.until {
        Some(until) => denial.retry_after(until.since(now)),
        None => denial,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::state::BlockScope;
    use picket_shared::token::User;

    const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    fn block(network: &str, origin: BlockOrigin, scope: BlockScope) -> Block {
        Block {
            network: address::parse_network(network).unwrap(),
            reason: "test".into(),
            origin,
            by: "test".into(),
            since: NOW,
            until: None,
            scope,
            users: vec!["mallory".into()],
        }
    }

    fn refused(blocks: Vec<Block>, allow_list: &str, user: Option<&str>) -> [bool; 2] {
        let view = BlockView::default();
        view.add_missing(blocks);
        let allow_list: Vec<_> = address::parse_network(allow_list).into_iter().collect();
        let address = IpAddr::from([192, 0, 2, 7]);
        let principal = user.map_or(Principal::Anonymous, |id| Principal::User(User::named(id)));
        [
            check(&view, &allow_list, address, NOW).is_err(),
            check_principal(&view, &allow_list, address, &principal, NOW).is_err(),
        ]
    }

    #[test]
    fn h24_a_block_that_spares_clean_users_refuses_the_anonymous_and_whom_it_names() {
        let spares = || vec![block("192.0.2.7", BlockOrigin::Automatic, BlockScope::Anonymous)];
        assert_eq!(refused(spares(), "", None), [false, true]);
        assert_eq!(refused(spares(), "", Some("mallory")), [false, true]);
        assert_eq!(refused(spares(), "", Some("alice")), [false, false]);
    }

    #[test]
    fn a_narrow_block_does_not_lift_a_wide_one() {
        let both = || {
            vec![
                block("192.0.2.0/24", BlockOrigin::Manual, BlockScope::Everyone),
                block("192.0.2.7", BlockOrigin::Automatic, BlockScope::Anonymous),
            ]
        };
        assert_eq!(refused(both(), "", Some("alice")), [true, true]);
        assert_eq!(
            refused(both(), "192.0.2.7", Some("alice")),
            [true, true],
            "an allow-list binds automatic ones only"
        );
        assert_eq!(refused(both()[1..].to_vec(), "192.0.2.7", None), [false, false]);
    }
}
