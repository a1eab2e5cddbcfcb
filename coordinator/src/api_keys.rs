//! Keys of machines for the management API: each is 256 random bits, is known here by its SHA-256 only, and opens what its scopes say.
//!
//! A fast hash is enough for what nobody can guess; Argon2 is for passwords.

use picket_shared::hex;
use picket_shared::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::ConstantTimeEq;

use crate::scope::Scope;

/// what every key begins with: scanners for leaked secrets find it, and a token is not taken for one
pub const PREFIX: &str = "picket_";
pub const API_KEYS_MAX: usize = 100;
const KEY_BYTES: usize = 32;
const NAME_BYTES_MAX: usize = 64;
/// who an API key is in the audit trail: no administrator's name begins so
const ACTOR_PREFIX: &str = "api-key:";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ApiKeyConfig {
    /// who acts, in the audit trail; letters, digits, `.`, `_` and `-`
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// SHA-256 of the key in hex; `picket api-key NAME` makes both
    #[serde(default)]
    pub key_hash: Option<String>,
    /// instead of the hash: a file that holds the key
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// what it may do
    #[schemars(length(min = 1))]
    pub scopes: Vec<Scope>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ApiKeyError {
    #[error("must have from 1 to {NAME_BYTES_MAX} letters, digits, `.`, `_` and `-`")]
    Name,
    #[error("another key has this name")]
    NameTwice,
    #[error("another key is the same")]
    KeyTwice,
    #[error("needs either `keyHash` or `keyFile`: `picket api-key NAME` makes a key")]
    Source,
    #[error("`keyHash` must be a SHA-256 in 64 hex digits: `picket api-key NAME` makes it")]
    Hash,
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, String),
    #[error("{0} holds no key: `picket api-key NAME` makes one, {PREFIX} and 64 hex digits")]
    NotAKey(PathBuf),
    #[error("at most {API_KEYS_MAX} keys are allowed")]
    TooMany,
}

/// the keys that open the management API
#[derive(Debug, Default)]
pub struct ApiKeys(Vec<ApiKey>);

#[derive(Debug)]
struct ApiKey {
    actor: String,
    digest: Digest,
    scopes: Arc<[Scope]>,
}

type Digest = [u8; 32];

impl ApiKeys {
    /// reads the files; or every key that is wrong, by its place in the list
    pub fn new(configs: &[ApiKeyConfig]) -> Result<Self, Vec<(usize, ApiKeyError)>> {
        if configs.len() > API_KEYS_MAX {
            return Err(vec![(API_KEYS_MAX, ApiKeyError::TooMany)]);
        }
        let (mut keys, mut errors): (Vec<ApiKey>, Vec<_>) = (Vec::new(), Vec::new());
        for (index, config) in configs.iter().enumerate() {
            match ApiKey::new(config) {
                Ok(key) if keys.iter().any(|other| other.actor == key.actor) => {
                    errors.push((index, ApiKeyError::NameTwice));
                }
                Ok(key) if keys.iter().any(|other| other.digest == key.digest) => {
                    errors.push((index, ApiKeyError::KeyTwice));
                }
                Ok(key) => keys.push(key),
                Err(error) => errors.push((index, error)),
            }
        }
        if errors.is_empty() { Ok(ApiKeys(keys)) } else { Err(errors) }
    }

    /// who presents the key, and what they may; every key is compared, so that the time tells nothing
    pub(crate) fn find(&self, presented: &str) -> Option<(&str, Arc<[Scope]>)> {
        let digest = digest(presented);
        let found =
            self.0.iter().fold(None, |found, key| if key.digest.ct_eq(&digest).into() { Some(key) } else { found });
        found.map(|key| (key.actor.as_str(), key.scopes.clone()))
    }
}

/// whether a key may have the name
pub fn check_name(name: &str) -> Result<(), ApiKeyError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_sound = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain);
    if is_sound { Ok(()) } else { Err(ApiKeyError::Name) }
}

