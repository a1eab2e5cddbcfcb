//! Inspection 1: how many events does this connection send? Its own windows, no lock, no state.

use picket_shared::clock::Timestamp;
use picket_shared::policy::Limits;
use picket_shared::reason::Reason;
use picket_shared::window::{Verdict, Window};

use crate::refusal::Denial;

/// the windows of one connection
#[derive(Debug, Default)]
pub struct ConnectionRates {
    burst: Window,
    events: Window,
}

pub fn check(rates: &mut ConnectionRates, limits: &Limits, now: Timestamp) -> Result<(), Denial> {
    if let Verdict::Refused { retry_after } = rates.burst.admit(limits.burst, now) {
        return Err(Denial::from(Reason::Burst)
            .retry_after(retry_after)
            .of_limit("rateLimiting.burstLimit", limits.burst));
    }
    if let Verdict::Refused { retry_after } = rates.events.admit(limits.events, now) {
        rates.burst.refund(now);
        let denial = Denial::from(Reason::EventRate).retry_after(retry_after);
        return Err(denial.of_limit("rateLimiting.eventLimit", limits.events));
    }
    Ok(())
}
