//! Admission 3: how many connections did this address open lately, over all nodes? One step of the shared counters.

use picket_shared::address::AddressKey;
use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use picket_shared::state::{Charge, CounterKey, Counters, LimitName, Permit, Subject};
use picket_shared::window::Quota;
use std::net::IpAddr;

use crate::refusal::{Denial, Refusal};

pub async fn check(counters: &dyn Counters, quota: Quota, address: IpAddr, now: Timestamp) -> Result<Permit, Refusal> {
    let key = CounterKey { subject: Subject::Address(AddressKey::of(address)), limit: LimitName::Connections };
    match counters.charge(key, quota, now).await? {
        Charge::Granted(permit) => Ok(permit),
        Charge::Exhausted { retry_after } => Err(Denial::from(Reason::ConnectionRate).retry_after(retry_after).into()),
    }
}
