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
    let (claims, reasons) = claims(policy, principal, AddressKey::of(address));
    match Lease::acquire(leases, &claims, now).await? {
        Ok(lease) => Ok(lease),
        Err(full) => Err(refused(&claims[full], reasons[full]).into()),
    }
}

fn claims(policy: &Rules, principal: &Principal, address: AddressKey) -> (Vec<Claim>, Vec<Reason>) {
    let (limits, security) = (&policy.limits, &policy.security);
    let slots = match principal {
        Principal::User(user) => vec![(LeaseKey::User(user.id.clone()), limits.per_user, Reason::TooManyConnections)],
        Principal::Anonymous => vec![
            (LeaseKey::Anonymous, security.anonymous_max, Reason::AnonymousLimit),
            (LeaseKey::AnonymousOf(address), security.anonymous_per_address, Reason::AnonymousLimit),
            (LeaseKey::Address(address), limits.per_address, Reason::TooManyConnections),
        ],
    };
    slots.into_iter().map(|(key, cap, reason)| (Claim { key, cap }, reason)).unzip()
}

fn refused(claim: &Claim, reason: Reason) -> Denial {
    let limit = match claim.key {
        LeaseKey::Anonymous => "security.maxAnonymousConnections",
        LeaseKey::AnonymousOf(_) => "security.maxAnonymousPerAddress",
        LeaseKey::Address(_) => "rateLimiting.concurrentConnections.perAddress",
        LeaseKey::User(_) => "rateLimiting.concurrentConnections.perUser",
    };
    Denial::from(reason).retry_after(RETRY_AFTER).because(format!("{limit} is {}", claim.cap))
}
