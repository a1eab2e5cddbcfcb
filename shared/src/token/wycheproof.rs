//! J14: Wycheproof's vectors of every algorithm, against keys as an issuer's file and its key set bring them.
//!
//! A vector signs bytes of its own choice and no token's two parts, so it goes to the verifier's last step, the proof. What stands
//! around a signature is in `forgeries.rs`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::crypto::verify;
use serde_json::{Value, json};
use wycheproof::{EllipticCurve, HashFunction, TestResult, ecdsa, eddsa, mac, rsa_pkcs1_verify, rsa_pss_verify};

use super::SigningAlgorithm::{self, *};
use super::issuer::{IssuerConfig, decoding_key};
use super::key_set::KeySet;

/// what was tried with one algorithm
#[derive(Default)]
struct Tally {
    accepted: usize,
    refused: usize,
}

impl Tally {
    /// Tries a signature with each form of a key. One that is merely acceptable may go either way, the same with each.
    fn takes(&mut self, algorithm: SigningAlgorithm, keys: &[DecodingKey], vector: Vector) {
        let signature = URL_SAFE_NO_PAD.encode(vector.signature);
        let proves = |key| verify(&signature, vector.message, key, algorithm.jose()).unwrap_or(false);
        let proven = proves(&keys[0]);
        assert!(keys.iter().all(|key| proves(key) == proven), "{algorithm:?} {}: forms of one key differ", vector.name);
        match vector.expected {
            TestResult::Valid => assert!(proven, "{algorithm:?} {} is refused", vector.name),
            TestResult::Invalid => assert!(!proven, "{algorithm:?} {} is accepted", vector.name),
            TestResult::Acceptable => {}
        }
        if proven { self.accepted += 1 } else { self.refused += 1 }
    }

    fn is_whole(&self, algorithm: SigningAlgorithm) {
        eprintln!("j14: {algorithm:?}: {} accepted, {} refused", self.accepted, self.refused);
        assert!(self.accepted > 0 && self.refused > 0, "{algorithm:?} was not tried both ways");
    }
}

struct Vector<'v> {
    name: String,
    message: &'v [u8],
    signature: &'v [u8],
    expected: TestResult,
}

/// of the set's own result, unless the algorithm is another one by RFC 7518
fn expected(fits: bool, result: TestResult) -> TestResult {
    if fits { result } else { TestResult::Invalid }
}

/// a key as `publicKeyFile` names it and as `jwksUrl` answers it
fn both_forms(algorithm: SigningAlgorithm, pem: &str, mut jwk: Value) -> [DecodingKey; 2] {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    let config = IssuerConfig {
        issuer: "wycheproof".into(),
        audience: "picket".into(),
        algorithms: vec![algorithm],
        secret: None,
        secret_file: None,
        public_key_file: Some(file.path().into()),
        jwks_url: None,
        ca_file: None,
    };
    let of_file = decoding_key(&config, algorithm.family()).unwrap();
    jwk["use"] = "sig".into();
    let document = json!({ "keys": [jwk] }).to_string();
    let set = KeySet::parse(document.as_bytes(), &[algorithm.jose()]).unwrap();
    [of_file, set.find(None, algorithm.jose()).unwrap().clone()]
}

fn coordinate(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// a whole number without the zero that keeps it positive in ASN.1
fn whole(bytes: &[u8]) -> String {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(0);
    URL_SAFE_NO_PAD.encode(&bytes[start..])
}

#[test]
fn j14_hmac() {
    let sets = [
        (HS256, mac::TestName::HmacSha256, 256),
        (HS384, mac::TestName::HmacSha384, 384),
        (HS512, mac::TestName::HmacSha512, 512),
    ];
    for (algorithm, name, whole_bits) in sets {
        let mut tally = Tally::default();
        for group in mac::TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let keys = [DecodingKey::from_secret(&test.key)];
                let vector = Vector {
                    name: format!("{name:?} {}", test.tc_id),
                    message: &test.msg,
                    signature: &test.tag,
                    // A part of a tag is none (RFC 7518 section 3.2).
                    expected: expected(group.tag_size == whole_bits, test.result),
                };
                tally.takes(algorithm, &keys, vector);
            }
        }
        tally.is_whole(algorithm);
    }
}

