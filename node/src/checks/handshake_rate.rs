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
    let mut table = handshakes.0.lock();
    let outcome = AddressKey::tiers(address).try_for_each(|(prefix, factor)| {
        let quota = quota.times(factor);
        admit(table.admit(&prefix, quota, now), quota, prefix)
    });
    if outcome.is_err() {
        // Only a handshake that every prefix admits is counted by any of them.
        AddressKey::tiers(address)
            .take_while(|(prefix, _)| outcome.as_ref().is_err_and(|(full, _)| full != prefix))
            .for_each(|(prefix, _)| table.refund(&prefix, now));
    }
    outcome.map_err(|(_, denial)| denial)
}

fn admit(verdict: Result<Verdict, Full>, quota: Quota, prefix: AddressKey) -> Result<(), (AddressKey, Denial)> {
    match verdict {
        Ok(Verdict::Admitted) => Ok(()),
        Ok(Verdict::Refused { retry_after }) => Err((
            prefix,
            Denial::from(Reason::TooManyHandshakes)
                .retry_after(retry_after)
                .because(format!("rateLimiting.handshakeLimit, for {prefix}"))
                .of_limit("rateLimiting.handshakeLimit", quota)
                .with("countedFor", prefix.to_string()),
        )),
        Err(Full) => {
            let detail = "node.limits.handshakeAddressesMax addresses are active";
            Err((prefix, Denial::from(Reason::Overload).because(detail).retry_after(quota.window)))
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

    #[test]
    fn h23_handshakes_from_ever_new_prefixes_add_up() {
        let handshakes = Handshakes::new(1000);
        let (quota, now) = (Quota::new(10, 60_000), Timestamp::from_millis(1_000_000));
        let admitted = |network: u16| {
            let from = |host: u16| IpAddr::from([0x2001, 0xdb8, 7, network + host, 0, 0, 0, 1]);
            (0..256).filter(|host| check(&handshakes, quota, from(*host), now).is_ok()).count()
        };
        assert_eq!(admitted(0x0100), 40, "a /56 has four times the limit");
        assert_eq!([0x0200, 0x0300, 0x0400, 0x0500].map(admitted), [40, 40, 40, 0], "a /48 has sixteen times");
        let refused = IpAddr::from([0x2001, 0xdb8, 7, 0x0500, 0, 0, 0, 1]);
        assert!(check(&handshakes, quota, refused, now).unwrap_err().detail.unwrap().contains("2001:db8:7::/48"));
    }
}
