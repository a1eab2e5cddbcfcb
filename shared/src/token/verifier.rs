//! The one file that proves a token.
//!
//! The algorithm is pinned by the key, never by the token; `exp`, `iss` and `aud` are required and typed. Keys that a token brings
//! or points to (`jwk`, `jku`, `x5u`) are ignored; its `kid` only chooses among the keys of its issuer.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{DecodingKey, Validation, dangerous::insecure_decode_claims, decode, decode_header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;

use super::issuer::{ISSUERS_MAX, IssuerConfig, KeyError, check_jwks_url, decoding_key};
use super::remote_keys::RemoteKeys;
use super::{LEEWAY, TOKEN_BYTES_MAX, User};
use crate::audit::IDENTIFIER_BYTES_MAX;
use crate::clock::Timestamp;

/// how long a token may live, unless it is configured: a revocation is remembered for so long
pub const TOKEN_AGE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// where user and roles stand in the claims
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimNames {
    pub user: String,
    pub role: String,
}

impl Default for ClaimNames {
    fn default() -> Self {
        ClaimNames { user: "sub".into(), role: "role".into() }
    }
}

/// why a token is not believed
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid")]
    Invalid,
    #[error("the keys of its issuer could not be fetched")]
    NoKeys,
}

/// verifies tokens of the configured issuers
pub struct TokenVerifier {
    issuers: Vec<Issuer>,
    claims: ClaimNames,
    age_max: Duration,
}

struct Issuer {
    name: String,
    key: Key,
    validation: Validation,
}

enum Key {
    Configured(DecodingKey),
    Fetched(Arc<RemoteKeys>),
}

/// what is read of a token before anything proves it: only to choose among configured issuers
#[derive(Deserialize)]
struct Claimed {
    iss: Option<Value>,
}

impl TokenVerifier {
    /// reads the keys, or says by its place in the list which issuer is wrong and why
    pub fn new(issuers: &[IssuerConfig], claims: ClaimNames) -> Result<Self, Vec<(usize, KeyError)>> {
        let mut ready = Vec::new();
        let mut errors = Vec::new();
        for (index, config) in issuers.iter().enumerate() {
            match Issuer::new(config) {
                _ if index >= ISSUERS_MAX => errors.push((index, KeyError::TooManyIssuers)),
                Ok(issuer) => ready.push(issuer),
                Err(error) => errors.push((index, error)),
            }
        }
        match errors.is_empty() {
            true => Ok(TokenVerifier { issuers: ready, claims, age_max: TOKEN_AGE_MAX }),
            false => Err(errors),
        }
    }

    /// tokens that live longer than this are refused
    pub fn for_tokens_of(self, age_max: Duration) -> Self {
        TokenVerifier { age_max, ..self }
    }

    /// the keys that have to be fetched, each by a task that runs [`RemoteKeys::follow`]
    pub fn remote_keys(&self) -> impl Iterator<Item = &Arc<RemoteKeys>> {
        self.issuers.iter().filter_map(|issuer| match &issuer.key {
            Key::Configured(_) => None,
            Key::Fetched(keys) => Some(keys),
        })
    }

    pub fn has_issuers(&self) -> bool {
        !self.issuers.is_empty()
    }

