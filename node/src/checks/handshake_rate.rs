//! Before admission: how many handshakes does this address try on this node, failed ones too? Local memory only.

use parking_lot::Mutex;
use picket_shared::address::AddressKey;
use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use picket_shared::window::{Quota, Verdict, Window};
use std::collections::HashMap;
use std::net::IpAddr;

use crate::refusal::Denial;

/// handshakes of the last window by address, for a bounded number of addresses
pub struct Handshakes {
    windows: Mutex<Windows>,
    addresses_max: usize,
}

#[derive(Default)]
struct Windows {
    by_address: HashMap<AddressKey, Window>,
    /// the size at which idle addresses are forgotten again
    next_sweep: usize,
}

/// the smallest size at which idle addresses are looked for
const SWEEP_MIN: usize = 1024;

impl Handshakes {
    pub fn new(addresses_max: usize) -> Self {
        Handshakes { windows: Mutex::default(), addresses_max }
    }
}

pub fn check(handshakes: &Handshakes, quota: Quota, address: IpAddr, now: Timestamp) -> Result<(), Denial> {
    let mut windows = handshakes.windows.lock();
    let key = AddressKey::of(address);
    windows.make_room(quota, handshakes.addresses_max, now);
    if windows.by_address.len() >= handshakes.addresses_max && !windows.by_address.contains_key(&key) {
        return Err(Denial::from(Reason::Overload).because("node.limits.handshakeAddressesMax addresses are active").retry_after(quota.window));
    }
    match windows.by_address.entry(key).or_default().admit(quota, now) {
        Verdict::Admitted => Ok(()),
        Verdict::Refused { retry_after } => Err(Denial::from(Reason::TooManyHandshakes).retry_after(retry_after)),
    }
}

impl Windows {
    /// forgets idle addresses whenever the table has doubled, so that a handshake costs amortised O(1)
    fn make_room(&mut self, quota: Quota, addresses_max: usize, now: Timestamp) {
        if self.by_address.len() >= self.next_sweep.clamp(SWEEP_MIN.min(addresses_max), addresses_max) {
            self.by_address.retain(|_, window| !window.is_idle(quota, now));
            self.next_sweep = self.by_address.len() * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h29_failed_handshakes_have_a_limit_of_their_own_by_address() {
        let handshakes = Handshakes::new(2);
        let quota = Quota::new(2, 60_000);
        let at = |seconds: u64| Timestamp::from_millis(1_000_000 + seconds * 1000);
        let try_from = |last: u8, now| check(&handshakes, quota, IpAddr::from([192, 0, 2, last]), now).map_err(|denial| denial.reason);
        assert_eq!(try_from(1, at(0)), Ok(()));
        assert_eq!(try_from(1, at(1)), Ok(()));
        assert_eq!(try_from(1, at(2)), Err(Reason::TooManyHandshakes));
        assert_eq!(try_from(2, at(2)), Ok(()), "another address is not concerned");
        assert_eq!(try_from(3, at(3)), Err(Reason::Overload), "the table is bounded");
        assert_eq!(try_from(3, at(90)), Ok(()), "and forgets who is idle");
    }
}
