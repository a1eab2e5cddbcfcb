//! Application tokens, honest and forged.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use serde_json::{Map, Value, json};

pub const SECRET: &str = "an-hmac-secret-of-the-stories-0123456789abcdef";
pub const PUBLIC_KEY: &str = include_str!("../keys/issuer.pub.pem");
const PRIVATE_KEY: &str = include_str!("../keys/issuer.pem");
const OTHER_PUBLIC_KEY: &str = include_str!("../keys/other.pub.pem");
const OTHER_PRIVATE_KEY: &str = include_str!("../keys/other.pem");

/// An issuer beside the one of the stories, with a key of its own.
pub const OTHER_ISSUER: &str = "https://id.example.net";
const ISSUER: &str = "https://id.example.com";
const AUDIENCE: &str = "chat";

/// The `auth.jwt.issuers` entry that these tokens satisfy.
pub fn issuer() -> Value {
    json!({ "issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["HS256"], "secret": SECRET })
}

pub fn rsa_issuer() -> Value {
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stories/keys/issuer.pub.pem");
    json!({ "issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["RS256"], "publicKeyFile": key })
}

/// The same issuer, where its keys are published at a URL.
pub fn publishing_issuer(url: &str) -> Value {
    json!({ "issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["RS256"], "jwksUrl": url })
}

pub fn other_publishing_issuer(url: &str) -> Value {
    let mut entry = publishing_issuer(url);
    entry["issuer"] = OTHER_ISSUER.into();
    entry
}

/// Whose key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    Issuer,
    OtherIssuer,
}

impl Holder {
    /// The public key as it is published.
    pub fn public_jwk(self) -> Value {
        let key = match self {
            Holder::Issuer => PUBLIC_KEY,
            Holder::OtherIssuer => OTHER_PUBLIC_KEY,
        };
        let key = DecodingKey::from_rsa_pem(key.as_bytes()).unwrap();
        serde_json::to_value(Jwk::from_decoding_key(&key, Some(Algorithm::RS256)).unwrap()).unwrap()
    }

    fn private_key(self) -> EncodingKey {
        let key = match self {
            Holder::Issuer => PRIVATE_KEY,
            Holder::OtherIssuer => OTHER_PRIVATE_KEY,
        };
        EncodingKey::from_rsa_pem(key.as_bytes()).unwrap()
    }
}

pub fn seconds_from_now(seconds: i64) -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 + seconds
}

#[derive(Clone)]
pub struct Token {
    claims: Map<String, Value>,
}

impl Token {
    pub fn of(subject: &str) -> Self {
        let claims =
            json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "role": "member", "exp": seconds_from_now(3600) });
        let Value::Object(claims) = claims else { unreachable!("an object literal") };
        Self { claims }
    }

    pub fn role(self, role: impl Into<Value>) -> Self {
        self.with("role", role)
    }

    pub fn with(mut self, claim: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(claim.to_owned(), value.into());
        self
    }

    pub fn without(mut self, claim: &str) -> Self {
        self.claims.remove(claim);
        self
    }

    pub fn signed(&self) -> String {
        self.signed_with(SECRET.as_bytes())
    }

    pub fn signed_with(&self, secret: &[u8]) -> String {
        encode(&Header::new(Algorithm::HS256), &self.claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    pub fn signed_by_rsa(&self) -> String {
        encode(&Header::new(Algorithm::RS256), &self.claims, &Holder::Issuer.private_key()).unwrap()
    }

    /// By the key of this name, with more in the header.
    pub fn signed_by_key(&self, kid: &str, header: impl FnOnce(&mut Header)) -> String {
        let mut head = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::RS256) };
        header(&mut head);
        encode(&head, &self.claims, &Holder::Issuer.private_key()).unwrap()
    }

    /// By whoever's key of this name.
    pub fn signed_by(&self, holder: Holder, kid: &str) -> String {
        let head = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::RS256) };
        encode(&head, &self.claims, &holder.private_key()).unwrap()
    }

    /// With a header of the forger's choice and no signature.
    pub fn unsigned(&self, header: &Value) -> String {
        let part = |value: &[u8]| URL_SAFE_NO_PAD.encode(value);
        format!(
            "{}.{}.",
            part(header.to_string().as_bytes()),
            part(Value::Object(self.claims.clone()).to_string().as_bytes())
        )
    }
}
