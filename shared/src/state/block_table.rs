//! Blocks in memory, for a million of them: a hash table for each length of prefix that occurs, longest first.
//!
//! Automatic blocks have few lengths (single addresses, /64, /56, /48), so a lookup is a few probes; and few words (reason, by
//! whom, for whom), which are kept once.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{Block, BlockOrigin, BlockScope};
use crate::clock::Timestamp;

/// different words that are looked for; what is beyond is kept with each block
const WORDS_MAX: usize = 4096;

#[derive(Default)]
pub(super) struct BlockTable {
    v4: Family<u32>,
    v6: Family<u128>,
    words: HashSet<Arc<Words>>,
}

/// what many blocks have in common
#[derive(PartialEq, Eq, Hash)]
struct Words {
    reason: String,
    origin: BlockOrigin,
    by: String,
    scope: BlockScope,
    users: Vec<String>,
}

/// one block without its network, which is its place
struct Kept {
    since: Timestamp,
    /// the end of time where it has none
    until: Timestamp,
    words: Arc<Words>,
}

const NEVER: Timestamp = Timestamp::from_millis(u64::MAX);

impl BlockTable {
    pub(super) fn put(&mut self, block: Block) {
        let network = block.network;
        let kept = Kept {
            since: block.since,
            until: block.until.unwrap_or(NEVER),
            words: self.shared(Words {
                reason: block.reason,
                origin: block.origin,
                by: block.by,
                scope: block.scope,
                users: block.users,
            }),
        };
        match network {
            IpNet::V4(v4) => self.v4.put(v4.prefix_len(), v4.addr().to_bits(), kept),
            IpNet::V6(v6) => self.v6.put(v6.prefix_len(), v6.addr().to_bits(), kept),
        }
    }

    pub(super) fn remove(&mut self, network: IpNet) {
        match network {
            IpNet::V4(v4) => self.v4.remove(v4.prefix_len(), v4.addr().to_bits()),
            IpNet::V6(v6) => self.v6.remove(v6.prefix_len(), v6.addr().to_bits()),
        }
    }

    pub(super) fn holds(&self, network: IpNet) -> bool {
        match network {
            IpNet::V4(v4) => self.v4.get(v4.prefix_len(), v4.addr().to_bits()).is_some(),
            IpNet::V6(v6) => self.v6.get(v6.prefix_len(), v6.addr().to_bits()).is_some(),
        }
    }

    /// the most specific block of a network that holds this one and is `wanted`
    pub(super) fn find(&self, network: IpNet, wanted: impl Fn(&Block) -> bool) -> Option<Block> {
        match network {
            IpNet::V4(v4) => self.v4.find(v4.prefix_len(), v4.addr().to_bits(), wanted),
            IpNet::V6(v6) => self.v6.find(v6.prefix_len(), v6.addr().to_bits(), wanted),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    pub(super) fn all(&self) -> Vec<Block> {
        self.v4.all().chain(self.v6.all()).collect()
    }

    fn shared(&mut self, words: Words) -> Arc<Words> {
        if let Some(known) = self.words.get(&words) {
            return known.clone();
        }
        let words = Arc::new(words);
        if self.words.len() >= WORDS_MAX {
            self.words.retain(|words| Arc::strong_count(words) > 1);
        }
        if self.words.len() < WORDS_MAX {
            self.words.insert(words.clone());
        }
        words
    }
}

/// an address as a number
trait Bits: Copy + Eq + Hash {
    fn first(self, length: u8) -> Self;
    fn network(self, length: u8) -> IpNet;
}

impl Bits for u32 {
    fn first(self, length: u8) -> Self {
        self & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
    }

    fn network(self, length: u8) -> IpNet {
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_bits(self), length))
    }
}

impl Bits for u128 {
    fn first(self, length: u8) -> Self {
        self & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
    }

    fn network(self, length: u8) -> IpNet {
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(self), length))
    }
}

/// the blocks of one family, by the length of their prefix, longest first; no empty tables
struct Family<K>(Vec<(u8, HashMap<K, Kept>)>);

impl<K> Default for Family<K> {
    fn default() -> Self {
        Family(Vec::new())
    }
}

impl<K: Bits> Family<K> {
    fn put(&mut self, length: u8, bits: K, kept: Kept) {
        let place = match self.place(length) {
            Ok(place) => place,
            Err(place) => {
                self.0.insert(place, (length, HashMap::new()));
                place
            }
        };
        self.0[place].1.insert(bits.first(length), kept);
    }

