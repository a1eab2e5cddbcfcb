//! What is remembered of automatic blocks, so that a relapse lasts longer.

use ipnet::IpNet;
use std::collections::HashMap;
use std::time::Duration;

use picket_shared::clock::Timestamp;

/// addresses whose automatic blocks are remembered; beyond it the longest-quiet ones are forgotten
const RELAPSES_MAX: usize = 100_000;
/// how long after a block this process's view of the list may lack it: a lost hint is made up for by then
const VIEW_BEHIND_MAX: Duration = Duration::from_secs(6);
/// how long an automatic block is remembered
pub(crate) const RELAPSE_MEMORY: Duration = Duration::from_secs(30 * 86_400);

/// automatic blocks by network
#[derive(Default)]
pub(crate) struct Relapses {
    networks: HashMap<IpNet, Relapse>,
}

struct Relapse {
    blocks: u32,
    last: Timestamp,
    until: Timestamp,
}

impl Relapses {
    pub(crate) fn count(&self, network: IpNet, now: Timestamp) -> u32 {
        let recent = self.networks.get(&network).filter(|relapse| now.since(relapse.last) < RELAPSE_MEMORY);
        recent.map_or(0, |relapse| relapse.blocks)
    }

    /// The list is the truth (a block around it does as well), and this process's view of it may be a moment behind.
    pub(crate) fn is_blocked(&self, network: IpNet, is_held: bool, now: Timestamp) -> bool {
        let is_known = |relapse: &Relapse| is_held || now.since(relapse.last) < VIEW_BEHIND_MAX;
        self.networks.get(&network).is_some_and(|relapse| now < relapse.until && is_known(relapse))
    }

    /// whether anything in the network was blocked after a time
    pub(crate) fn has_later(&self, network: IpNet, at: Timestamp) -> bool {
        self.networks.iter().any(|(one, relapse)| network.contains(one) && relapse.last > at)
    }

    /// those that were blocked by then are blocked no longer
    pub(crate) fn lift(&mut self, network: IpNet, at: Timestamp) {
        let lifted = self.networks.iter_mut().filter(|(one, relapse)| network.contains(*one) && relapse.last <= at);
        lifted.for_each(|(_, relapse)| relapse.until = relapse.last);
    }

    /// a block is remembered once, by when it was
    pub(crate) fn remember(&mut self, network: IpNet, at: Timestamp, until: Timestamp) {
        if !self.networks.contains_key(&network) && self.networks.len() >= RELAPSES_MAX {
            self.forget_the_quiet();
        }
        let Some(relapse) = self.networks.get_mut(&network) else {
            self.networks.insert(network, Relapse { blocks: 1, last: at, until });
            return;
        };
        if at > relapse.last {
            relapse.blocks = if at.since(relapse.last) < RELAPSE_MEMORY { relapse.blocks.saturating_add(1) } else { 1 };
            relapse.last = at;
            relapse.until = until.max(relapse.until);
        }
    }

    fn forget_the_quiet(&mut self) {
        let mut times: Vec<_> = self.networks.values().map(|relapse| relapse.last).collect();
        let (_, median, _) = times.select_nth_unstable(RELAPSES_MAX / 2);
        let median = *median;
        self.networks.retain(|_, relapse| relapse.last > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::address::AddressKey;

    const START: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    #[test]
    fn relapses_are_bounded_and_forgotten_after_a_month() {
        let mut relapses = Relapses::default();
        let address = |n: usize| AddressKey::of(std::net::Ipv4Addr::from(u32::try_from(n).unwrap()).into()).network();
        for n in 0..RELAPSES_MAX + 10 {
            let at = START.plus(Duration::from_millis(n as u64));
            relapses.remember(address(n), at, at);
        }
        assert!(relapses.networks.len() <= RELAPSES_MAX);
        let newest = address(RELAPSES_MAX + 9);
        assert_eq!(relapses.count(newest, START), 1);
        assert_eq!(relapses.count(newest, START.plus(RELAPSE_MEMORY * 2)), 0);
    }
}
