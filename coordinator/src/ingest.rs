//! From the audit log into the store: in batches, once each, acknowledged after the commit. New records are scored.

use std::sync::Arc;
use std::time::Duration;

use picket_shared::audit::{AuditRecord, EventType, Severity};
use picket_shared::clock::Clock;
use picket_shared::state::{AuditLog, EntryId, LivePolicy, StateError};
use tokio::sync::watch;

use crate::alarms::Alarms;
use crate::behaviour::Behaviour;
use crate::enforcement::{Enforcement, RELAPSE_MEMORY};
use crate::heartbeat::{LeadsUntil, leads};
use crate::metrics::Instruments;
use crate::store::{AuditStore, Cursor, Filter, StoreError};

/// records in one transaction
const BATCH_MAX: usize = 2048;
/// how long one read waits for the first record
const READ_WAIT: Duration = Duration::from_millis(250);
/// the pause after a failure; the records wait in the audit log
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// how long the last records may take after the stop
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// half-lives after which an offence no longer matters: its points are below a two-hundredth
const HALF_LIVES_THAT_MATTER: u32 = 8;
/// records that are read to score anew after a start
const REPLAY_MAX: usize = 100_000;
const REPLAY_PAGE: u32 = 1000;

pub(crate) struct Ingest {
    pub(crate) log: Arc<dyn AuditLog>,
    pub(crate) store: AuditStore,
    pub(crate) enforcement: Arc<Enforcement>,
    pub(crate) alarms: Arc<Alarms>,
    pub(crate) behaviour: Behaviour,
    pub(crate) policy: LivePolicy,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) instruments: Instruments,
    /// the last entry that was scored: what is not stored, and is read again, is not scored again
    pub(crate) scored: Option<EntryId>,
    /// what was read while the batch before was stored
    pub(crate) ahead: Vec<(EntryId, AuditRecord)>,
    /// who does not lead stands by
    pub(crate) leads: watch::Receiver<LeadsUntil>,
}

