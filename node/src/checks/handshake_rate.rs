//! Before admission: how many handshakes does this address try on this node, failed ones too? Local memory only.

use parking_lot::Mutex;
use picket_shared::address::AddressKey;
use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use picket_shared::window::{Quota, Verdict};
use picket_shared::window_table::{Full, WindowTable};
use std::net::IpAddr;

use crate::refusal::Denial;

/// handshakes of the last window by address, for a bounded number of addresses
pub struct Handshakes(Mutex<WindowTable<AddressKey>>);

impl Handshakes {
    pub fn new(addresses_max: usize) -> Self {
        Handshakes(Mutex::new(WindowTable::with_capacity(addresses_max)))
    }
}

pub fn check(handshakes: &Handshakes, quota: Quota, address: IpAddr, now: Timestamp) -> Result<(), Denial> {
    let verdict = handshakes.0.lock().admit(&AddressKey::of(address), quota, now);
    match verdict {
        Ok(Verdict::Admitted) => Ok(()),
        Ok(Verdict::Refused { retry_after }) => Err(Denial::from(Reason::TooManyHandshakes).retry_after(retry_after)),
        Err(Full) => {
            let detail = "node.limits.handshakeAddressesMax addresses are active";
            Err(Denial::from(Reason::Overload).because(detail).retry_after(quota.window))
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
        let try_from = |last: u8, now| {
            check(&handshakes, quota, IpAddr::from([192, 0, 2, last]), now).map_err(|denial| denial.reason)
        };
        assert_eq!(try_from(1, at(0)), Ok(()));
        assert_eq!(try_from(1, at(1)), Ok(()));
        assert_eq!(try_from(1, at(2)), Err(Reason::TooManyHandshakes));
        assert_eq!(try_from(2, at(2)), Ok(()), "another address is not concerned");
        assert_eq!(try_from(3, at(3)), Err(Reason::Overload), "the table is bounded");
        assert_eq!(try_from(3, at(90)), Ok(()), "and forgets who is idle");
    }
}
