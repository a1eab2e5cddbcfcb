//! Issuers as people write them, and the keys that they name.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::PathBuf;
use url::Url;

use crate::secret::Secret;

/// issuers that may be configured
pub const ISSUERS_MAX: usize = 16;
/// the shortest HMAC secret: as long as the hash (RFC 7518 section 3.2)
pub const SECRET_BYTES_MIN: usize = 32;

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

    pub(super) fn jose(self) -> Algorithm {
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

/// whose tokens are believed, and the key that proves them; exactly one of secret, files and URL
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
    /// where the issuer publishes its keys (RFC 7517): they are fetched at the start and every five minutes
    pub jwks_url: Option<String>,
    /// PEM of the only authorities that vouch for `jwksUrl`; default: the system's
    pub ca_file: Option<PathBuf>,
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
    #[error("{0:?} algorithms need `publicKeyFile` or `jwksUrl`, and no secret")]
    NeedsPublicKey(KeyFamily),
    #[error("the secret has {0} bytes; at least {SECRET_BYTES_MIN} are needed")]
    ShortSecret(usize),
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, String),
    #[error("{0} holds no PEM public key for these algorithms")]
    BadKey(PathBuf),
    #[error("`jwksUrl` must be an https:// or http:// URL without a user")]
    BadUrl,
    #[error("`caFile` says who vouches for `jwksUrl`, and there is none")]
    LoneAuthorities,
    #[error("{0} holds no certificate in PEM")]
    BadAuthorities(PathBuf),
    #[error("the HTTP client cannot start: {0}")]
    Client(String),
}

/// the URL of an issuer's keys, or what is wrong with it and its neighbours
pub fn check_jwks_url(config: &IssuerConfig, text: &str) -> Result<Url, KeyError> {
    let family = config.algorithms.first().ok_or(KeyError::NoAlgorithm)?.family();
    let is_alone = config.secret.is_none() && config.secret_file.is_none() && config.public_key_file.is_none();
    if family == KeyFamily::Hmac {
        return Err(KeyError::NeedsSecret);
    }
    if !is_alone {
        return Err(KeyError::NeedsPublicKey(family));
    }
    let url = Url::parse(text).map_err(|_| KeyError::BadUrl)?;
    let is_plain = url.has_host() && url.username().is_empty() && url.password().is_none();
    match matches!(url.scheme(), "http" | "https") && is_plain {
        true => Ok(url),
        false => Err(KeyError::BadUrl),
    }
}

/// the key that the configuration holds or names
pub(super) fn decoding_key(config: &IssuerConfig, family: KeyFamily) -> Result<DecodingKey, KeyError> {
    if family == KeyFamily::Hmac {
        return Ok(DecodingKey::from_secret(hmac_secret(config)?.expose().as_bytes()));
    }
    let (Some(path), None, None, None) =
        (&config.public_key_file, &config.jwks_url, &config.secret, &config.secret_file)
    else {
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
    let secret = match (&config.secret, &config.secret_file, &config.public_key_file, &config.jwks_url) {
        (Some(secret), None, None, None) => secret.clone(),
        (None, Some(path), None, None) => {
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