#[test]
fn j14_rsa_pkcs1() {
    use rsa_pkcs1_verify::TestName::*;
    let sets = [
        (RS256, vec![Rsa2048Sha256, Rsa3072Sha256, Rsa4096Sha256, Rsa8192Sha256]),
        (RS384, vec![Rsa2048Sha384, Rsa3072Sha384, Rsa4096Sha384, Rsa8192Sha384]),
        (RS512, vec![Rsa2048Sha512, Rsa3072Sha512, Rsa4096Sha512, Rsa8192Sha512]),
    ];
    for (algorithm, names) in sets {
        let mut tally = Tally::default();
        for name in names {
            for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
                let jwk = json!({ "kty": "RSA", "n": whole(&group.key.n), "e": whole(&group.key.e) });
                let keys = both_forms(algorithm, &group.pem, jwk);
                for test in group.tests {
                    let name = format!("{name:?} {}", test.tc_id);
                    let vector = Vector { name, message: &test.msg, signature: &test.sig, expected: test.result };
                    tally.takes(algorithm, &keys, vector);
                }
            }
        }
        tally.is_whole(algorithm);
    }
}

#[test]
fn j14_rsa_pss() {
    use rsa_pss_verify::TestName::*;
    let sets = [
        (
            PS256,
            HashFunction::Sha2_256,
            32,
            vec![
                RsaPss2048Sha256Mgf1SaltLen32,
                RsaPss3072Sha256Mgf1SaltLen32,
                RsaPss4096Sha256Mgf1SaltLen32,
                RsaPss2048Sha256Mgf1SaltLen0,
                RsaPss2048Sha256Mgf1Sha1_20,
            ],
        ),
        (PS384, HashFunction::Sha2_384, 48, vec![RsaPss2048Sha384Mgf1SaltLen48, RsaPss4096Sha384Mgf1SaltLen48]),
        (PS512, HashFunction::Sha2_512, 64, vec![RsaPss4096Sha512Mgf1SaltLen64, RsaPss4096Sha512Mgf1SaltLen32]),
    ];
    for (algorithm, hash, salt_bytes, names) in sets {
        let mut tally = Tally::default();
        for name in names {
            for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
                let jwk = json!({ "kty": "RSA", "n": whole(&group.key.n), "e": whole(&group.key.e) });
                let keys = both_forms(algorithm, &group.pem, jwk);
                // The salt is as long as the hash, which is that of the mask too (RFC 7518 section 3.5).
                let fits = group.hash == hash && group.mgf_hash == Some(hash);
                for test in group.tests {
                    let expected = match group.salt_size == salt_bytes {
                        // Changed so that it is.
                        false if fits && test.comment == format!("s_len changed to {salt_bytes}") => TestResult::Valid,
                        fits_too => expected(fits && fits_too, test.result),
                    };
                    let name = format!("{name:?} {}", test.tc_id);
                    let vector = Vector { name, message: &test.msg, signature: &test.sig, expected };
                    tally.takes(algorithm, &keys, vector);
                }
            }
        }
        tally.is_whole(algorithm);
    }
}

#[test]
fn j14_ecdsa() {
    use ecdsa::TestName::*;
    let sets = [
        (ES256, "P-256", EllipticCurve::Secp256r1, EcdsaSecp256r1Sha256P1363, EcdsaSecp256r1Sha256),
        (ES384, "P-384", EllipticCurve::Secp384r1, EcdsaSecp384r1Sha384P1363, EcdsaSecp384r1Sha384),
    ];
    for (algorithm, curve, elliptic_curve, two_numbers, asn1) in sets {
        let mut tally = Tally::default();
        // A signature is two numbers, never ASN.1 (RFC 7518 section 3.4).
        for (name, fits) in [(two_numbers, true), (asn1, false)] {
            for group in ecdsa::TestSet::load(name).unwrap().test_groups {
                assert_eq!(group.key.curve, elliptic_curve);
                let (x, y) = group.key.key[1..].split_at(group.key.key.len() / 2);
                let jwk = json!({ "kty": "EC", "crv": curve, "x": coordinate(x), "y": coordinate(y) });
                let keys = both_forms(algorithm, &group.pem, jwk);
                for test in group.tests {
                    let vector = Vector {
                        name: format!("{name:?} {}", test.tc_id),
                        message: &test.msg,
                        signature: &test.sig,
                        expected: expected(fits, test.result),
                    };
                    tally.takes(algorithm, &keys, vector);
                }
            }
        }
        tally.is_whole(algorithm);
    }
}

#[test]
fn j14_eddsa() {
    let mut tally = Tally::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": coordinate(&group.key.pk) });
        let keys = both_forms(EdDSA, &group.pem, jwk);
        for test in group.tests {
            let name = format!("Ed25519 {}", test.tc_id);
            let vector = Vector { name, message: &test.msg, signature: &test.sig, expected: test.result };
            tally.takes(EdDSA, &keys, vector);
        }
    }
    tally.is_whole(EdDSA);
}
