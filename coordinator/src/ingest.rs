//! From the audit log into the store: in batches, once each, acknowledged after the commit. New records are scored.
//!
//! While much waits, the store works on one batch, the batch before it is scored and acknowledged, and Redis gives the next.

use std::sync::Arc;
use std::time::Duration;

use picket_shared::audit::{AuditRecord, Severity};
use picket_shared::state::{AuditLog, EntryId, LivePolicy, StateError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::alarms::Alarms;
use crate::behaviour::Behaviour;
use crate::enforcement::Enforcement;
use crate::heartbeat::{LeadsUntil, leads};
use crate::metrics::Instruments;
use crate::recollection::Recollection;
use crate::store::{AuditStore, StoreError};

/// records that one call takes from the audit log, and that one call acknowledges: Redis answers others in between
const READ_MAX: usize = 2048;
/// records in one transaction: the more, the fewer pages of the indices are written for each
const BATCH_MAX: usize = 4 * READ_MAX;
/// how long one read waits for the first record
const READ_WAIT: Duration = Duration::from_millis(250);
/// How often what a dead coordinator left is looked for, however much else waits: who reads ahead does not look.
const CLAIM_PERIOD: Duration = Duration::from_secs(5);
/// the pause after a failure; the records wait in the audit log
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// how long the last records may take after the stop
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// within which it is known who leads; who does not by then stands by
const LEADS_WITHIN: Duration = Duration::from_secs(3);

pub(crate) struct Ingest {
    pub(crate) log: Arc<dyn AuditLog>,
    pub(crate) store: AuditStore,
    pub(crate) enforcement: Arc<Enforcement>,
    pub(crate) alarms: Arc<Alarms>,
    pub(crate) behaviour: Behaviour,
    pub(crate) policy: LivePolicy,
    pub(crate) instruments: Instruments,
    pub(crate) recollection: Recollection,
    /// who does not lead stands by
    pub(crate) leads: watch::Receiver<LeadsUntil>,
    pub(crate) progress: Progress,
}

/// how far the audit log was followed
#[derive(Default)]
pub(crate) struct Progress {
    /// the last entry that was scored: what is not stored, and is read again, is not scored again
    scored: Option<EntryId>,
    /// read, and not stored
    ahead: Vec<Entry>,
    /// stored, and not acknowledged
    unsettled: Option<Unsettled>,
    /// when all that waits was looked at last, what others left too
    claimed: Option<Instant>,
    /// the term of leadership in which the scores are from
    term: Option<u64>,
}

type Entry = (EntryId, AuditRecord);

/// what is in the store and not acknowledged yet; some of it may be scored
#[derive(Default)]
struct Unsettled {
    entries: Vec<Entry>,
    /// the places of those that are to be scored, in their order
    new: Vec<usize>,
    scored: usize,
}

impl Unsettled {
    fn add(&mut self, mut entries: Vec<Entry>, new: Vec<usize>) {
        let before = self.entries.len();
        self.new.extend(new.into_iter().map(|place| before + place));
        self.entries.append(&mut entries);
    }
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
        let mut word = self.leads.clone();
        loop {
            tokio::select! {
                () = self.step_or_stand_by() => {}
                () = &mut stop => break,
            }
        }
        // Who is stopped right after the start may not know yet that it leads.
        if !matches!(tokio::time::timeout(LEADS_WITHIN, word.changed()).await, Ok(Ok(()))) {
            tracing::warn!("it is not known who leads, audit records are left to who does");
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

    async fn step_or_stand_by(&mut self) {
        // Another coordinator may have led meanwhile, and then the term is another one.
        let knows = leads(&self.leads.borrow()) && self.progress.term == Some(self.enforcement.term());
        let outcome = if knows { self.step().await.map(drop) } else { self.stand_by().await };
        if let Err(error) = outcome {
            self.instruments.store_failures.add(1, &[]);
            tracing::warn!(error = &error as &dyn std::error::Error, "ingest waits");
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    /// until this coordinator leads, and knows what the trail says
    async fn stand_by(&mut self) -> Result<(), IngestError> {
        // What was read and is not stored is left to the leader.
        self.progress.ahead.clear();
        settle(&self.enforcement, &self.behaviour, &*self.log, &mut self.progress.unsettled).await?;
        let mut begins = self.leads.clone();
        let mut leadership = std::pin::pin!(async move {
            if begins.wait_for(leads).await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        if tokio::time::timeout(LEADS_WITHIN, &mut leadership).await.is_err() {
            tokio::select! {
                () = &mut leadership => {}
                () = self.recollection.follow() => {}
            }
        }
        let term = Some(self.enforcement.term());
        if self.progress.term != term {
            self.recollection.begin_anew().await;
            self.progress.term = term;
        }
        Ok(())
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
        let Progress { scored, ahead, unsettled, claimed, .. } = &mut self.progress;
        if ahead.is_empty() {
            settle(&self.enforcement, &self.behaviour, &*self.log, unsettled).await?;
            *ahead = self.log.read(READ_MAX, READ_WAIT).await?;
            *claimed = Some(Instant::now());
        }
        let Some(last) = ahead.iter().map(|(id, _)| *id).max() else {
            return Ok(0);
        };
        if !leads(&self.leads.borrow()) {
            return Err(IngestError::Superseded);
        }
        let meanwhile = async {
            settle(&self.enforcement, &self.behaviour, &*self.log, unsettled).await?;
            let is_time_to_claim = claimed.is_none_or(|claimed| claimed.elapsed() >= CLAIM_PERIOD);
            let most = if ahead.len() < READ_MAX || is_time_to_claim { 0 } else { BATCH_MAX };
            Ok::<_, StateError>(read_ahead(&*self.log, most, last).await)
        };
        let (new, next) = tokio::join!(keep(&self.store, &self.policy, &self.instruments, ahead, *scored), meanwhile);
        let (new, stored) = (new?, ahead.len());
        self.alarms.notice(new.iter().map(|place| &ahead[*place].1));
        *scored = (*scored).max(Some(last));
        // If the batch before is not settled, both are before anything else is read.
        let (next, failure) = next.map_or_else(|error| (Vec::new(), Some(error)), |next| (next, None));
        let entries = std::mem::replace(ahead, next);
        unsettled.get_or_insert_default().add(entries, new);
        if let Some(error) = failure {
            return Err(error.into());
        }
        if ahead.is_empty() {
            settle(&self.enforcement, &self.behaviour, &*self.log, unsettled).await?;
        }
        Ok(stored)
    }
}

/// stores what is to be stored; answers the places of what is new, in order. The store knows what is new to it, however old the
/// entry: a dead coordinator's come late. Of what is not stored only the order tells
async fn keep(
    store: &AuditStore,
    policy: &LivePolicy,
    instruments: &Instruments,
    batch: &[Entry],
    scored: Option<EntryId>,
) -> Result<Vec<usize>, StoreError> {
    let logging = policy.current().document.security.enable_audit_logging;
    let (stored, passed): (Vec<_>, Vec<_>) =
        (0..batch.len()).partition(|place| logging || is_always_stored(&batch[*place].1));
    let records: Vec<_> = stored.iter().map(|place| &batch[*place].1).collect();
    let is_new = store.insert(&records).await?;
    let repeated = is_new.iter().filter(|new| !**new).count() as u64;
    instruments.records_stored.add(records.len() as u64 - repeated, &[]);
    instruments.records_repeated.add(repeated, &[]);
    instruments.records_not_stored.add(passed.len() as u64, &[]);
    let unseen = passed.into_iter().filter(|place| scored.is_none_or(|scored| batch[*place].0 > scored));
    let new = stored.into_iter().zip(is_new).filter(|(_, new)| *new).map(|(place, _)| place);
    let mut new: Vec<_> = new.chain(unseen).collect();
    new.sort_unstable_by_key(|place| batch[*place].0);
    Ok(new)
}

/// what waits after an entry, about `most` of it: Redis gives it while the store works
async fn read_ahead(log: &dyn AuditLog, most: usize, mut last: EntryId) -> Vec<Entry> {
    let mut ahead = Vec::new();
    while ahead.len() < most {
        // A failure shows when the next batch is read.
        let mut next = log.read_on(last, READ_MAX).await.unwrap_or_default();
        let is_full = next.len() == READ_MAX;
        last = next.iter().map(|(id, _)| *id).max().unwrap_or(last);
        ahead.append(&mut next);
        if !is_full {
            break;
        }
    }
    ahead
}

/// scores what is new in a stored batch, and acknowledges the batch
async fn settle(
    enforcement: &Enforcement,
    behaviour: &Behaviour,
    log: &dyn AuditLog,
    unsettled: &mut Option<Unsettled>,
) -> Result<(), StateError> {
    let Some(batch) = unsettled else { return Ok(()) };
    while let Some(place) = batch.new.get(batch.scored) {
        batch.scored += 1;
        let (_, record) = &batch.entries[*place];
        behaviour.observe(record);
        enforcement.observe(record).await;
    }
    while !batch.entries.is_empty() {
        let stored: Vec<_> = batch.entries.iter().take(READ_MAX).map(|(id, _)| *id).collect();
        log.acknowledge(&stored).await?;
        batch.entries.drain(..stored.len());
    }
    *unsettled = None;
    Ok(())
}

fn is_always_stored(record: &AuditRecord) -> bool {
    record.severity > Severity::Low || record.event_type.is_administrative()
}

#[cfg(test)]
#[path = "ingest_tests.rs"]
mod tests;
