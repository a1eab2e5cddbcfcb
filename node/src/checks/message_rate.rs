//! Inspection 2: how many messages does this user, else this address, send over all sockets and nodes? Shared counters.
//!
//! One event may count against two limits; if the second refuses, the first gets its permit back.

use picket_shared::address::AddressKey;
use picket_shared::clock::Timestamp;
use picket_shared::policy::{EventLimit, Limits, Per};
use picket_shared::reason::Reason;
use picket_shared::state::{Charge, CounterKey, Counters, LimitName, Permit, Subject};
use picket_shared::token::Principal;
use picket_shared::window::{Quota, Verdict, Window};
use std::collections::HashMap;
use std::net::IpAddr;

use crate::refusal::{Denial, Refusal};

/// whose event it is
pub struct Sender<'a> {
    pub principal: &'a Principal,
    pub address: IpAddr,
}

impl Sender<'_> {
    fn user_else_address(&self) -> Subject {
        match self.principal.user() {
            Some(user) => Subject::User(user.id.clone()),
            None => self.at_address(),
        }
    }

    fn at_address(&self) -> Subject {
        Subject::Address(AddressKey::of(self.address))
    }
}

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
    let factor = limits.factor(sender.principal.roles());
    let messages = match limits.counts_as_message(event) {
        true => Some(charge_messages(counters, limits.messages.scaled(factor), sender, now).await?),
        false => None,
    };
    let Some(limit) = limits.named.get(event) else {
        return Ok(());
    };
    let outcome = charge_named(counters, *limit, factor, own, sender, event, now).await;
    if let (Err(_), Some(permit)) = (&outcome, messages) {
        counters.refund(permit).await?;
    }
    outcome
}

async fn charge_messages(
    counters: &dyn Counters,
    quota: Quota,
    sender: &Sender<'_>,
    now: Timestamp,
) -> Result<Permit, Refusal> {
    let key = CounterKey { subject: sender.user_else_address(), limit: LimitName::Messages };
    match counters.charge(key, quota, now).await? {
        Charge::Granted(permit) => Ok(permit),
        Charge::Exhausted { retry_after } => Err(Denial::from(Reason::MessageRate).retry_after(retry_after).into()),
    }
}

async fn charge_named(
    counters: &dyn Counters,
    limit: EventLimit,
    factor: f64,
    own: &mut NamedRates,
    sender: &Sender<'_>,
    event: &str,
    now: Timestamp,
) -> Result<(), Refusal> {
    let quota = limit.quota.scaled(factor);
    let subject = match limit.per {
        Per::Connection => {
            return match own.entry(event.to_owned()).or_default().admit(quota, now) {
                Verdict::Admitted => Ok(()),
                Verdict::Refused { retry_after } => Err(refused(event, retry_after)),
            };
        }
        Per::User => sender.user_else_address(),
        Per::Address => sender.at_address(),
    };
    match counters.charge(CounterKey { subject, limit: LimitName::Event(event.into()) }, quota, now).await? {
        Charge::Granted(_) => Ok(()),
        Charge::Exhausted { retry_after } => Err(refused(event, retry_after)),
    }
}

fn refused(event: &str, retry_after: std::time::Duration) -> Refusal {
    Denial::from(Reason::EventRate).retry_after(retry_after).because(format!("rateLimiting.events.{event}")).into()
}
