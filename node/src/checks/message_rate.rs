//! Inspection 3: how many messages does this user, else this address, send over all sockets and nodes? Shared counters.
//!
//! One event may count against several limits; if one refuses, the others get their permits back.

use picket_shared::address::AddressKey;
use picket_shared::audit::{IDENTIFIER_BYTES_MAX, printable};
use picket_shared::clock::Timestamp;
use picket_shared::policy::{EventLimit, Limits, Per};
use picket_shared::reason::Reason;
use picket_shared::state::{CounterKey, Counters, Joint, LimitName, Subject, charge_all, refund_all};
use picket_shared::token::Principal;
use picket_shared::window::{Quota, Verdict, Window};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::refusal::{Denial, Refusal};

/// whose event it is
pub struct Sender<'a> {
    pub principal: &'a Principal,
    pub address: IpAddr,
}

/// the shared limits that one event counts against
type Charges = SmallVec<[(CounterKey, Quota); 1]>;

/// windows of limits `per: connection`, by the policy's event names
pub type NamedRates = HashMap<String, Window>;

pub async fn check(
    counters: &dyn Counters,
    limits: &Limits,
    own: &mut NamedRates,
    sender: &Sender<'_>,
    event: &str,
    now: Timestamp,
) -> Result<(), Refusal> {
    let role_factor = limits.factor(sender.principal.roles());
    let named = limits.named.get(event).map(|limit| EventLimit { quota: limit.quota.scaled(role_factor), ..*limit });
    let mut shared = Charges::new();
    if limits.counts_as_message(event) {
        sender.add_user_else_address(&mut shared, &LimitName::Messages, limits.messages.scaled(role_factor));
    }
    let messages = shared.len();
    match named.map(|limit| (limit.per, limit.quota)) {
        Some((Per::User, quota)) => sender.add_user_else_address(&mut shared, &LimitName::Event(event.into()), quota),
        Some((Per::Address, quota)) => sender.add_address(&mut shared, &LimitName::Event(event.into()), quota),
        Some((Per::Connection, _)) | None => {}
    }
    let permits = match charge_all(counters, shared, now).await? {
        Joint::Granted(permits) => permits,
        Joint::Exhausted { place, retry_after } if place < messages => {
            let (counted_for, factor) = sender.counted_for(place);
            let quota = limits.messages.scaled(role_factor).times(factor);
            let denial = Denial::from(Reason::MessageRate).retry_after(retry_after);
            return Err(denial.of_limit("rateLimiting.messageLimit", quota).with("countedFor", counted_for).into());
        }
        Joint::Exhausted { place, retry_after } => {
            let quota = named.map_or(limits.messages, |limit| limit.quota);
            let (counted_for, factor) = match named.map(|limit| limit.per) {
                Some(Per::Address) => sender.counted_by_address(place - messages),
                _ => sender.counted_for(place - messages),
            };
            return Err(refused(event, retry_after, quota.times(factor), counted_for).into());
        }
    };
    if let Some(limit) = named.filter(|limit| limit.per == Per::Connection)
        && let Verdict::Refused { retry_after } = own.entry(event.to_owned()).or_default().admit(limit.quota, now)
    {
        refund_all(counters, permits).await;
        return Err(refused(event, retry_after, limit.quota, "connection".to_owned()).into());
    }
    Ok(())
}

impl Sender<'_> {
    fn add_user_else_address(&self, shared: &mut Charges, limit: &LimitName, quota: Quota) {
        match self.principal.user() {
            Some(user) => {
                shared.push((CounterKey { subject: Subject::User(user.id.clone()), limit: limit.clone() }, quota));
            }
            None => self.add_address(shared, limit, quota),
        }
    }

    /// whose uses were at this place of the charges, and the factor of its limit
    fn counted_for(&self, place: usize) -> (String, u32) {
        match self.principal.user() {
            Some(_) => ("user".to_owned(), 1),
            None => self.counted_by_address(place),
        }
    }

    fn counted_by_address(&self, place: usize) -> (String, u32) {
        let tier = AddressKey::tiers(self.address).nth(place);
        tier.map_or_else(|| (self.address.to_string(), 1), |(prefix, factor)| (prefix.to_string(), factor))
    }

    fn add_address(&self, shared: &mut Charges, limit: &LimitName, quota: Quota) {
        shared.extend(AddressKey::tiers(self.address).map(|(prefix, factor)| {
            (CounterKey { subject: Subject::Address(prefix), limit: limit.clone() }, quota.times(factor))
        }));
    }
}

fn refused(event: &str, retry_after: Duration, quota: Quota, counted_for: String) -> Denial {
    let setting = format!("rateLimiting.events.{}", printable(event, IDENTIFIER_BYTES_MAX));
    let denial = Denial::from(Reason::EventRate).retry_after(retry_after).because(setting.clone());
    denial.of_limit(setting, quota).with("countedFor", counted_for)
}