    /// whether the text has the shape of a signed token (RFC 7515 section 7.1), so that it is one or nothing
    pub fn looks_like_jwt(token: &str) -> bool {
        let mut parts = token.split('.');
        let base64url = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte))
        };
        parts.next().is_some_and(|head| head.starts_with("ey") && base64url(head))
            && parts.next().is_some_and(base64url)
            && parts.next().is_some()
            && parts.next().is_none()
    }

    pub fn verify(&self, token: &str, now: Timestamp) -> Result<User, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let claims = self.proven_claims(token, now)?;
        let expires = moment(claims.get("exp")).ok_or(TokenError::Invalid)?;
        if now > expires.plus(LEEWAY) {
            return Err(TokenError::Expired);
        }
        if let Some(not_before) = claims.get("nbf") {
            let not_before = moment(Some(not_before)).ok_or(TokenError::Invalid)?;
            if now.plus(LEEWAY) < not_before {
                return Err(TokenError::Invalid);
            }
        }
        let issued = match claims.get("iat") {
            None => None,
            issued => Some(moment(issued).ok_or(TokenError::Invalid)?),
        };
        if expires.since(issued.unwrap_or(now)) > self.age_max.saturating_add(LEEWAY) {
            tracing::debug!("token not accepted: it lives longer than auth.jwt.maxTokenAgeMs");
            return Err(TokenError::Invalid);
        }
        let token_id = match claims.get("jti") {
            None => None,
            Some(Value::String(jti)) if jti.len() <= IDENTIFIER_BYTES_MAX => Some(jti.as_str().into()),
            Some(_) => return Err(TokenError::Invalid),
        };
        let id = claims.get(&self.claims.user).filter(|id| id.is_string()).ok_or(TokenError::Invalid)?;
        let user = User::from_json(id, claims.get(&self.claims.role)).ok_or(TokenError::Invalid)?;
        Ok(User { expires: Some(expires), issued, token_id, ..user })
    }

    fn proven_claims(&self, token: &str, now: Timestamp) -> Result<Map<String, Value>, TokenError> {
        let claimed: Claimed = insecure_decode_claims(token).map_err(|_| TokenError::Invalid)?;
        let claimed = claimed.iss.as_ref().and_then(Value::as_str).ok_or(TokenError::Invalid)?;
        let mut error = TokenError::Invalid;
        for issuer in self.issuers.iter().filter(|issuer| issuer.name == claimed) {
            match issuer.claims(token, now) {
                Err(TokenError::NoKeys) => error = TokenError::NoKeys,
                Err(_) => {}
                proven => return proven,
            }
        }
        Err(error)
    }
}

/// a NumericDate (RFC 7519 section 2): a number of seconds, never a string
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
fn moment(value: Option<&Value>) -> Option<Timestamp> {
    let seconds = value?.as_f64().filter(|seconds| *seconds >= 0.0)?;
    Some(Timestamp::from_millis((seconds * 1000.0) as u64))
}