#[derive(Debug, thiserror::Error)]
enum IngestError {
    #[error("the audit log cannot be read")]
    Log(#[from] StateError),
    #[error("audit records cannot be stored, they wait in the audit log")]
    Store(#[from] StoreError),
    #[error("another coordinator may lead by now, what was read is left to it")]
    Superseded,
}

impl Ingest {
    /// until `stop` resolves, then until the audit log is empty
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        self.score_anew().await;
        loop {
            tokio::select! {
                () = self.step_or_wait() => {}
                () = &mut stop => break,
            }
        }
        if leads(&self.leads.borrow()) && tokio::time::timeout(DRAIN_MAX, self.drain()).await.is_err() {
            tracing::warn!("audit records are left in the audit log");
        }
        if let Err(error) = self.store.checkpoint().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the last checkpoint of the audit chain is not kept"
            );
        }
        self.store.close().await;
    }

    async fn step_or_wait(&mut self) {
        if self.leads.wait_for(leads).await.is_err() {
            return std::future::pending().await;
        }
        if let Err(error) = self.step().await {
            self.instruments.store_failures.add(1, &[]);
            tracing::warn!(error = &error as &dyn std::error::Error, "ingest waits");
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    async fn drain(&mut self) {
        loop {
            match self.step().await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the last audit records are not stored yet"
                    );
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    /// one batch; answers how many records it had
    async fn step(&mut self) -> Result<usize, IngestError> {
        let mut batch = std::mem::take(&mut self.ahead);
        if batch.is_empty() {
            batch = self.log.read(BATCH_MAX, READ_WAIT).await?;
        }
        let Some(last) = batch.iter().map(|(id, _)| *id).max() else {
            return Ok(0);
        };
        if !leads(&self.leads.borrow()) {
            return Err(IngestError::Superseded);
        }
        let (new, ahead) = tokio::join!(self.keep(&batch), self.read_ahead(&batch, last));
        let new = new?;
        self.alarms.notice(new.iter().copied());
        for record in new {
            self.behaviour.observe(record);
            self.enforcement.observe(record).await;
        }
        self.scored = self.scored.max(Some(last));
        let stored: Vec<_> = batch.iter().map(|(id, _)| *id).collect();
        self.log.acknowledge(&stored).await?;
        self.ahead = ahead;
        Ok(batch.len())
    }

    /// a full batch says that more waits: Redis gives it while the store works
    async fn read_ahead(&self, batch: &[(EntryId, AuditRecord)], last: EntryId) -> Vec<(EntryId, AuditRecord)> {
        if batch.len() < BATCH_MAX {
            return Vec::new();
        }
        // A failure shows when the next batch is read.
        self.log.read_on(last, BATCH_MAX).await.unwrap_or_default()
    }

    /// stores what is to be stored; answers what is new, in order. The store knows what is new to it, however old the entry: a
    /// dead coordinator's come late. Of what is not stored only the order tells
    async fn keep<'a>(&self, batch: &'a [(EntryId, AuditRecord)]) -> Result<Vec<&'a AuditRecord>, StoreError> {
        let logging = self.policy.current().document.security.enable_audit_logging;
        let (stored, passed): (Vec<_>, Vec<_>) =
            batch.iter().partition(|(_, record)| logging || is_always_stored(record));
        let records: Vec<_> = stored.iter().map(|(_, record)| record).collect();
        let is_new = self.store.insert(&records).await?;
        let repeated = is_new.iter().filter(|new| !**new).count() as u64;
        self.instruments.records_stored.add(records.len() as u64 - repeated, &[]);
        self.instruments.records_repeated.add(repeated, &[]);
        self.instruments.records_not_stored.add(passed.len() as u64, &[]);
        let unseen = passed.into_iter().filter(|(id, _)| self.scored.is_none_or(|scored| *id > scored));
        let new = stored.into_iter().zip(is_new).filter(|(_, new)| *new).map(|(entry, _)| entry);
        let mut new: Vec<_> = new.chain(unseen).collect();
        new.sort_by_key(|(id, _)| *id);
        Ok(new.into_iter().map(|(_, record)| record).collect())
    }

    /// brings the scores back from the store after a start
    async fn score_anew(&self) {
        let now = self.clock.now();
        let half_life = Duration::from_millis(self.policy.current().document.security.reputation.half_life_ms);
        let blocks = Filter {
            event_type: Some(EventType::IpBlocked),
            since: Some(now.minus(RELAPSE_MEMORY)),
            ..Filter::default()
        };
        let offences =
            Filter { since: Some(now.minus(half_life.saturating_mul(HALF_LIVES_THAT_MATTER))), ..Filter::default() };
        let outcome: Result<(), StoreError> = async {
            self.newest(&blocks).await?.iter().for_each(|record| self.enforcement.remember_block(record));
            self.newest(&offences).await?.iter().for_each(|record| self.enforcement.replay(record));
            Ok(())
        }
        .await;
        if let Err(error) = outcome {
            tracing::warn!(error = &error as &dyn std::error::Error, "scores start at zero");
        }
    }

    /// the newest records of a filter, oldest first
    async fn newest(&self, filter: &Filter) -> Result<Vec<AuditRecord>, StoreError> {
        let mut records = Vec::new();
        let mut cursor: Option<Cursor> = None;
        loop {
            let page = self.store.page(filter, cursor.as_ref(), REPLAY_PAGE).await?;
            records.extend(page.records);
            cursor = page.next;
            if cursor.is_none() || records.len() >= REPLAY_MAX {
                records.reverse();
                return Ok(records);
            }
        }
    }
}

fn is_always_stored(record: &AuditRecord) -> bool {
    record.severity > Severity::Low || record.event_type.is_administrative()
}

#[cfg(test)]
#[path = "ingest_tests.rs"]
mod tests;
