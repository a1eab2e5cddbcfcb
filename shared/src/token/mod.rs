//! Who speaks, by a token: a principal. The files beside turn a JSON Web Token (RFC 7519) into one, by the rules of RFC 8725.

mod issuer;
mod key_set;
mod remote_keys;
mod verifier;

#[cfg(test)]
mod forgeries;
#[cfg(test)]
mod wycheproof;

pub use issuer::{
    ISSUERS_MAX, IssuerConfig, KeyError, KeyFamily, SECRET_BYTES_MIN, SigningAlgorithm, check_jwks_url, hmac_secret,
    sign,
};
pub use remote_keys::RemoteKeys;
pub use verifier::{ClaimNames, TOKEN_AGE_MAX, TokenError, TokenVerifier};

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

use crate::audit::IDENTIFIER_BYTES_MAX;
use crate::clock::Timestamp;
use crate::hex;

/// the longest token that is looked at
pub const TOKEN_BYTES_MAX: usize = 8192;
/// clock skew that `exp` and `nbf` are granted
pub const LEEWAY: Duration = Duration::from_secs(60);
/// of the hash by which a session is known: enough to tell millions apart, and only a part, so that nothing leads back from it
const SESSION_BYTES: usize = 8;
/// roles that a principal may have
const ROLES_MAX: usize = 64;

/// who speaks
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Principal {
    #[default]
    Anonymous,
    User(User),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub id: Arc<str>,
    pub roles: Arc<[String]>,
    pub expires: Option<Timestamp>,
    /// when the token was issued or, of a session, the application vouched for it; `None` where it does not say
    pub issued: Option<Timestamp>,
    /// the token's `jti`
    pub token_id: Option<Arc<str>>,
    /// the same for all that came in with one token, and nothing that leads back to it
    pub session: Option<Arc<str>>,
}

impl Principal {
    pub fn user(&self) -> Option<&User> {
        match self {
            Principal::Anonymous => None,
            Principal::User(user) => Some(user),
        }
    }

    /// whether both speak for the same user, or for nobody; roles may differ
    pub fn is_same(&self, other: &Principal) -> bool {
        self.user().map(|user| &user.id) == other.user().map(|user| &user.id)
    }

    /// the roles for limits and permissions; an anonymous principal has the role `anonymous`
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        let anonymous = self.user().is_none().then_some("anonymous");
        let own = self.user().map_or(&[][..], |user| &user.roles);
        anonymous.into_iter().chain(own.iter().map(String::as_str))
    }
}

impl User {
    /// a user of whom nothing else is known
    pub fn named(id: &str) -> User {
        User { id: id.into(), roles: [].into(), expires: None, issued: None, token_id: None, session: None }
    }

    /// who came in with this token: its `jti` stands for it, where it has one
    pub fn by(self, token: &str) -> User {
        let (kind, proof) = self.token_id.as_deref().map_or(("token", token), |jti| ("jti", jti));
        let parts = ["picket session 1", &self.id, kind, proof];
        let digest = parts.into_iter().fold(Sha256::new(), |hash, part| {
            // The length keeps the parts apart.
            hash.chain_update(part.len().to_be_bytes()).chain_update(part)
        });
        let session = hex::encode(&digest.finalize()[..SESSION_BYTES]);
        User { session: Some(session.into()), ..self }
    }

    /// a user with a usable identifier and typed roles, or `None`
    pub fn from_json(id: &Value, roles: Option<&Value>) -> Option<User> {
        let id = match id {
            Value::String(text) => text.clone(),
            Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
            _ => return None,
        };
        if id.is_empty() || id.len() > IDENTIFIER_BYTES_MAX {
            return None;
        }
        Some(User { roles: roles_of(roles)?.into(), ..User::named(&id) })
    }
}

/// a role or a list of roles; anything else is no answer rather than no role
fn roles_of(value: Option<&Value>) -> Option<Vec<String>> {
    let short = |role: &str| (role.len() <= IDENTIFIER_BYTES_MAX).then(|| role.to_owned());
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::String(role)) => short(role).map(|role| vec![role]),
        Some(Value::Array(roles)) if roles.len() <= ROLES_MAX => {
            roles.iter().map(|role| role.as_str().and_then(short)).collect()
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: &str, jti: Option<&str>, token: &str) -> String {
        let user = User { token_id: jti.map(Into::into), ..User::named(id) }.by(token);
        user.session.unwrap().to_string()
    }

    #[test]
    fn a_session_is_the_token_or_its_jti_and_does_not_tell_either() {
        let own = session("alice", None, "secret-token");
        assert_eq!(own, session("alice", None, "secret-token"));
        assert_eq!((own.len(), own.contains("secret")), (16, false));
        assert_ne!(own, session("alice", None, "secret-token2"));
        assert_ne!(own, session("alice", Some("secret-token"), "x"), "a jti is no token");
        assert_eq!(session("alice", Some("7"), "signed"), session("alice", Some("7"), "signed anew"));
        assert_ne!(session("alice", Some("7"), "x"), session("bob", Some("7"), "x"), "a jti is one user's own");
        assert_ne!(session("a", Some("bc"), "x"), session("ab", Some("c"), "x"));
    }
}
