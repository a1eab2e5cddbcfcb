//! When networks were lifted: what their addresses did before is forgiven, also what is heard of later.

use ipnet::IpNet;
use std::collections::HashMap;

use picket_shared::address::AddressKey;
use picket_shared::clock::Timestamp;
use picket_shared::state::LIFTS_MAX;

/// the latest lift of each network; beyond [`LIFTS_MAX`] the older half is forgotten
#[derive(Debug, Default)]
pub(crate) struct Lifts {
    networks: HashMap<IpNet, Timestamp>,
    /// up to which version of the block list this coordinator has heard of them
    pub(crate) heard: u64,
}

/// whether a lift says something
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    New,
    Known,
}

impl Lifts {
    pub(crate) fn remember(&mut self, network: IpNet, at: Timestamp) -> News {
        if self.networks.get(&network).is_some_and(|known| *known >= at) {
            return News::Known;
        }
        if !self.networks.contains_key(&network) && self.networks.len() >= LIFTS_MAX {
            self.forget_the_older_half();
        }
        self.networks.insert(network, at);
        News::New
    }

    /// whether what an address did then is forgiven: it was lifted since, by itself or with others
    pub(crate) fn forgive(&self, address: AddressKey, at: Timestamp) -> bool {
        let is_later = |network: &IpNet| self.networks.get(network).is_some_and(|lifted| at < *lifted);
        !self.networks.is_empty()
            && std::iter::successors(Some(address.network()), IpNet::supernet).any(|n| is_later(&n))
    }

    fn forget_the_older_half(&mut self) {
        let mut times: Vec<_> = self.networks.values().copied().collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        self.networks.retain(|_, at| *at > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_764_000_000_000 + millis)
    }

    fn address(text: &str) -> AddressKey {
        AddressKey::of(text.parse().unwrap())
    }

    #[test]
    fn what_was_done_before_the_latest_lift_around_an_address_is_forgiven() {
        let mut lifts = Lifts::default();
        let wide = "198.51.100.0/24".parse().unwrap();
        assert_eq!(lifts.remember(wide, at(5)), News::New);
        assert_eq!(lifts.remember(wide, at(4)), News::Known, "an older one says nothing");
        assert_eq!(lifts.remember("2001:db8:1::/48".parse().unwrap(), at(5)), News::New);
        for inside in ["198.51.100.7", "2001:db8:1:2::3"] {
            assert!(lifts.forgive(address(inside), at(4)), "{inside}");
            assert!(!lifts.forgive(address(inside), at(5)), "{inside}");
        }
        assert!(!lifts.forgive(address("198.51.101.7"), at(0)));
        assert!(!lifts.forgive(address("2001:db8:2::1"), at(0)));
    }

    #[test]
    fn lifts_are_bounded_and_the_latest_stay() {
        let mut lifts = Lifts::default();
        let network = |n: usize| address(&std::net::Ipv4Addr::from(u32::try_from(n).unwrap()).to_string()).network();
        for n in 0..LIFTS_MAX + 10 {
            lifts.remember(network(n), at(n as u64));
        }
        assert!(lifts.networks.len() <= LIFTS_MAX);
        assert!(lifts.networks.contains_key(&network(LIFTS_MAX + 9)));
    }
}