impl Issuer {
    fn new(config: &IssuerConfig) -> Result<Self, KeyError> {
        let family = config.algorithms.first().ok_or(KeyError::NoAlgorithm)?.family();
        if config.algorithms.iter().any(|algorithm| algorithm.family() != family) {
            return Err(KeyError::MixedAlgorithms);
        }
        let mut validation = Validation::new(config.algorithms[0].jose());
        validation.algorithms = config.algorithms.iter().map(|algorithm| algorithm.jose()).collect();
        validation.set_issuer(&[&config.issuer]);
        validation.set_audience(&[&config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        // Times are checked against the clock that is passed in.
        validation.validate_exp = false;
        let key = match &config.jwks_url {
            Some(url) => Key::Fetched(Arc::new(RemoteKeys::new(config, check_jwks_url(config, url)?)?)),
            None if config.ca_file.is_some() => return Err(KeyError::LoneAuthorities),
            None => Key::Configured(decoding_key(config, family)?),
        };
        Ok(Issuer { name: config.issuer.clone(), key, validation })
    }

    fn claims(&self, token: &str, now: Timestamp) -> Result<Map<String, Value>, TokenError> {
        match &self.key {
            Key::Configured(key) => self.proven(token, key),
            Key::Fetched(keys) => {
                let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
                let set = keys.usable(now).ok_or(TokenError::NoKeys)?;
                match set.find(header.kid.as_deref(), header.alg) {
                    Some(key) => self.proven(token, key),
                    None => {
                        keys.want();
                        Err(TokenError::Invalid)
                    }
                }
            }
        }
    }

    fn proven(&self, token: &str, key: &DecodingKey) -> Result<Map<String, Value>, TokenError> {
        let proven = decode::<Map<String, Value>>(token, key, &self.validation).map_err(|error| {
            if !matches!(error.kind(), ErrorKind::InvalidSignature | ErrorKind::InvalidIssuer) {
                tracing::debug!(%error, "token not accepted");
            }
            TokenError::Invalid
        })?;
        // Whoever does not know an extension that is critical must refuse it (RFC 7515 section 4.1.11), and none is known here.
        match proven.header.crit {
            Some(_) => Err(TokenError::Invalid),
            None => Ok(proven.claims),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::issuer::{KeyFamily, SigningAlgorithm, hmac_secret, sign};
    use super::*;
    use crate::secret::Secret;
    use serde_json::json;

    const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    fn issuer() -> IssuerConfig {
        IssuerConfig {
            issuer: "shop".into(),
            audience: "chat".into(),
            algorithms: vec![SigningAlgorithm::HS256],
            secret: Some(Secret::new("0123456789abcdef0123456789abcdef")),
            secret_file: None,
            public_key_file: None,
            jwks_url: None,
            ca_file: None,
        }
    }

    fn claims() -> Map<String, Value> {
        let claims = json!({"iss": "shop", "aud": "chat", "sub": "alice", "role": "member", "exp": 1_764_000_100});
        claims.as_object().unwrap().clone()
    }

    fn verify(claims: &Map<String, Value>) -> Result<User, TokenError> {
        let token = sign(&issuer(), claims).unwrap();
        TokenVerifier::new(&[issuer()], ClaimNames::default()).unwrap().verify(&token, NOW)
    }

    #[test]
    fn a_good_token_names_its_user() {
        let user = verify(&claims()).unwrap();
        assert_eq!((&*user.id, &user.roles[..]), ("alice", &["member".to_owned()][..]));
    }

    #[test]
    fn j08_j13_claims_are_required_and_typed() {
        let cases = [
            ("exp", json!(1_763_999_000), TokenError::Expired),
            ("exp", json!("1764000100"), TokenError::Invalid),
            ("exp", Value::Null, TokenError::Invalid),
            ("nbf", json!(1_764_000_100), TokenError::Invalid),
            ("nbf", json!("0"), TokenError::Invalid),
            ("aud", json!("other"), TokenError::Invalid),
            ("iss", json!("other"), TokenError::Invalid),
            ("sub", json!({"id": "alice"}), TokenError::Invalid),
            ("sub", json!(""), TokenError::Invalid),
            ("role", json!({"admin": true}), TokenError::Invalid),
            ("role", json!(["member", 7]), TokenError::Invalid),
            ("iat", json!("1763999000"), TokenError::Invalid),
            ("iat", json!(1_000_000_000), TokenError::Invalid),
            ("exp", json!(1_999_000_000), TokenError::Invalid),
            ("jti", json!(7), TokenError::Invalid),
            ("jti", json!("x".repeat(257)), TokenError::Invalid),
        ];
        for (claim, value, expected) in cases {
            let mut claims = claims();
            claims.insert(claim.into(), value.clone());
            assert_eq!(verify(&claims), Err(expected), "{claim}: {value}");
        }
        for claim in ["exp", "aud", "iss", "sub"] {
            let mut claims = claims();
            claims.remove(claim);
            assert_eq!(verify(&claims), Err(TokenError::Invalid), "without {claim}");
        }
    }

    #[test]
    fn a_short_secret_or_the_wrong_kind_of_key_is_refused() {
        let short = IssuerConfig { secret: Some(Secret::new("short")), ..issuer() };
        assert_eq!(hmac_secret(&short).unwrap_err(), KeyError::ShortSecret(5));
        let mixed = IssuerConfig { algorithms: vec![SigningAlgorithm::HS256, SigningAlgorithm::RS256], ..issuer() };
        let errors = TokenVerifier::new(&[mixed], ClaimNames::default()).err().unwrap();
        assert_eq!(errors, [(0, KeyError::MixedAlgorithms)]);
        let confused = IssuerConfig { algorithms: vec![SigningAlgorithm::RS256], ..issuer() };
        let errors = TokenVerifier::new(&[confused], ClaimNames::default()).err().unwrap();
        assert_eq!(errors, [(0, KeyError::NeedsPublicKey(KeyFamily::Rsa))]);
    }
}
