//! Application tokens as a login service would sign them, and the issuer that all peers are told to trust.

use anyhow::{Context, Result};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

pub const SECRET: &str = "an-hmac-secret-of-the-measurements-0123456789abcdef";
pub const ISSUER: &str = "https://id.example.com";
pub const AUDIENCE: &str = "chat";
/// of users without a special one
pub const ROLE: &str = "member";
const LIFE_SECONDS: u64 = 3600;

/// the `auth.jwt.issuers` entry that these tokens satisfy
pub fn issuer() -> Value {
    json!({ "issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["HS256"], "secret": SECRET })
}

/// a login service that signs with HS256
#[derive(Clone)]
pub struct Signer {
    pub secret: String,
    pub issuer: String,
    pub audience: String,
}

impl Signer {
    /// the one of the measurements
    pub fn own() -> Self {
        Signer { secret: SECRET.to_owned(), issuer: ISSUER.to_owned(), audience: AUDIENCE.to_owned() }
    }

    pub fn sign(&self, user: &str, role: &str) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = json!({
            "iss": self.issuer, "aud": self.audience, "sub": user, "role": role, "exp": now + LIFE_SECONDS,
        });
        encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(self.secret.as_bytes()))
            .context("the token cannot be signed")
    }
}

pub fn signed(user: &str) -> Result<String> {
    signed_as(user, ROLE)
}

pub fn signed_as(user: &str, role: &str) -> Result<String> {
    Signer::own().sign(user, role)
}
