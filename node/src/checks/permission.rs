//! Inspection 5: may this principal send this event? Lookups in memory.

use picket_shared::policy::ValidationRules;
use picket_shared::reason::Reason;
use picket_shared::token::Principal;

use crate::refusal::Denial;

pub fn check(rules: &ValidationRules, principal: &Principal, event: &str) -> Result<(), Denial> {
    if principal.user().is_none() && rules.needs_login(event) {
        return Err(Reason::EventLoginRequired.into());
    }
    let Some(allowed) = rules.roles_of(event) else {
        return Ok(());
    };
    match principal.roles().any(|role| allowed.iter().any(|one| one == role)) {
        true => Ok(()),
        false => Err(Denial::from(Reason::RoleRequired).because(format!("needs one of {}", allowed.join(", ")))),
    }
}
