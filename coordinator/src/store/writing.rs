//! Storing records: all of a batch or none, each once, each linked to the one before.

use std::collections::{BTreeMap, HashSet};

use picket_shared::audit::AuditRecord;

use super::chain::{self, Head, Sealed};
use super::database::Session;
use super::queries::chains;
use super::queries::counts::{self, CountKey};
use super::queries::slices::{self, Size};
use super::summary::minute;
use super::{AuditStore, End, INSERT_WAIT, StoreError};

/// records after which another slice begins. The indices over addresses, users and sockets, which come in no order, are kept by
/// slice: those of the slice that is being filled are few pages, and stay in the cache; a search looks into each slice
pub(super) const SLICE_RECORDS: u64 = 16_384;
/// records of which it is not known whether they are stored, beside a batch
const DOUBTFUL_MAX: usize = 65_536;
/// a chain's hash is kept, and told to the log, after so many records or so long
const CHECKPOINT_RECORDS: u64 = 10_000;
const CHECKPOINT_MS: u64 = 600_000;

impl AuditStore {
    /// stores all records or none; answers for each whether it is new
    pub async fn insert(&self, records: &[&AuditRecord]) -> Result<Vec<bool>, StoreError> {
        tokio::time::timeout(INSERT_WAIT, self.insert_all(records)).await.map_err(|_| StoreError::Slow)?
    }

    async fn insert_all(&self, records: &[&AuditRecord]) -> Result<Vec<bool>, StoreError> {
        let cleaned: Vec<_> = records.iter().map(|record| chain::storable(record)).collect();
        let records: Vec<&AuditRecord> = cleaned.iter().map(|record| &**record).collect();
        let Some(now) = records.iter().map(|record| record.timestamp.as_millis()).max() else {
            return Ok(Vec::new());
        };
        // Where the chain ends is not known for sure until the commit: whatever fails on the way, it is read again.
        let mut end = self.end.lock().await;
        let before = end.head.take();
        let mut session = self.database.write().await?;
        let mut head = match before.clone() {
            Some(head) => head,
            None => end.read(&mut session, now).await?,
        };
        let mut new = vec![true; records.len()];
        if !store(&mut session, &records, &mut head).await? {
            // Some are there already. What was stored is rolled back, and the rest stored without them.
            drop(session);
            session = self.database.write().await?;
            head = end.read(&mut session, now).await?;
            let mut seen = chains::known(&mut session, &records).await?;
            new = records.iter().map(|record| seen.insert(record.id.clone())).collect();
            let fresh: Vec<_> = records.iter().zip(&new).filter(|(_, new)| **new).map(|(record, _)| *record).collect();
            store(&mut session, &fresh, &mut head).await?;
        }
        chains::move_head(&mut session, &head).await?;
        let is_due = head.seq / CHECKPOINT_RECORDS != before.as_ref().map_or(0, |head| head.seq) / CHECKPOINT_RECORDS
            || now >= head.checkpoint_at + CHECKPOINT_MS;
        if is_due {
            chains::add_checkpoint(&mut session, &head, now).await?;
        }
        let others = settle_doubts(std::mem::take(&mut end.doubtful), &records, &mut new);
        let doubtful_before = others.len();
        end.doubtful = others;
        end.doubtful.extend(records.iter().zip(&new).filter(|(_, new)| **new).map(|(record, _)| record.id.clone()));
        session.commit().await?;
        end.doubtful.truncate(doubtful_before);
        if is_due {
            tell(&head);
            head.checkpoint_at = now;
        }
        end.head = Some(head);
        Ok(new)
    }

    /// keeps and tells where the chain ends
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        let mut end = self.end.lock().await;
        if let Some(head) = &mut end.head {
            let mut session = self.database.write().await?;
            chains::move_head(&mut session, head).await?;
            chains::add_checkpoint(&mut session, head, head.checkpoint_at).await?;
            session.commit().await?;
            tell(head);
        }
        Ok(())
    }
}

impl End {
    /// Where the chain ends by the store, or begins: under a name that no chain had, also where this process had one that was forgotten,
    /// because nothing was left of it.
    async fn read(&mut self, session: &mut Session, now: u64) -> sqlx::Result<Head> {
        if let Some(writer) = &self.writer
            && let Some(head) = chains::head(session, writer).await?
        {
            return Ok(head);
        }
        let writer = self.writer.insert(picket_shared::random::hex(16));
        chains::begin(session, writer, now).await
    }

    /// Stores a record in a session that does more. The end of the chain is to be put back when that is committed.
    pub(super) async fn append(&mut self, session: &mut Session, record: &AuditRecord) -> Result<Head, StoreError> {
        let mut head = match self.head.take() {
            Some(head) => head,
            None => self.read(session, record.timestamp.as_millis()).await?,
        };
        store(session, &[record], &mut head).await?;
        chains::move_head(session, &head).await?;
        Ok(head)
    }
}

/// What is there, and was stored here without a word that it was, is new to who asks. Answers of which else it is not known.
fn settle_doubts(doubtful: Vec<String>, records: &[&AuditRecord], new: &mut [bool]) -> Vec<String> {
    if doubtful.is_empty() {
        return doubtful;
    }
    let mut doubtful: HashSet<String> = doubtful.into_iter().collect();
    for (record, new) in records.iter().zip(new) {
        *new |= doubtful.remove(&record.id);
    }
    doubtful.into_iter().take(DOUBTFUL_MAX).collect()
}

/// the log lies elsewhere: who changes the store cannot change what was said there
fn tell(head: &Head) {
    tracing::info!(
        checkpoint = format!("{}:{}:{}", head.name, head.seq, picket_shared::hex::encode(&head.hash)),
        "audit chain; keep this outside the store"
    );
}

/// false if any record was there already, and then what is stored is to be rolled back
async fn store(session: &mut Session, records: &[&AuditRecord], head: &mut Head) -> Result<bool, StoreError> {
    let times = records.iter().map(|record| record.timestamp);
    let Some(span) = times.clone().min().zip(times.max()) else {
        return Ok(true);
    };
    if records.iter().map(|record| &record.id).collect::<HashSet<_>>().len() != records.len() {
        return Ok(false);
    }
    let slice = slices::open(session, SLICE_RECORDS).await?;
    let mut bytes = 0;
    // Records are sealed while the database works on those before.
    let salts = picket_shared::random::many(records.len());
    let sealed = records.iter().zip(salts).map(|(record, salt)| {
        let sealed = Sealed::new(record, salt, head);
        bytes += sealed.bytes().unsigned_abs();
        sealed
    });
    if session.insert(slice, sealed).await? != records.len() as u64 {
        return Ok(false);
    }
    slices::fill(session, slice, Size { records: records.len() as u64, bytes }, span).await?;
    for (key, count) in by_minute(records) {
        counts::count_up(session, key, count).await?;
    }
    Ok(true)
}

/// how many records fall into each count, those included that were not recorded one by one
fn by_minute(records: &[&AuditRecord]) -> BTreeMap<CountKey, u64> {
    let mut counts = BTreeMap::new();
    for record in records {
        let key = (minute(record.timestamp), record.event_type, record.severity, record.reason);
        *counts.entry(key).or_default() += record.weight();
    }
    counts
}