    fn remove(&mut self, length: u8, bits: K) {
        if let Ok(place) = self.place(length) {
            self.0[place].1.remove(&bits.first(length));
            if self.0[place].1.is_empty() {
                self.0.remove(place);
            }
        }
    }

    fn get(&self, length: u8, bits: K) -> Option<&Kept> {
        let place = self.place(length).ok()?;
        self.0[place].1.get(&bits.first(length))
    }

    fn find(&self, longest: u8, bits: K, wanted: impl Fn(&Block) -> bool) -> Option<Block> {
        let tables = self.0.iter().filter(|(length, _)| *length <= longest);
        let mut found = tables.filter_map(|(length, table)| {
            let network = bits.first(*length);
            Some(table.get(&network)?.block(network.network(*length)))
        });
        found.find(|block| wanted(block))
    }

    fn len(&self) -> usize {
        self.0.iter().map(|(_, table)| table.len()).sum()
    }

    fn all(&self) -> impl Iterator<Item = Block> {
        self.0
            .iter()
            .flat_map(|(length, table)| table.iter().map(|(network, kept)| kept.block(network.network(*length))))
    }

    fn place(&self, length: u8) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| length.cmp(known))
    }
}

impl Kept {
    fn block(&self, network: IpNet) -> Block {
        let words = &*self.words;
        Block {
            network,
            reason: words.reason.clone(),
            origin: words.origin,
            by: words.by.clone(),
            since: self.since,
            until: (self.until != NEVER).then_some(self.until),
            scope: words.scope,
            users: words.users.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::parse_network;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn block(network: IpNet, reason: u8) -> Block {
        Block {
            network,
            reason: format!("reason {reason}"),
            origin: BlockOrigin::Manual,
            by: "admin".into(),
            since: Timestamp::default(),
            until: reason.is_multiple_of(2).then_some(Timestamp::from_millis(7)),
            scope: BlockScope::Everyone,
            users: Vec::new(),
        }
    }

    fn networks() -> impl Strategy<Value = IpNet> {
        let v4 = (0_u8..4, 0_u8..=32).prop_map(|(last, length)| format!("192.0.2.{last}/{length}"));
        let v6 = (0_u8..4, 0_u8..=128).prop_map(|(last, length)| format!("2001:db8::{last}/{length}"));
        prop_oneof![v4, v6].prop_map(|text| parse_network(&text).unwrap())
    }

    proptest! {
        #[test]
        fn lookups_find_what_a_search_of_all_finds(
            steps in proptest::collection::vec((networks(), 0_u8..4, any::<bool>()), 0..40),
            asked in networks(),
            wanted in 0_u8..4,
        ) {
            let (mut table, mut model) = (BlockTable::default(), BTreeMap::new());
            for (network, reason, is_lifted) in steps {
                if is_lifted {
                    table.remove(network);
                    model.remove(&network);
                } else {
                    table.put(block(network, reason));
                    model.insert(network, block(network, reason));
                }
            }
            let is_wanted = |block: &Block| block.reason != format!("reason {wanted}");
            let holding = model.values().filter(|block| block.network.contains(&asked) && is_wanted(block));
            let expected = holding.max_by_key(|block| block.network.prefix_len());
            let found = table.find(asked, is_wanted);
            prop_assert_eq!(found.as_ref(), expected);
            prop_assert_eq!(table.holds(asked), model.contains_key(&asked));
            let mut all = table.all();
            all.sort_by_key(|block| block.network);
            prop_assert_eq!(all, model.values().cloned().collect::<Vec<_>>());
            prop_assert_eq!(table.len(), model.len());
        }
    }

    #[test]
    fn words_are_kept_once_and_no_more_than_a_bound() {
        let mut table = BlockTable::default();
        for host in 0..20_000_u32 {
            let network = IpNet::from(std::net::IpAddr::from(host.to_be_bytes()));
            table.put(Block { reason: format!("{}", host % 10_000), ..block(network, 0) });
        }
        assert!(table.words.len() <= WORDS_MAX);
        assert_eq!(table.find(IpNet::from(std::net::IpAddr::from([0, 0, 0, 9])), |_| true).unwrap().reason, "9");
    }
}
