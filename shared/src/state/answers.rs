//! Changes that callers name by a key of their own, so that one which is sent again is made once, whoever is asked.

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use std::time::Duration;

use super::StateError;
use crate::clock::Timestamp;
use crate::hex;

/// answers that are remembered, of all callers; beyond it the oldest go
pub const ANSWERS_MAX: usize = 1000;
/// the longest answer that is remembered
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// how long an answer is remembered
pub const ANSWER_LIFE: Duration = Duration::from_secs(24 * 3600);
/// how long a change may be under way; whoever made it is taken for dead then, and a retry makes it anew
pub const CHANGE_LIFE: Duration = Duration::from_secs(60);

/// one request for a change, known by digests: what callers send is neither a name in the state nor readable there
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// of the account, the operation and the caller's key
    pub(super) id: String,
    /// of all else that was asked
    pub(super) fingerprint: String,
    /// this request's own, so that a late one does not answer for another
    pub(super) claim: String,
}

impl Change {
    pub fn of(account: &str, operation: &str, key: &str, parts: &[&[u8]]) -> Self {
        Change {
            id: digest(&[account.as_bytes(), operation.as_bytes(), key.as_bytes()]),
            fingerprint: digest(parts),
            claim: crate::random::hex(16),
        }
    }

    /// what stands before an answer
    pub(super) fn head(&self) -> String {
        format!("{}{}", self.fingerprint, self.claim)
    }
}

/// the length of each stands before it, so that no two lists of parts look alike
fn digest(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    hex::encode(&digest.finalize())
}

/// what a request for a change finds
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// it is the first: whoever asked makes the change, and then answers it or forgets it
    First,
    /// it was made, and answered so
    Again(String),
    /// the first is under way
    UnderWay,
    /// the key was used for another one
    Another,
    /// [`ANSWERS_MAX`] are under way
    Full,
}

#[async_trait]
pub trait Answers: Send + Sync {
    /// says whether a change is to be made; the first to ask about it makes it
    async fn begin(&self, change: &Change, now: Timestamp) -> Result<Begun, StateError>;

    /// remembers how a change that began was answered
    async fn answer(&self, change: &Change, answer: String, now: Timestamp) -> Result<(), StateError>;

    /// a change that began was not made: the next one to ask is the first
    async fn forget(&self, change: &Change) -> Result<(), StateError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_apart_by_account_operation_key_and_request() {
        let change = |account, operation, key, parts| Change::of(account, operation, key, parts);
        let one = change("warden", "/block-ip", "k", &[b"q", b"body"]);
        let again = change("warden", "/block-ip", "k", &[b"q", b"body"]);
        assert_eq!((&one.id, &one.fingerprint), (&again.id, &again.fingerprint));
        assert_ne!(one.claim, again.claim);
        for other in [("warden2", "/block-ip", "k"), ("warden", "/unblock-ip", "k"), ("warden", "/block-ip", "l")] {
            assert_ne!(change(other.0, other.1, other.2, &[]).id, one.id);
        }
        assert_ne!(change("warden/", "block-ip", "k", &[]).id, one.id);
        assert_ne!(change("warden", "/block-ip", "k", &[b"qb", b"ody"]).fingerprint, one.fingerprint);
    }
}
