//! Admission 3: how many connections did this address open lately, over all nodes? A step of the shared counters for each
//! prefix that it is counted by: one for IPv4, three for IPv6.

use picket_shared::address::AddressKey;
use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use picket_shared::state::{CounterKey, Counters, Joint, LimitName, Permits, Subject, charge_all};
use picket_shared::window::Quota;
use std::net::IpAddr;

use crate::refusal::{Denial, Refusal};

pub async fn check(counters: &dyn Counters, quota: Quota, address: IpAddr, now: Timestamp) -> Result<Permits, Refusal> {
    let limits = AddressKey::tiers(address).map(|(prefix, factor)| {
        (CounterKey { subject: Subject::Address(prefix), limit: LimitName::Connections }, quota.times(factor))
    });
    match charge_all(counters, limits, now).await? {
        Joint::Granted(permits) => Ok(permits),
        Joint::Exhausted { place, retry_after } => {
            let denial = Denial::from(Reason::ConnectionRate).retry_after(retry_after);
            Err(match AddressKey::tiers(address).nth(place) {
                Some((prefix, factor)) => {
                    let limit = quota.times(factor).limit;
                    denial
                        .because(format!("rateLimiting.connectionLimit is {limit} for {prefix}"))
                        .of_limit("rateLimiting.connectionLimit", quota.times(factor))
                        .with("countedFor", prefix.to_string())
                }
                None => denial,
            }
            .into())
        }
    }
}
