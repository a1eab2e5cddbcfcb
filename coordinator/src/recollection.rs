//! What the trail says of addresses: for a coordinator that begins to lead, and for one that stands by and is asked about them.

use std::sync::Arc;
use std::time::Duration;

use picket_shared::audit::{AuditRecord, EventType};
use picket_shared::clock::Clock;
use picket_shared::state::LivePolicy;
use tokio::sync::broadcast::error::RecvError;

use crate::enforcement::Enforcement;
use crate::relapses::RELAPSE_MEMORY;
use crate::store::{AuditStore, Cursor, Filter, StoreError};
use crate::tail::{News, Tail};

/// half-lives after which an offence no longer matters: its points are below a two-hundredth
const HALF_LIVES_THAT_MATTER: u32 = 8;
/// records that are read to score anew
const RECORDS_MAX: usize = 100_000;
/// how long before, and of how many records, it is read who came in: who did may be connected still
const CAME_IN_WITHIN: Duration = Duration::from_secs(86_400);
const CAME_IN_MAX: usize = 20_000;
const PAGE: u32 = 1000;
/// how often, and how long apart, it is tried to read them
const TRIES: u32 = 5;
const RETRY_DELAY: Duration = Duration::from_secs(1);

pub(crate) struct Recollection {
    pub(crate) store: AuditStore,
    pub(crate) tail: Arc<Tail>,
    pub(crate) enforcement: Arc<Enforcement>,
    pub(crate) policy: LivePolicy,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Recollection {
    /// forgets what was known, and learns it from the trail
    pub(crate) async fn begin_anew(&self) {
        for _ in 0..TRIES {
            let Err(error) = self.read().await else { return };
            tracing::warn!(error = &error as &dyn std::error::Error, "scores cannot be read from the trail");
            tokio::time::sleep(RETRY_DELAY).await;
        }
        // Records are worth more than scores: the trail goes on.
        tracing::warn!("scores are what they were when this coordinator stood by");
    }

    /// Knows what the leader knows, but for what is not stored, as long as it is polled. What comes in the moment in which the trail is
    /// read may count twice, and what comes in a flood not at all: who begins to lead begins anew.
    pub(crate) async fn follow(&self) {
        let mut new = loop {
            match self.tail.listen().await {
                Ok(new) => break new,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the trail cannot be followed yet")
                }
            }
            tokio::time::sleep(RETRY_DELAY).await;
        };
        self.begin_anew().await;
        loop {
            match new.recv().await {
                Ok(News::Record(record)) => self.enforcement.replay(&record),
                Ok(News::LeftOut(missed)) | Err(RecvError::Lagged(missed)) => {
                    tracing::debug!(missed, "records of the trail are not scored here");
                }
                Err(RecvError::Closed) => return std::future::pending().await,
            }
        }
    }

    async fn read(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let half_life = Duration::from_millis(self.policy.current().document.security.reputation.half_life_ms);
        let of = |event_type| Filter { event_type, since: Some(now.minus(RELAPSE_MEMORY)), ..Filter::default() };
        let mut blocks = self.newest(&of(Some(EventType::IpBlocked)), RECORDS_MAX).await?;
        blocks.extend(self.newest(&of(Some(EventType::IpUnblocked)), RECORDS_MAX).await?);
        blocks.sort_by_key(|record| record.timestamp);
        let matters = now.minus(half_life.saturating_mul(HALF_LIVES_THAT_MATTER));
        let recent = self.newest(&Filter { since: Some(matters), ..Filter::default() }, RECORDS_MAX).await?;
        let from = recent.first().map_or(now, |record| record.timestamp);
        let before = now.minus(CAME_IN_WITHIN);
        let came_in = Filter { since: Some(before), until: Some(from), ..of(Some(EventType::AuthenticationSuccess)) };
        let came_in = self.newest(&came_in, CAME_IN_MAX).await?;
        self.enforcement.forget();
        came_in.iter().for_each(|record| self.enforcement.replay(record));
        blocks.iter().filter(|record| record.timestamp < from).for_each(|record| self.enforcement.replay(record));
        recent.iter().for_each(|record| self.enforcement.replay(record));
        Ok(())
    }

    /// the newest records of a filter, about so many, oldest first
    async fn newest(&self, filter: &Filter, most: usize) -> Result<Vec<AuditRecord>, StoreError> {
        let mut records = Vec::new();
        let mut cursor: Option<Cursor> = None;
        loop {
            let page = self.store.page(filter, cursor.as_ref(), PAGE).await?;
            records.extend(page.records);
            cursor = page.next;
            if cursor.is_none() || records.len() >= most {
                records.reverse();
                return Ok(records);
            }
        }
    }
}
