//! Makes room in a block list that fills up: automatic blocks of neighbouring IPv6 prefixes become one of the prefix around
//! them. Whoever holds a /56 or a /48 would otherwise fill the list alone.

use ipnet::{IpNet, Ipv6Net};
use std::collections::BTreeMap;

use picket_shared::clock::Timestamp;
use picket_shared::state::{Block, BlockOrigin};

use crate::enforcement::AUTOMATIC_ACTOR;

/// from which prefix to which, the narrower first
const STEPS: [(u8, u8); 2] = [(64, 56), (56, 48)];
/// so many blocked neighbours make their prefix one subscriber's: the ratio of the thresholds of two tiers
const NEIGHBOURS_MIN: usize = 4;
/// blocks that one round replaces, so that it ends soon
const REPLACED_MAX: usize = 10_000;

/// one block in the place of several
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Merged {
    pub(crate) block: Block,
    pub(crate) replaces: Vec<IpNet>,
}

/// what one round merges: /64s into a /56, else /56s into a /48. Manual blocks and those that spare clean users stay.
pub(crate) fn merge(blocks: &[Block], now: Timestamp) -> Vec<Merged> {
    STEPS
        .into_iter()
        .map(|(from, to)| merge_step(blocks, from, to, now))
        .find(|merged| !merged.is_empty())
        .unwrap_or_default()
}

fn merge_step(blocks: &[Block], from: u8, to: u8, now: Timestamp) -> Vec<Merged> {
    let mut groups: BTreeMap<Ipv6Net, Vec<&Block>> = BTreeMap::new();
    for block in blocks {
        if let IpNet::V6(network) = block.network
            && network.prefix_len() == from
            && block.origin == BlockOrigin::Automatic
            && block.binds_everyone()
            && block.in_force(now)
        {
            groups.entry(Ipv6Net::new_assert(network.addr(), to).trunc()).or_default().push(block);
        }
    }
    let mut replaced = 0;
    let wanted = groups.into_iter().filter(|(_, members)| members.len() >= NEIGHBOURS_MIN);
    let within_bound = wanted.take_while(|(_, members)| {
        replaced += members.len();
        replaced <= REPLACED_MAX
    });
    within_bound.map(|(around, members)| merged(around, &members, now)).collect()
}

fn merged(around: Ipv6Net, members: &[&Block], now: Timestamp) -> Merged {
    let endless = members.iter().any(|block| block.until.is_none());
    let block = Block {
        network: IpNet::V6(around),
        reason: format!("{} neighbouring prefixes were blocked", members.len()),
        origin: BlockOrigin::Automatic,
        by: AUTOMATIC_ACTOR.to_owned(),
        since: now,
        until: if endless { None } else { members.iter().filter_map(|block| block.until).max() },
        scope: members[0].scope,
        users: Vec::new(),
    };
    Merged { block, replaces: members.iter().map(|block| block.network).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::address::parse_network;
    use picket_shared::state::BlockScope;

    const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    fn block(network: &str, seconds: u64) -> Block {
        Block {
            network: parse_network(network).unwrap(),
            reason: "test".into(),
            origin: BlockOrigin::Automatic,
            by: AUTOMATIC_ACTOR.into(),
            since: NOW,
            until: Some(NOW.plus(std::time::Duration::from_secs(seconds))),
            scope: BlockScope::Everyone,
            users: Vec::new(),
        }
    }

    fn networks(merged: &[Merged]) -> Vec<(String, usize)> {
        merged.iter().map(|one| (one.block.network.to_string(), one.replaces.len())).collect()
    }

    #[test]
    fn four_neighbours_become_the_prefix_around_them_until_the_last_of_them_ends() {
        let mut blocks: Vec<_> = (0..4).map(|n| block(&format!("2001:db8:1:{n:x}::/64"), 60 * (n + 1))).collect();
        blocks.extend((0..3).map(|n| block(&format!("2001:db8:2:{n:x}::/64"), 60)));
        blocks.push(block("192.0.2.1", 60));
        let merged = merge(&blocks, NOW);
        assert_eq!(networks(&merged), [("2001:db8:1::/56".to_owned(), 4)]);
        assert_eq!(merged[0].block.until, blocks[3].until);
        let wider: Vec<_> = (0..4).map(|n| block(&format!("2001:db8:1:{n:x}00::/56"), 60)).collect();
        assert_eq!(networks(&merge(&wider, NOW)), [("2001:db8:1::/48".to_owned(), 4)]);
    }

    #[test]
    fn manual_blocks_and_those_that_spare_users_stay_as_they_are() {
        let neighbours = || (0..4).map(|n| block(&format!("2001:db8:1:{n:x}::/64"), 60));
        let manual = neighbours().map(|block| Block { origin: BlockOrigin::Manual, ..block });
        let sparing = neighbours().map(|block| Block { scope: BlockScope::Anonymous, ..block });
        let ended = neighbours().map(|block| Block { until: Some(NOW), ..block });
        for blocks in [manual.collect::<Vec<_>>(), sparing.collect(), ended.collect()] {
            assert_eq!(merge(&blocks, NOW), []);
        }
    }

    #[test]
    fn one_round_is_bounded() {
        let blocks: Vec<_> =
            (0..20_000u32).map(|n| block(&format!("2001:db8:{:x}:{:x}::/64", n / 256, n % 256), 60)).collect();
        let replaced: usize = merge(&blocks, NOW).iter().map(|merged| merged.replaces.len()).sum();
        assert!((REPLACED_MAX - 256..=REPLACED_MAX).contains(&replaced), "{replaced}");
    }
}
