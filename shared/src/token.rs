//! The one file that turns a JSON Web Token (RFC 7519) into a principal, by the rules of RFC 8725.
//!
//! The algorithm is pinned by the key, never by the token; `exp`, `iss` and `aud` are required and typed; keys named in the
//! token's header (`jwk`, `jku`, `x5u`, `kid`) are ignored.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::audit::IDENTIFIER_BYTES_MAX;
use crate::clock::Timestamp;
use crate::secret::Secret;

/// the longest token that is looked at
pub const TOKEN_BYTES_MAX: usize = 8192;
/// clock skew that `exp` and `nbf` are granted
pub const LEEWAY: Duration = Duration::from_secs(60);
/// issuers that may be configured
pub const ISSUERS_MAX: usize = 16;
/// roles that a principal may have
const ROLES_MAX: usize = 64;
/// the shortest HMAC secret: as long as the hash (RFC 7518 section 3.2)
pub const SECRET_BYTES_MIN: usize = 32;

/// who speaks
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    Anonymous,
    User(User),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub id: Arc<str>,
    pub roles: Arc<[String]>,
    pub expires: Option<Timestamp>,
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
    /// a user with a usable identifier and typed roles, or `None`
    pub fn from_json(id: &Value, roles: Option<&Value>, expires: Option<Timestamp>) -> Option<User> {
        let id = match id {
            Value::String(text) => text.clone(),
            Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
            _ => return None,
        };
        if id.is_empty() || id.len() > IDENTIFIER_BYTES_MAX {
            return None;
        }
        Some(User { id: id.into(), roles: roles_of(roles)?.into(), expires })
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SigningAlgorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// what kind of key verifies
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFamily {
    Hmac,
    Rsa,
    EllipticCurve,
    Edwards,
}

impl SigningAlgorithm {
    pub fn family(self) -> KeyFamily {
        use SigningAlgorithm::*;
        match self {
            HS256 | HS384 | HS512 => KeyFamily::Hmac,
            RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => KeyFamily::Rsa,
            ES256 | ES384 => KeyFamily::EllipticCurve,
            EdDSA => KeyFamily::Edwards,
        }
    }

    fn jose(self) -> Algorithm {
        match self {
            SigningAlgorithm::HS256 => Algorithm::HS256,
            SigningAlgorithm::HS384 => Algorithm::HS384,
            SigningAlgorithm::HS512 => Algorithm::HS512,
            SigningAlgorithm::RS256 => Algorithm::RS256,
            SigningAlgorithm::RS384 => Algorithm::RS384,
            SigningAlgorithm::RS512 => Algorithm::RS512,
            SigningAlgorithm::PS256 => Algorithm::PS256,
            SigningAlgorithm::PS384 => Algorithm::PS384,
            SigningAlgorithm::PS512 => Algorithm::PS512,
            SigningAlgorithm::ES256 => Algorithm::ES256,
            SigningAlgorithm::ES384 => Algorithm::ES384,
            SigningAlgorithm::EdDSA => Algorithm::EdDSA,
        }
    }
}

/// whose tokens are believed, and the key that proves them; exactly one of the three keys
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IssuerConfig {
    pub issuer: String,
    pub audience: String,
    /// all of one kind of key
    pub algorithms: Vec<SigningAlgorithm>,
    pub secret: Option<Secret>,
    pub secret_file: Option<PathBuf>,
    pub public_key_file: Option<PathBuf>,
}

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

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("at most {ISSUERS_MAX} issuers are allowed")]
    TooManyIssuers,
    #[error("name at least one algorithm")]
    NoAlgorithm,
    #[error("algorithms of different kinds of key cannot be mixed")]
    MixedAlgorithms,
    #[error("HMAC algorithms need `secret` or `secretFile`, and no public key")]
    NeedsSecret,
    #[error("{0:?} algorithms need `publicKeyFile`, and no secret")]
    NeedsPublicKey(KeyFamily),
    #[error("the secret has {0} bytes; at least {SECRET_BYTES_MIN} are needed")]
    ShortSecret(usize),
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, String),
    #[error("{0} holds no PEM public key for these algorithms")]
    BadKey(PathBuf),
}

