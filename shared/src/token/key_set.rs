//! A JSON Web Key Set (RFC 7517) as an issuer publishes it. Pure.

use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// keys of a set that are looked at
const KEYS_MAX: usize = 100;
/// the longest name of a key, in bytes
const KID_BYTES_MAX: usize = 256;

/// the usable keys of one issuer
pub(super) struct KeySet {
    keys: Vec<SigningKey>,
}

struct SigningKey {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// the keys that can prove one of these algorithms; others are left out. `None` if this is no key set, or none is left
    pub(super) fn parse(document: &[u8], algorithms: &[Algorithm]) -> Option<Self> {
        let document: Document = serde_json::from_slice(document).ok()?;
        let keys: Vec<_> =
            document.keys.into_iter().take(KEYS_MAX).filter_map(|key| SigningKey::parse(key, algorithms)).collect();
        (!keys.is_empty()).then_some(KeySet { keys })
    }

    /// the key of this name; a token that names none means the only key that there is for its algorithm
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithms.contains(&algorithm));
        match kid {
            Some(kid) => fitting.find(|key| key.kid.as_deref() == Some(kid)).map(|key| &key.key),
            None => {
                let only = fitting.next()?;
                fitting.next().is_none().then_some(&only.key)
            }
        }
    }
}

impl SigningKey {
    fn parse(value: Value, wanted: &[Algorithm]) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let common = &jwk.common;
        let signs = common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
        if !signs || common.key_id.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        let of_family = wanted.iter().copied().filter(|algorithm| algorithm.family() == key.family());
        let algorithms: Vec<_> = match common.key_algorithm {
            Some(named) => {
                let named = Algorithm::try_from(named).ok()?;
                of_family.filter(|algorithm| *algorithm == named).collect()
            }
            None => of_family.collect(),
        };
        (!algorithms.is_empty()).then(|| SigningKey { kid: common.key_id.clone(), algorithms, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const N: &str = "sXchDaQebHnPiGvyDOAT4saGEUetSyo9MKLOoWFsueri23bOdgWp4Dy1WlUzewbgBHod5pcM9H95GQRV3JDXboIRROSBigeC5yjU1hGzHHyXss8UDprecbAYxknTcQkhslANGRUZmdTOQ5qTRsLAt6BTYuyvVRdhS8exSZEy_c4gs_7svlJJQ4H9_NxsiIoLwAEk7-Q3UXERGYw_75IDrGA84-lA_-Ct4eTlXHBIY2EaV7t7LjJaynVJCpkv4LKjTTAumiGUIuQhrNhZLuF_RJLqHpM2kgWFLU7-VTdL1VbC2tejvcI2BlMkEpk1BzBZI0KQB0GaDWFLN-aEAw3vRw";

    fn rsa(more: Value) -> Value {
        let mut key = json!({ "kty": "RSA", "n": N, "e": "AQAB" });
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key
    }

    fn set(keys: Vec<Value>) -> Option<KeySet> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), &[Algorithm::RS256, Algorithm::RS512])
    }

    #[test]
    fn j02_j04_a_key_is_found_by_its_name_and_proves_its_own_algorithms_only() {
        let set = set(vec![
            rsa(json!({ "kid": "one", "alg": "RS256", "use": "sig" })),
            rsa(json!({ "kid": "two" })),
            json!({ "kty": "oct", "kid": "secret", "k": "AAAA" }),
            json!({ "kty": "something new", "kid": "three" }),
        ])
        .unwrap();
        let finds = |kid, algorithm| set.find(Some(kid), algorithm).is_some();
        assert!(finds("one", Algorithm::RS256) && finds("two", Algorithm::RS256) && finds("two", Algorithm::RS512));
        assert!(!finds("one", Algorithm::RS512), "another algorithm than the key's own");
        assert!(!finds("two", Algorithm::PS256), "an algorithm that is not configured");
        for kid in ["secret", "three", "../../etc/passwd", "' OR 1=1", ""] {
            assert!(!finds(kid, Algorithm::RS256) && !finds(kid, Algorithm::HS256), "{kid}");
        }
        assert!(set.find(None, Algorithm::RS256).is_none(), "which of two is meant?");
        assert!(set.find(None, Algorithm::RS512).is_some(), "the only one");
    }

    #[test]
    fn what_holds_no_usable_key_is_no_key_set() {
        assert!(set(vec![]).is_none());
        assert!(set(vec![rsa(json!({ "use": "enc" }))]).is_none());
        assert!(set(vec![rsa(json!({ "kid": "x".repeat(257) }))]).is_none());
        assert!(set(vec![rsa(json!({ "alg": "RSA-OAEP" }))]).is_none());
        assert!(KeySet::parse(b"<html>", &[Algorithm::RS256]).is_none());
    }
}
