//! From a token to a principal: a JWT of a configured issuer, or a session that the application's endpoint vouches for.

mod introspection;
mod sources;

pub use introspection::{IntrospectionError, Introspector};
pub use sources::{FoundToken, TokenSource, TokenSources};

use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use picket_shared::secret::Secret;
use picket_shared::state::{RevocationView, Revoked};
use picket_shared::token::{Principal, TokenError, TokenVerifier, User};

use crate::config::InvalidToken;
use crate::refusal::Denial;

/// what proves who somebody is
pub struct Keys {
    pub sources: TokenSources,
    pub verifier: TokenVerifier,
    pub sessions: Option<Introspector>,
    pub revocations: RevocationView,
    pub on_invalid: InvalidToken,
    pub token_bytes_max: usize,
}

impl Keys {
    /// who the token speaks for; nobody where there is no token, or nothing is configured that could judge one
    pub async fn principal(&self, token: Option<&Secret>, now: Timestamp) -> Result<Principal, Denial> {
        let Some(token) = token.filter(|_| self.judges_tokens()) else {
            return Ok(Principal::Anonymous);
        };
        match self.proven(token, now).await {
            Ok(principal) => Ok(principal),
            Err(denial) if self.on_invalid == InvalidToken::Anonymous && is_verdict(denial.reason) => {
                Ok(Principal::Anonymous)
            }
            Err(denial) => Err(denial),
        }
    }

    async fn proven(&self, token: &Secret, now: Timestamp) -> Result<Principal, Denial> {
        let principal = Principal::User(self.user(token, now).await?.by(token.expose()));
        self.still_proven(&principal)?;
        Ok(principal)
    }

    fn judges_tokens(&self) -> bool {
        self.verifier.has_issuers() || self.sessions.is_some()
    }

    async fn user(&self, token: &Secret, now: Timestamp) -> Result<User, Denial> {
        if token.expose().len() > self.token_bytes_max {
            return Err(Denial::from(Reason::TokenInvalid)
                .because(format!("longer than node.limits.tokenBytesMax ({})", self.token_bytes_max)));
        }
        let signed = self.verifier.has_issuers() && TokenVerifier::looks_like_jwt(token.expose());
        match (&self.sessions, signed) {
            (None, _) => self.verified(token, now),
            (Some(sessions), false) => sessions.user(token, &self.revocations, now).await,
            // Both: the token must be genuine, and its session still active.
            (Some(sessions), true) => {
                let user = self.verified(token, now)?;
                sessions.user(token, &self.revocations, now).await.map(|_| user)
            }
        }
    }

    /// whether what proved the user still does
    pub fn still_proven(&self, principal: &Principal) -> Result<(), Denial> {
        match principal.user().and_then(|user| self.revocations.against(user)) {
            None => Ok(()),
            // The record names the user in its place, where an erasure finds it.
            Some(revoked) => Err(Denial::from(Reason::TokenRevoked).of(principal).because(match revoked {
                Revoked::Token(jti) => format!("the token {jti}"),
                Revoked::User(_, before) => format!("tokens of this user issued before {before}"),
                Revoked::Everyone(before) => format!("tokens issued before {before}"),
            })),
        }
    }

    fn verified(&self, token: &Secret, now: Timestamp) -> Result<User, Denial> {
        self.verifier.verify(token.expose(), now).map_err(|error| match error {
            TokenError::Expired => Reason::TokenExpired.into(),
            TokenError::Invalid => Reason::TokenInvalid.into(),
            TokenError::NoKeys => {
                Denial::from(Reason::KeysUnavailable).because("auth.jwt.issuers: jwksUrl does not answer")
            }
        })
    }
}

/// whether this is a judgement on the token, rather than the lack of one
fn is_verdict(reason: Reason) -> bool {
    matches!(reason, Reason::TokenInvalid | Reason::TokenExpired | Reason::TokenRevoked)
}