impl ApiKey {
    fn new(config: &ApiKeyConfig) -> Result<Self, ApiKeyError> {
        check_name(&config.name)?;
        let digest = match (&config.key_hash, &config.key_file) {
            (Some(hash), None) => hex::decode(hash).ok_or(ApiKeyError::Hash)?,
            (None, Some(file)) => digest(&read(file)?),
            _ => return Err(ApiKeyError::Source),
        };
        let actor = format!("{ACTOR_PREFIX}{}", config.name);
        Ok(ApiKey { actor, digest, scopes: config.scopes.as_slice().into() })
    }
}

/// a new key, which nobody has seen
pub fn generate() -> Secret {
    Secret::new(format!("{PREFIX}{}", picket_shared::random::hex(KEY_BYTES)))
}

/// what `keyHash` is for a key
pub fn hash(key: &Secret) -> String {
    hex::encode(&digest(key.expose()))
}

fn digest(key: &str) -> Digest {
    Sha256::digest(key.as_bytes()).into()
}

fn read(file: &Path) -> Result<String, ApiKeyError> {
    let text =
        std::fs::read_to_string(file).map_err(|error| ApiKeyError::Unreadable(file.to_owned(), error.to_string()))?;
    let key = text.trim();
    let random = key.strip_prefix(PREFIX).and_then(hex::decode);
    random.map(|_: Digest| key.to_owned()).ok_or_else(|| ApiKeyError::NotAKey(file.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, key: &Secret) -> ApiKeyConfig {
        ApiKeyConfig { name: name.into(), key_hash: Some(hash(key)), key_file: None, scopes: vec![Scope::AuditRead] }
    }

    #[test]
    fn a_key_is_found_by_itself_alone() {
        let (ci, siem) = (generate(), generate());
        assert_eq!(ci.expose().len(), PREFIX.len() + 64);
        let keys = ApiKeys::new(&[config("ci", &ci), config("siem", &siem)]).unwrap();
        assert_eq!(keys.find(siem.expose()).unwrap().0, "api-key:siem");
        for other in ["", PREFIX, &hash(&ci), &ci.expose()[1..], generate().expose()] {
            assert!(keys.find(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_key_may_lie_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let (file, key) = (folder.path().join("key"), generate());
        std::fs::write(&file, format!("{}\n", key.expose())).unwrap();
        let in_file = ApiKeyConfig { key_hash: None, key_file: Some(file.clone()), ..config("ci", &key) };
        assert!(ApiKeys::new(std::slice::from_ref(&in_file)).unwrap().find(key.expose()).is_some());
        std::fs::write(&file, "letmein").unwrap();
        assert_eq!(ApiKeys::new(&[in_file]).unwrap_err(), [(0, ApiKeyError::NotAKey(file))]);
    }

    #[test]
    fn every_wrong_key_is_said() {
        let key = generate();
        let sound = config("ci", &key);
        let nameless = ApiKeyConfig { name: "a key".into(), ..sound.clone() };
        let without = ApiKeyConfig { key_hash: None, ..config("none", &key) };
        let short = ApiKeyConfig { key_hash: Some("abc".into()), ..config("short", &key) };
        let lost = ApiKeyConfig { key_hash: None, key_file: Some("/nowhere".into()), ..config("lost", &key) };
        let same_name = config("ci", &generate());
        let errors =
            ApiKeys::new(&[sound, nameless, without, short, lost, same_name, config("twin", &key)]).unwrap_err();
        let places: Vec<_> = errors.iter().map(|(index, _)| *index).collect();
        assert_eq!(places, [1, 2, 3, 4, 5, 6], "{errors:?}");
        assert_eq!((&errors[4].1, &errors[5].1), (&ApiKeyError::NameTwice, &ApiKeyError::KeyTwice));
        assert!(ApiKeys::new(&vec![config("many", &key); API_KEYS_MAX + 1]).is_err());
    }
}
