//! The management credential: Argon2, a few at a time, and a keyed hash of the last proved one so that not every request costs
//! an Argon2.

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use blake2::Blake2sMac256;
use blake2::digest::{FixedOutput, KeyInit, Update};
use parking_lot::Mutex;
use picket_shared::secret::Secret;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::AdminConfig;

/// passwords that are verified at once: a flood of logins takes no more of the processor
const VERIFIED_AT_ONCE: usize = 2;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CredentialError {
    #[error("coordinator.admin needs both `username` and `passwordHash`")]
    Half,
    #[error("coordinator.admin.passwordHash is not an Argon2 hash in PHC string format ($argon2id$…)")]
    NotAHash,
}

pub(crate) struct Credential {
    username: String,
    password_hash: Secret,
    /// of this process alone
    key: Secret,
    proved: Mutex<Option<Digest>>,
    turns: Arc<Semaphore>,
}

type Digest = [u8; 32];

/// the right to have one password verified
pub(crate) struct Turn {
    _place: OwnedSemaphorePermit,
}

/// how it went; the turn ends when this is dropped, so that what follows from it is done before the next turn begins
pub(crate) struct Verdict {
    pub(crate) right: bool,
    _turn: Option<Turn>,
}

impl Credential {
    /// `None` if there is no credential at all
    pub(crate) fn new(config: &AdminConfig) -> Result<Option<Self>, CredentialError> {
        let (username, password_hash) = match (&config.username, &config.password_hash) {
            (None, None) => return Ok(None),
            (Some(username), Some(password_hash)) => (username.clone(), password_hash.clone()),
            _ => return Err(CredentialError::Half),
        };
        let parsed = PasswordHash::new(password_hash.expose()).map_err(|_| CredentialError::NotAHash)?;
        if !parsed.algorithm.as_str().starts_with("argon2") {
            return Err(CredentialError::NotAHash);
        }
        let key = Secret::new(picket_shared::random::hex(16));
        Ok(Some(Credential {
            username,
            password_hash,
            key,
            proved: Mutex::default(),
            turns: Arc::new(Semaphore::new(VERIFIED_AT_ONCE)),
        }))
    }

    /// whether this very pair was the last that was proved
    pub(crate) fn is_remembered(&self, name: &str, password: &str) -> bool {
        let Some(digest) = self.digest(name, password) else {
            return false;
        };
        self.proved.lock().is_some_and(|proved| proved.ct_eq(&digest).into())
    }

    /// waits for the right to verify; `None` when the process ends
    pub(crate) async fn turn(&self) -> Option<Turn> {
        self.turns.clone().acquire_owned().await.ok().map(|place| Turn { _place: place })
    }

    /// an unknown name costs as much as a known one
    pub(crate) async fn verify(&self, turn: Turn, name: &str, password: &str) -> Verdict {
        let same_name = bool::from(self.username.as_bytes().ct_eq(name.as_bytes()));
        let (hash, candidate) = (self.password_hash.clone(), Secret::new(password));
        // The work holds the turn, not the request that may go away meanwhile.
        let work = tokio::task::spawn_blocking(move || {
            let hash = PasswordHash::new(hash.expose());
            (
                hash.is_ok_and(|hash| Argon2::default().verify_password(candidate.expose().as_bytes(), &hash).is_ok()),
                turn,
            )
        });
        let Ok((same_password, turn)) = work.await else {
            return Verdict { right: false, _turn: None };
        };
        let right = same_password & same_name;
        if right {
            *self.proved.lock() = self.digest(name, password);
        }
        Verdict { right, _turn: Some(turn) }
    }

    fn digest(&self, name: &str, password: &str) -> Option<Digest> {
        let mut mac = Blake2sMac256::new_from_slice(self.key.expose().as_bytes()).ok()?;
        // The length keeps `ab:c` and `a:bc` apart.
        mac.update(&name.len().to_le_bytes());
        mac.update(name.as_bytes());
        mac.update(password.as_bytes());
        Some(mac.finalize_fixed().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::PasswordHasher;

    fn config() -> AdminConfig {
        let cheap = Argon2::new(
            argon2::Algorithm::Argon2id,
            argon2::Version::V0x13,
            argon2::Params::new(8, 1, 1, None).unwrap(),
        );
        let hash = cheap.hash_password(b"correct horse").unwrap().to_string();
        AdminConfig { username: Some("warden".into()), password_hash: Some(Secret::new(hash)) }
    }

    #[tokio::test]
    async fn only_name_and_password_together_are_right() {
        let credential = Credential::new(&config()).unwrap().unwrap();
        for (name, password, right) in [
            ("warden", "correct horse", true),
            ("warden", "correct horsE", false),
            ("warde", "ncorrect horse", false),
            ("root", "correct horse", false),
            ("", "", false),
        ] {
            let turn = credential.turn().await.unwrap();
            assert_eq!(credential.verify(turn, name, password).await.right, right, "{name} {password}");
        }
        assert!(credential.is_remembered("warden", "correct horse"));
        assert!(!credential.is_remembered("warde", "ncorrect horse") && !credential.is_remembered("warden", ""));
    }

    #[test]
    fn half_a_credential_or_a_plain_password_is_refused() {
        assert!(Credential::new(&AdminConfig::default()).unwrap().is_none());
        let half = AdminConfig { password_hash: None, ..config() };
        assert_eq!(Credential::new(&half).err(), Some(CredentialError::Half));
        for text in ["correct horse", "", "$2b$12$abcdefghijklmnopqrstuv"] {
            let plain = AdminConfig { password_hash: Some(Secret::new(text)), ..config() };
            assert_eq!(Credential::new(&plain).err(), Some(CredentialError::NotAHash), "{text}");
        }
    }
}
