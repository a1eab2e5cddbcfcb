//! A signed statement to the upstream of who came in: `X-Picket-Assertion`, for applications that others can reach too.
//!
//! A JSON Web Token that lives shorter than anyone could make use of it elsewhere; `aud` is the route, so that what one
//! application is told proves nothing to another.

use arc_swap::ArcSwap;
use http::HeaderValue;
use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use picket_shared::secret::Secret;
use picket_shared::token::{IssuerConfig, KeyError, Principal, SigningAlgorithm, hmac_secret, sign};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::sync::Arc;

use crate::attempt::Attempt;
use crate::refusal::Denial;
use crate::renewal::{Purpose, Renewal, Watched};

/// `iss` of every statement
const ISSUER: &str = "picket";
/// how long a statement holds: for the upgrade, and clocks that are a little apart
const TTL_SECONDS: u64 = 60;

/// with what `X-Picket-Assertion` is signed
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AssertionConfig {
    /// an HMAC secret of at least 32 bytes, which the upstreams have too; read again when it changes
    #[schemars(with = "String")]
    pub secret_file: PathBuf,
}

impl AssertionConfig {
    pub fn secret(&self) -> Result<Secret, KeyError> {
        hmac_secret(&self.issuer())
    }

    fn issuer_with_secret(&self) -> Result<IssuerConfig, KeyError> {
        Ok(IssuerConfig { secret: Some(self.secret()?), secret_file: None, ..self.issuer() })
    }

    fn issuer(&self) -> IssuerConfig {
        IssuerConfig {
            issuer: ISSUER.to_owned(),
            audience: String::new(),
            algorithms: vec![SigningAlgorithm::HS256],
            secret: None,
            secret_file: Some(self.secret_file.clone()),
            public_key_file: None,
            jwks_url: None,
            ca_file: None,
        }
    }
}

/// signs statements
pub struct Assertions(Arc<ArcSwap<IssuerConfig>>);

impl Assertions {
    pub fn new(config: &AssertionConfig) -> Result<(Self, Renewal), KeyError> {
        let watched = Watched::of(Purpose::AssertionSecret, [&*config.secret_file]);
        let issuer = Arc::new(ArcSwap::from_pointee(config.issuer_with_secret()?));
        let (renewed, config) = (issuer.clone(), config.clone());
        let renewal = watched.renewed_by(move || {
            renewed.store(Arc::new(config.issuer_with_secret().map_err(|error| error.to_string())?));
            Ok(())
        });
        Ok((Assertions(issuer), renewal))
    }

    /// without `sub` where nobody is known: an anonymous client, or a Socket.IO one, who says it after the upgrade
    pub fn state(
        &self,
        attempt: &Attempt,
        principal: Option<&Principal>,
        now: Timestamp,
    ) -> Result<HeaderValue, Denial> {
        let signed = sign(&self.0.load(), &claims(attempt, principal, now)).ok();
        let header = signed.and_then(|token| HeaderValue::from_str(&token).ok());
        header.ok_or_else(|| Denial::from(Reason::InternalError).because("X-Picket-Assertion cannot be signed"))
    }
}

fn claims(attempt: &Attempt, principal: Option<&Principal>, now: Timestamp) -> Map<String, Value> {
    let seconds = now.as_millis() / 1000;
    let mut claims = Map::new();
    let mut claim = |name: &str, value: Value| drop(claims.insert(name.to_owned(), value));
    claim("iss", ISSUER.into());
    claim("aud", (*attempt.route).into());
    claim("iat", seconds.into());
    claim("exp", (seconds + TTL_SECONDS).into());
    claim("jti", (*attempt.id).into());
    claim("client", attempt.address.to_string().into());
    if let Some(user) = principal.and_then(Principal::user) {
        claim("sub", (*user.id).into());
        claim("roles", user.roles.to_vec().into());
    }
    claims
}
