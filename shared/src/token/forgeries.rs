//! J14: what stands around a signature. For every algorithm a good token, and the forms and forgeries of Wycheproof's set of JSON
//! Web Signatures, made of it.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use jsonwebtoken::crypto::sign;
use jsonwebtoken::jwk::Jwk;
use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

use super::SigningAlgorithm::{self, *};
use super::issuer::{IssuerConfig, KeyFamily};
use super::verifier::{ClaimNames, TokenError, TokenVerifier};
use crate::clock::Timestamp;
use crate::secret::Secret;

const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);
const SHARED: &str = "a secret of sixty-four bytes, so that it is enough for each hash";
const ALL: [SigningAlgorithm; 12] =
    [HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA];

/// who signs, and who believes it
struct Signer {
    algorithm: SigningAlgorithm,
    key: EncodingKey,
    verifier: TokenVerifier,
    /// what everybody knows of the key
    public: Vec<u8>,
}

impl Signer {
    fn of(algorithm: SigningAlgorithm) -> Self {
        let (key, der) = match algorithm.family() {
            KeyFamily::Hmac => (EncodingKey::from_secret(SHARED.as_bytes()), Vec::new()),
            KeyFamily::Rsa => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
                let private: Pkcs8V1Der = pair.as_der().unwrap();
                let pem = pem("PRIVATE KEY", private.as_ref());
                (EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(), public(pair.public_key()))
            }
            KeyFamily::EllipticCurve => {
                let curve = if algorithm == ES256 {
                    &ECDSA_P256_SHA256_FIXED_SIGNING
                } else {
                    &ECDSA_P384_SHA384_FIXED_SIGNING
                };
                let pair = EcdsaKeyPair::generate(curve).unwrap();
                (EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref()), public(pair.public_key()))
            }
            KeyFamily::Edwards => {
                let pair = Ed25519KeyPair::generate().unwrap();
                (EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref()), public(pair.public_key()))
            }
        };
        let public = pem("PUBLIC KEY", &der).into_bytes();
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &public).unwrap();
        let is_shared = algorithm.family() == KeyFamily::Hmac;
        let config = IssuerConfig {
            issuer: "shop".into(),
            audience: "chat".into(),
            algorithms: vec![algorithm],
            secret: is_shared.then(|| Secret::new(SHARED)),
            secret_file: None,
            public_key_file: (!is_shared).then(|| file.path().into()),
            jwks_url: None,
            ca_file: None,
        };
        let verifier = TokenVerifier::new(&[config], ClaimNames::default()).unwrap();
        Signer { algorithm, key, verifier, public }
    }

    fn public_der(&self) -> Vec<u8> {
        let text = String::from_utf8(self.public.clone()).unwrap();
        STANDARD.decode(text.lines().nth(1).unwrap()).unwrap()
    }

    fn head(&self) -> Map<String, Value> {
        json!({ "alg": format!("{:?}", self.algorithm), "kid": "the key" }).as_object().unwrap().clone()
    }

    fn signs(&self, head: &str, payload: &str) -> String {
        let message = format!("{head}.{payload}");
        let signature = sign(message.as_bytes(), &self.key, self.algorithm.jose()).unwrap();
        format!("{message}.{signature}")
    }

    fn with_head(&self, more: Value) -> String {
        let mut head = self.head();
        head.extend(more.as_object().unwrap().clone());
        self.signs(&coded(&Value::Object(head)), &coded(&claims()))
    }

    fn accepts(&self, token: &str) -> bool {
        match self.verifier.verify(token, NOW) {
            Ok(user) => &*user.id == "alice",
            Err(error) => {
                assert_eq!(error, TokenError::Invalid, "{token}");
                false
            }
        }
    }
}

/// whether a key for one of them can sign by the other
fn fits(one: SigningAlgorithm, other: SigningAlgorithm) -> bool {
    one.family() == other.family() && one.family() != KeyFamily::EllipticCurve
}

