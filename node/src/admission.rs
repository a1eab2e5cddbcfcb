//! Admission, the connection pipeline: the order of its checks and nothing else.
//!
//! A plain WebSocket runs both steps at its upgrade. Socket.IO names its user later, in CONNECT: there the upgrade runs
//! [`screen`], and each namespace's CONNECT runs [`complete`].

use picket_shared::clock::Timestamp;
use picket_shared::policy::Rules;
use picket_shared::secret::Secret;
use picket_shared::state::{Lease, Permits};
use picket_shared::token::Principal;
use std::net::IpAddr;
use std::sync::Arc;

use crate::attempt::Attempt;
use crate::checks;
use crate::gate::Gate;
use crate::refusal::{Denial, Refusal};

/// a connection, or one namespace of it, that may speak; gives its slots back when dropped
#[derive(Clone, Debug)]
pub struct Admitted {
    pub principal: Principal,
    /// shared by the namespaces of one connection that speak for the same principal
    pub lease: Arc<Lease>,
}

/// an attempt that passed the checks that need no identity
#[derive(Debug)]
pub struct Screened {
    /// given back if the upstream fails: that is not the client's connection rate
    pub rate: Permits,
}

/// all checks of a connection that brings its token with the upgrade
pub async fn admit(gate: &Gate, attempt: &Attempt, now: Timestamp) -> Result<(Screened, Admitted), Refusal> {
    let screened = screen(gate, attempt, now).await?;
    let token = attempt.token.as_ref().map(|found| &found.token);
    let admitted = complete(gate, &screened, attempt, token, &[], now).await?;
    Ok((screened, admitted))
}

/// the checks that need no identity
pub async fn screen(gate: &Gate, attempt: &Attempt, now: Timestamp) -> Result<Screened, Refusal> {
    let policy = gate.policy.current();

    checks::reputation::check(&gate.blocks, &policy.security.allow_list, attempt.address, now)?;
    checks::origin::check(&policy.cors, &attempt.origin)?;
    let rate = checks::connection_rate::check(&*gate.counters, policy.limits.connections, attempt.address, now).await?;

    Ok(Screened { rate })
}

/// the checks that need an identity; a connection that already holds a slot for this principal needs no second one
pub async fn complete(
    gate: &Gate,
    _screened: &Screened,
    attempt: &Attempt,
    token: Option<&Secret>,
    held: &[Admitted],
    now: Timestamp,
) -> Result<Admitted, Refusal> {
    let policy = gate.policy.current();

    let principal = checks::identity::check(&gate.keys, token, policy.security.allow_anonymous, now).await?;
    let (allow_list, address) = (&policy.security.allow_list, attempt.address);
    checks::reputation::check_principal(&gate.blocks, allow_list, address, &principal, now)?;
    let lease = match held.iter().find(|one| one.principal.is_same(&principal)) {
        Some(same) => same.lease.clone(),
        None => checks::concurrency::check(&gate.leases, &policy, &principal, attempt.address, now).await?.into(),
    };

    Ok(Admitted { principal, lease })
}

/// what an open session must still meet after the block list or the policy changed
pub fn still_admissible<'a>(
    gate: &Gate,
    attempt: &Attempt,
    principals: impl IntoIterator<Item = &'a Principal>,
    now: Timestamp,
) -> Result<(), Denial> {
    let policy = gate.policy.current();

    checks::reputation::check(&gate.blocks, &policy.security.allow_list, attempt.address, now)?;
    checks::origin::check(&policy.cors, &attempt.origin)?;
    principals.into_iter().try_for_each(|principal| may_stay(gate, &policy, attempt.address, principal, now))
}

/// the same of somebody who did not come in here, so that no origin is known
pub fn still_welcome(gate: &Gate, address: IpAddr, principal: &Principal, now: Timestamp) -> Result<(), Denial> {
    let policy = gate.policy.current();

    checks::reputation::check(&gate.blocks, &policy.security.allow_list, address, now)?;
    may_stay(gate, &policy, address, principal, now)
}

fn may_stay(gate: &Gate, policy: &Rules, address: IpAddr, who: &Principal, now: Timestamp) -> Result<(), Denial> {
    checks::reputation::check_principal(&gate.blocks, &policy.security.allow_list, address, who, now)?;
    gate.keys.still_proven(who)?;
    checks::identity::check_anonymous(who, policy.security.allow_anonymous)
}
