//! The pool of Socket.IO connections that were upgraded and have not yet said who they are. Bounded by address and node.

use parking_lot::Mutex;
use picket_shared::address::AddressKey;
use picket_shared::reason::Reason;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::refusal::Denial;

/// a place comes free at the latest when its CONNECT is overdue
const RETRY_AFTER: Duration = Duration::from_secs(10);

pub struct Pending {
    places: Mutex<Places>,
    total_max: usize,
    per_address_max: usize,
}

#[derive(Default)]
struct Places {
    total: usize,
    by_address: HashMap<AddressKey, usize>,
}

/// a place in the pool, given back when dropped
pub struct Place {
    pool: Arc<Pending>,
    address: IpAddr,
}

impl Pending {
    pub fn new(total_max: usize, per_address_max: usize) -> Self {
        Pending { places: Mutex::default(), total_max, per_address_max }
    }

    /// takes a place; the address limit of the policy binds here too, since nobody has logged in yet
    pub fn enter(self: &Arc<Self>, address: IpAddr, policy_per_address: u32) -> Result<Place, Denial> {
        let mut places = self.places.lock();
        if places.total >= self.total_max {
            return Err(Denial::from(Reason::Overload)
                .retry_after(RETRY_AFTER)
                .because(format!("node.limits.pendingMax is {}", self.total_max)));
        }
        let cap = self.per_address_max.min(usize::try_from(policy_per_address).unwrap_or(usize::MAX));
        let held = |prefix: &AddressKey| places.by_address.get(prefix).copied().unwrap_or(0);
        let is_full = |(prefix, factor): &(AddressKey, u32)| {
            held(prefix) >= cap.saturating_mul(usize::try_from(*factor).unwrap_or(usize::MAX))
        };
        if let Some((prefix, _)) = AddressKey::tiers(address).find(is_full) {
            return Err(Denial::from(Reason::TooManyConnections)
                .retry_after(RETRY_AFTER)
                .because(format!("{} connections of {prefix} wait for CONNECT", held(&prefix))));
        }
        for (prefix, _) in AddressKey::tiers(address) {
            *places.by_address.entry(prefix).or_default() += 1;
        }
        places.total += 1;
        drop(places);
        Ok(Place { pool: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.pool.places.lock();
        places.total -= 1;
        for (prefix, _) in AddressKey::tiers(self.address) {
            match places.by_address.get_mut(&prefix) {
                Some(held) if *held > 1 => *held -= 1,
                _ => drop(places.by_address.remove(&prefix)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s15_waiting_places_are_bounded_by_address_and_node() {
        let pool = Arc::new(Pending::new(3, 2));
        let enter = |last: u8| pool.enter(IpAddr::from([192, 0, 2, last]), 100).map_err(|denial| denial.reason);
        let first = enter(1).ok();
        let second = enter(1).ok();
        assert_eq!(enter(1).err(), Some(Reason::TooManyConnections));
        let third = enter(2).ok();
        assert_eq!(enter(3).err(), Some(Reason::Overload));
        drop((first, second, third));
        assert!(enter(3).is_ok());
    }

    #[test]
    fn h23_places_of_one_subscriber_are_bounded_over_its_prefixes() {
        let pool = Arc::new(Pending::new(1000, 2));
        let enter = |network: u16| pool.enter(IpAddr::from([0x2001, 0xdb8, 1, network, 0, 0, 0, 1]), 100).ok();
        let held: Vec<_> = (0..512).filter_map(enter).collect();
        assert_eq!(held.len(), 16, "two of each /64, eight of each /56");
        drop(held);
        assert!(pool.places.lock().by_address.is_empty());
    }
}
