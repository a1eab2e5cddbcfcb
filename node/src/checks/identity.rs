//! Admission 4: who is it? Cryptography, or one question to the application's session endpoint.

use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use picket_shared::secret::Secret;
use picket_shared::token::Principal;

use crate::identity::Keys;
use crate::refusal::{Denial, Refusal};

pub async fn check(
    keys: &Keys,
    token: Option<&Secret>,
    allow_anonymous: bool,
    now: Timestamp,
) -> Result<Principal, Refusal> {
    let principal = keys.principal(token, now).await?;
    check_anonymous(&principal, allow_anonymous)?;
    Ok(principal)
}

pub fn check_anonymous(principal: &Principal, allow_anonymous: bool) -> Result<(), Denial> {
    match principal {
        Principal::Anonymous if !allow_anonymous => {
            Err(Denial::from(Reason::LoginRequired).because("security.allowAnonymous is false"))
        }
        Principal::Anonymous | Principal::User(_) => Ok(()),
    }
}
