//! Admission 5: is there a free slot for one more of this kind? One step of the shared leases.

use picket_shared::address::AddressKey;
use picket_shared::clock::Timestamp;
use picket_shared::policy::Rules;
use picket_shared::reason::Reason;
use picket_shared::state::{Claim, Lease, LeaseKey, Leases};
use picket_shared::token::Principal;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::refusal::{Denial, Refusal};

/// slots come back when somebody leaves; nobody knows when
const RETRY_AFTER: Duration = Duration::from_secs(10);

pub async fn check(
    leases: &Arc<dyn Leases>,
    policy: &Rules,
    principal: &Principal,
    address: IpAddr,
    now: Timestamp,
) -> Result<Lease, Refusal> {
    let (claims, reasons) = claims(policy, principal, address);
    match Lease::acquire(leases, &claims, now).await? {
        Ok(lease) => Ok(lease),
        Err(full) => Err(refused(&claims[full], reasons[full]).into()),
    }
}

/// a user's own slot, wherever it comes from; or a slot of all that are anonymous and of each prefix that the address is
/// counted by, under the smaller of its two limits
fn claims(policy: &Rules, principal: &Principal, address: IpAddr) -> (Vec<Claim>, Vec<Reason>) {
    let (limits, security) = (&policy.limits, &policy.security);
    if let Principal::User(user) = principal {
        let claim = Claim { key: LeaseKey::User(user.id.clone()), cap: limits.per_user };
        return (vec![claim], vec![Reason::TooManyConnections]);
    }
    let (cap, reason) = match security.anonymous_per_address < limits.per_address {
        true => (security.anonymous_per_address, Reason::AnonymousLimit),
        false => (limits.per_address, Reason::TooManyConnections),
    };
    let everyone = (Claim { key: LeaseKey::Anonymous, cap: security.anonymous_max }, Reason::AnonymousLimit);
    let tiers = AddressKey::tiers(address).map(|(prefix, factor)| {
        (Claim { key: LeaseKey::AnonymousOf(prefix), cap: cap.saturating_mul(factor) }, reason)
    });
    // The narrowest first: who has too many connections is told so, whatever others do.
    tiers.chain(std::iter::once(everyone)).unzip()
}

fn refused(claim: &Claim, reason: Reason) -> Denial {
    let (setting, prefix) = match (&claim.key, reason) {
        (LeaseKey::Anonymous, _) => ("security.maxAnonymousConnections", None),
        (LeaseKey::AnonymousOf(prefix), Reason::AnonymousLimit) => ("security.maxAnonymousPerAddress", Some(prefix)),
        (LeaseKey::AnonymousOf(prefix), _) => ("rateLimiting.concurrentConnections.perAddress", Some(prefix)),
        (LeaseKey::User(_), _) => ("rateLimiting.concurrentConnections.perUser", None),
    };
    let denial = Denial::from(reason).retry_after(RETRY_AFTER).with("setting", setting).with("limit", claim.cap);
    match prefix {
        Some(prefix) => {
            denial.because(format!("{setting} is {} for {prefix}", claim.cap)).with("countedFor", prefix.to_string())
        }
        None => denial.because(format!("{setting} is {}", claim.cap)),
    }
}
