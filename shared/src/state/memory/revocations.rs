//! Revoked tokens in the order in which they were added.

use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use tokio::sync::watch;

use super::Memory;
use crate::clock::Timestamp;
use crate::state::{Added, REVOCATIONS_MAX, Revocation, RevocationLog, RevocationPosition, Revocations, StateError};

pub(super) struct List {
    entries: Mutex<BTreeMap<u64, Revocation>>,
    hint: watch::Sender<u64>,
}

impl Default for List {
    fn default() -> Self {
        List { entries: Mutex::default(), hint: watch::Sender::new(0) }
    }
}

#[async_trait]
impl Revocations for Memory {
    async fn revoke(&self, revocations: Vec<Revocation>, now: Timestamp) -> Result<Added, StateError> {
        let mut entries = self.revocations.entries.lock();
        entries.retain(|_, one| now < one.until);
        if entries.len() + revocations.len() > REVOCATIONS_MAX {
            return Ok(Added::Full);
        }
        let mut newest = entries.last_key_value().map_or(0, |(version, _)| *version);
        for one in revocations {
            if !entries.values().any(|known| known.revoked == one.revoked) {
                newest = now.as_millis().max(newest + 1);
                entries.insert(newest, one);
            }
        }
        self.revocations.hint.send_modify(|count| *count += 1);
        Ok(Added::Yes)
    }

    async fn since(&self, position: &RevocationPosition) -> Result<RevocationLog, StateError> {
        let entries = self.revocations.entries.lock();
        let known = entries.get(&position.version).is_some_and(|one| one.id() == position.id);
        let after = if known { position.version + 1 } else { 0 };
        let revocations: Vec<_> = entries.range(after..).map(|(_, one)| one.clone()).collect();
        let at = match (entries.last_key_value(), known) {
            (Some((version, one)), _) => RevocationPosition { version: *version, id: one.id() },
            (None, _) => RevocationPosition::default(),
        };
        Ok(RevocationLog { from_start: !known, revocations, at })
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.revocations.hint.subscribe()
    }
}