/// why a token is not believed
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid")]
    Invalid,
}

/// verifies tokens of the configured issuers
pub struct TokenVerifier {
    issuers: Vec<Issuer>,
    claims: ClaimNames,
}

struct Issuer {
    key: DecodingKey,
    validation: Validation,
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
        if errors.is_empty() { Ok(TokenVerifier { issuers: ready, claims }) } else { Err(errors) }
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
        let claims = self.issuers.iter().find_map(|issuer| issuer.claims(token)).ok_or(TokenError::Invalid)?;
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
        let id = claims.get(&self.claims.user).filter(|id| id.is_string()).ok_or(TokenError::Invalid)?;
        User::from_json(id, claims.get(&self.claims.role), Some(expires)).ok_or(TokenError::Invalid)
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
        Ok(Issuer { key: decoding_key(config, family)?, validation })
    }

    fn claims(&self, token: &str) -> Option<Map<String, Value>> {
        match decode::<Map<String, Value>>(token, &self.key, &self.validation) {
            Ok(data) => Some(data.claims),
            Err(error) => {
                if !matches!(error.kind(), ErrorKind::InvalidSignature | ErrorKind::InvalidIssuer) {
                    tracing::debug!(%error, "token not accepted");
                }
                None
            }
        }
    }
}

fn decoding_key(config: &IssuerConfig, family: KeyFamily) -> Result<DecodingKey, KeyError> {
    if family == KeyFamily::Hmac {
        return Ok(DecodingKey::from_secret(hmac_secret(config)?.expose().as_bytes()));
    }
    let (Some(path), None, None) = (&config.public_key_file, &config.secret, &config.secret_file) else {
        return Err(KeyError::NeedsPublicKey(family));
    };
    let pem = std::fs::read(path).map_err(|error| KeyError::Unreadable(path.clone(), error.to_string()))?;
    let key = match family {
        KeyFamily::Rsa => DecodingKey::from_rsa_pem(&pem),
        KeyFamily::EllipticCurve => DecodingKey::from_ec_pem(&pem),
        KeyFamily::Edwards | KeyFamily::Hmac => DecodingKey::from_ed_pem(&pem),
    };
    key.map_err(|_| KeyError::BadKey(path.clone()))
}

/// the secret of an issuer with HMAC algorithms
pub fn hmac_secret(config: &IssuerConfig) -> Result<Secret, KeyError> {
    let secret = match (&config.secret, &config.secret_file, &config.public_key_file) {
        (Some(secret), None, None) => secret.clone(),
        (None, Some(path), None) => {
            let text =
                std::fs::read_to_string(path).map_err(|error| KeyError::Unreadable(path.clone(), error.to_string()))?;
            Secret::new(text.trim_end_matches(['\r', '\n']))
        }
        _ => return Err(KeyError::NeedsSecret),
    };
    match secret.expose().len() {
        length if length < SECRET_BYTES_MIN => Err(KeyError::ShortSecret(length)),
        _ => Ok(secret),
    }
}

/// signs a token for development with an issuer's HMAC secret
pub fn sign(config: &IssuerConfig, claims: &Map<String, Value>) -> Result<String, KeyError> {
    let algorithm = *config.algorithms.first().ok_or(KeyError::NoAlgorithm)?;
    if algorithm.family() != KeyFamily::Hmac {
        return Err(KeyError::NeedsSecret);
    }
    let key = EncodingKey::from_secret(hmac_secret(config)?.expose().as_bytes());
    encode(&Header::new(algorithm.jose()), claims, &key).map_err(|_| KeyError::NeedsSecret)
}

#[cfg(test)]
mod tests {
    use super::*;
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