fn public(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Vec<u8> {
    key.as_der().unwrap().as_ref().to_vec()
}

fn pem(what: &str, der: &[u8]) -> String {
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", STANDARD.encode(der))
}

fn claims() -> Value {
    json!({ "iss": "shop", "aud": "chat", "sub": "alice", "exp": 1_764_000_100 })
}

fn coded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// another character in the middle of a part, so that no bits are changed that are cut off
fn changed(part: &str) -> String {
    let middle = part.len() / 2;
    let other = if part.as_bytes()[middle] == b'A' { "B" } else { "A" };
    format!("{}{other}{}", &part[..middle], &part[middle + 1..])
}

#[test]
fn j14_a_good_token_of_each_algorithm_is_believed_and_no_other_form_of_it() {
    for signer in ALL.map(Signer::of) {
        let algorithm = signer.algorithm;
        let token = signer.with_head(json!({ "typ": "JWT" }));
        assert!(signer.accepts(&token), "{algorithm:?}");
        let [head, payload, signature]: [&str; 3] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
        let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let longer = URL_SAFE_NO_PAD.encode([&raw[..], &[0]].concat());
        let shorter = URL_SAFE_NO_PAD.encode(&raw[..raw.len() - 1]);
        let padded = format!("{}=", URL_SAFE.encode(&raw).trim_end_matches('='));
        let json_form = json!({ "payload": payload, "protected": head, "signature": signature });
        let general = json!({ "payload": payload, "signatures": [{ "protected": head, "signature": signature }] });
        let forms = [
            ("an empty text", String::new()),
            ("a changed head", format!("{}.{payload}.{signature}", changed(head))),
            ("a changed payload", format!("{head}.{}.{signature}", changed(payload))),
            ("a changed signature", format!("{head}.{payload}.{}", changed(signature))),
            ("no signature", format!("{head}.{payload}.")),
            ("no signature and no dot", format!("{head}.{payload}")),
            ("no payload", format!("{head}..{signature}")),
            ("no payload and no dot", format!("{head}.{signature}")),
            ("no head", format!(".{payload}.{signature}")),
            ("no head and no dot", format!("{payload}.{signature}")),
            ("a payload between dots", format!(".{payload}.")),
            ("a payload alone", payload.to_owned()),
            ("one more empty part", format!("{token}.")),
            ("one more part", format!("{token}.Zm9v")),
            ("a longer signature", format!("{head}.{payload}.{longer}")),
            ("a shorter signature", format!("{head}.{payload}.{shorter}")),
            ("a padded signature", format!("{head}.{payload}.{padded}")),
            ("a blank before", format!(" {token}")),
            ("a blank in it", format!("{head}. {payload}.{signature}")),
            ("a line end after", format!("{token}\n")),
            ("JSON", json_form.to_string()),
            ("general JSON", general.to_string()),
        ];
        for (what, form) in forms {
            assert!(!signer.accepts(&form), "{algorithm:?}: {what} is believed");
        }
    }
}

#[test]
fn j14_what_a_head_says_never_chooses_algorithm_or_key() {
    for signer in ALL.map(Signer::of) {
        let algorithm = signer.algorithm;
        let another = Signer::of(if algorithm == RS256 { RS384 } else { RS256 });
        let payload = coded(&claims());
        for other in ALL.into_iter().filter(|other| *other != algorithm) {
            let lying = signer.with_head(json!({ "alg": format!("{other:?}") }));
            assert!(!signer.accepts(&lying), "{algorithm:?} said to be {other:?}");
        }
        for none in ["none", "None", "NONE", "nOnE", ""] {
            assert!(!signer.accepts(&signer.with_head(json!({ "alg": none }))), "{algorithm:?} said to be {none:?}");
            let unsigned = format!("{}.{payload}.", coded(&json!({ "alg": none })));
            assert!(!signer.accepts(&unsigned), "{algorithm:?}: {none:?} without a signature");
        }
        // The right key, honestly used with another algorithm of its kind.
        for other in ALL.into_iter().filter(|other| *other != algorithm && fits(*other, algorithm)) {
            let message = format!("{}.{payload}", coded(&json!({ "alg": format!("{other:?}"), "kid": "the key" })));
            let signature = sign(message.as_bytes(), &signer.key, other.jose()).unwrap();
            assert!(!signer.accepts(&format!("{message}.{signature}")), "{algorithm:?}: signed with {other:?}");
        }
        // What everybody knows of the key as the secret, in each of its forms; and somebody else's key with directions to it.
        for hash in [HS256, HS384, HS512].into_iter().filter(|_| algorithm.family() != KeyFamily::Hmac) {
            let message = format!("{}.{payload}", coded(&json!({ "alg": format!("{hash:?}"), "kid": "the key" })));
            for known in [signer.public.clone(), signer.public.trim_ascii_end().to_vec(), signer.public_der()] {
                let confused = sign(message.as_bytes(), &EncodingKey::from_secret(&known), hash.jose()).unwrap();
                assert!(!signer.accepts(&format!("{message}.{confused}")), "{algorithm:?} as {hash:?}");
            }
        }
        let directions = [
            json!({ "jwk": Jwk::from_encoding_key(&another.key, another.algorithm.jose()).unwrap() }),
            json!({ "jku": "https://attacker.example/keys" }),
            json!({ "x5u": "https://attacker.example/certificate" }),
            json!({ "x5c": [STANDARD.encode(&another.public)] }),
        ];
        for direction in directions {
            assert!(!signer.accepts(&another.with_head(direction.clone())), "{algorithm:?}: {direction}");
        }
    }
}

#[test]
fn j14_a_critical_extension_that_nobody_here_knows_is_refused() {
    for signer in ALL.map(Signer::of) {
        for extension in
            [json!({ "crit": ["exp"], "exp": 1 }), json!({ "crit": ["b64"], "b64": false }), json!({ "crit": [] })]
        {
            assert!(!signer.accepts(&signer.with_head(extension.clone())), "{:?}: {extension}", signer.algorithm);
        }
    }
}
