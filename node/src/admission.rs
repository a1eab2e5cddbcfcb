//! Admission, the connection pipeline: the order of its checks and nothing else.
//!
//! A plain WebSocket runs both steps at its upgrade. Socket.IO names its user later, in CONNECT: there the upgrade runs
//! [`screen`], and each namespace's CONNECT runs [`complete`]. Every check's verdict goes by `pardons`: a rule may be in shadow.

use picket_shared::clock::Timestamp;
use picket_shared::policy::Rules;
use picket_shared::reason::Reason;
use picket_shared::secret::Secret;
use picket_shared::state::{Lease, Permits};
use picket_shared::token::{LEEWAY, Principal};
use std::net::IpAddr;
use std::sync::Arc;

use crate::attempt::Attempt;
use crate::checks;
use crate::gate::Gate;
use crate::pardons::Pardons;
use crate::refusal::{Denial, Refusal};

/// a connection, or one namespace of it, that may speak; gives its slots back when dropped
#[derive(Clone, Debug)]
pub struct Admitted {
    pub principal: Principal,
    /// shared by the namespaces of one connection that speak for the same principal
    pub lease: Arc<Lease>,
}

/// an attempt that passed the checks that need no identity
#[derive(Debug, Default)]
pub struct Screened {
    /// given back if the upstream fails: that is not the client's connection rate
    pub rate: Permits,
}

/// before all else, and before a request is understood: how many handshakes does this address make at this node?
pub fn count_handshake(gate: &Gate, address: IpAddr, pardons: &mut Pardons, now: Timestamp) -> Result<(), Denial> {
    let policy = gate.policy.current();
    if policy.enforcement.is_off() {
        return Ok(());
    }

    let counted = checks::handshake_rate::check(&gate.handshakes, policy.limits.handshakes, address, now);
    pardons.ask(counted)?;
    Ok(())
}

/// all checks of a connection that brings its token with the upgrade
pub async fn admit(
    gate: &Gate,
    attempt: &Attempt,
    pardons: &mut Pardons,
    now: Timestamp,
) -> Result<(Screened, Admitted), Refusal> {
    let screened = screen(gate, attempt, pardons, now).await?;
    let token = attempt.token.as_ref().map(|found| &found.token);
    let admitted = complete(gate, &screened, attempt, token, &[], pardons, now).await?;
    Ok((screened, admitted))
}

/// the checks that need no identity
pub async fn screen(
    gate: &Gate,
    attempt: &Attempt,
    pardons: &mut Pardons,
    now: Timestamp,
) -> Result<Screened, Refusal> {
    let policy = gate.policy.current();
    if policy.enforcement.is_off() {
        return Ok(Screened::default());
    }

    pardons.ask(checks::reputation::check(&gate.blocks, &policy.security.allow_list, attempt.address, now))?;
    pardons.ask(check_country(gate, &policy, attempt.address))?;
    pardons.ask(checks::origin::check(&policy.cors, &attempt.origin))?;
    let (counters, quota) = (&*gate.counters, policy.limits.connections);
    let rate = pardons.ask(checks::connection_rate::check(counters, quota, attempt.address, now).await)?;

    Ok(Screened { rate: rate.unwrap_or_default() })
}

/// the checks that need an identity; a connection that already holds a slot for this principal needs no second one
pub async fn complete(
    gate: &Gate,
    _screened: &Screened,
    attempt: &Attempt,
    token: Option<&Secret>,
    held: &[Admitted],
    pardons: &mut Pardons,
    now: Timestamp,
) -> Result<Admitted, Refusal> {
    let policy = gate.policy.current();

    let proven = checks::identity::check(&gate.keys, token, policy.security.allow_anonymous, now).await;
    let principal = pardons.ask(proven)?.unwrap_or_default();
    if policy.enforcement.is_off() {
        return Ok(Admitted { principal, lease: Lease::uncounted(&gate.leases).into() });
    }
    let (allow_list, address) = (&policy.security.allow_list, attempt.address);
    let bound = checks::reputation::check_principal(&gate.blocks, allow_list, address, &principal, now);
    pardons.ask(bound.map_err(|denial| denial.of(&principal)))?;
    let lease = match held.iter().find(|one| one.principal.is_same(&principal)) {
        Some(same) => same.lease.clone(),
        None => {
            let slot = checks::concurrency::check(&gate.leases, &policy, &principal, attempt.address, now).await;
            let slot = slot.map_err(|refusal| Denial::from(refusal).of(&principal));
            pardons.ask(slot)?.unwrap_or_else(|| Lease::uncounted(&gate.leases)).into()
        }
    };

    Ok(Admitted { principal, lease })
}

/// what an open session must still meet after the block list or the policy changed
pub fn still_admissible<'a>(
    gate: &Gate,
    attempt: &Attempt,
    principals: impl IntoIterator<Item = &'a Principal>,
    pardons: &mut Pardons,
    now: Timestamp,
) -> Result<(), Denial> {
    let policy = gate.policy.current();
    if policy.enforcement.is_off() {
        return Ok(());
    }

    pardons.ask(checks::reputation::check(&gate.blocks, &policy.security.allow_list, attempt.address, now))?;
    pardons.ask(check_country(gate, &policy, attempt.address))?;
    pardons.ask(checks::origin::check(&policy.cors, &attempt.origin))?;
    principals.into_iter().try_for_each(|principal| may_stay(gate, &policy, attempt.address, principal, pardons, now))
}

/// the same of somebody who did not come in here, so that no origin is known
pub fn still_welcome(
    gate: &Gate,
    address: IpAddr,
    principal: &Principal,
    pardons: &mut Pardons,
    now: Timestamp,
) -> Result<(), Denial> {
    let policy = gate.policy.current();
    if policy.enforcement.is_off() {
        return Ok(());
    }

    pardons.ask(checks::reputation::check(&gate.blocks, &policy.security.allow_list, address, now))?;
    pardons.ask(check_country(gate, &policy, address))?;
    may_stay(gate, &policy, address, principal, pardons, now)
}

/// whether the time of the proof of who this is is over
pub fn not_expired(principal: &Principal, now: Timestamp) -> Result<(), Denial> {
    let expires = principal.user().and_then(|user| user.expires);
    match expires.is_some_and(|expires| expires.plus(LEEWAY) <= now) {
        true => Err(Denial::from(Reason::TokenExpired).of(principal)),
        false => Ok(()),
    }
}

fn check_country(gate: &Gate, policy: &Rules, address: IpAddr) -> Result<(), Denial> {
    checks::country::check(gate.geo.as_ref(), &policy.security.countries, &policy.security.allow_list, address)
}

fn may_stay(
    gate: &Gate,
    policy: &Rules,
    address: IpAddr,
    who: &Principal,
    pardons: &mut Pardons,
    now: Timestamp,
) -> Result<(), Denial> {
    let bound = checks::reputation::check_principal(&gate.blocks, &policy.security.allow_list, address, who, now);
    pardons.ask(bound.map_err(|denial| denial.of(who)))?;
    pardons.ask(gate.keys.still_proven(who))?;
    pardons.ask(checks::identity::check_anonymous(who, policy.security.allow_anonymous))?;
    Ok(())
}
