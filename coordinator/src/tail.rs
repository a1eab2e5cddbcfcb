//! The trail as it grows, for those who listen: what is new in the store, whichever coordinator stored it.
//!
//! The store is asked while anybody listens. What reaches it long after its time, or in a flood faster than it is read here, may not
//! be told: the trail itself has it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, broadcast};

use picket_shared::audit::AuditRecord;
use picket_shared::clock::{Clock, Timestamp};

use crate::store::{AuditStore, Cursor, Filter, StoreError};

const PERIOD: Duration = Duration::from_millis(500);
/// how long after its time a record may reach the store and is still told
const LATE_MAX: Duration = Duration::from_secs(30);
const PAGE: u32 = 1000;
/// records that are read in one period
const PERIOD_RECORDS_MAX: usize = 5000;
/// records that are remembered as told
const TOLD_MAX: usize = 50_000;
/// records that a slow listener may be behind
const BEHIND_MAX: usize = 2048;

pub(crate) struct Tail {
    store: AuditStore,
    clock: Arc<dyn Clock>,
    listeners: broadcast::Sender<Arc<AuditRecord>>,
    arrival: Notify,
}

impl Tail {
    pub(crate) fn new(store: AuditStore, clock: Arc<dyn Clock>) -> Self {
        Tail { store, clock, listeners: broadcast::Sender::new(BEHIND_MAX), arrival: Notify::new() }
    }

    /// hears what is stored from here on
    pub(crate) fn listen(&self) -> broadcast::Receiver<Arc<AuditRecord>> {
        let listener = self.listeners.subscribe();
        self.arrival.notify_one();
        listener
    }

    pub(crate) async fn run(self: Arc<Self>, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = self.follow() => {}
            () = stop => {}
        }
    }

    async fn follow(&self) {
        loop {
            self.arrival.notified().await;
            let mut told = BTreeSet::new();
            let mut outcome = self.unseen(&mut told).await.map(drop);
            while self.listeners.receiver_count() > 0 {
                if let Err(error) = &outcome {
                    tracing::warn!(error = error as &dyn std::error::Error, "the stream of audit records waits");
                }
                tokio::time::sleep(PERIOD).await;
                outcome = self.unseen(&mut told).await.map(|records| self.tell(records));
            }
        }
    }

    fn tell(&self, records: Vec<AuditRecord>) {
        // Newest first is how they are read.
        for record in records.into_iter().rev() {
            if self.listeners.send(Arc::new(record)).is_err() {
                return;
            }
        }
    }

    /// what was stored of late and not seen before, newest first
    async fn unseen(&self, seen: &mut BTreeSet<(Timestamp, String)>) -> Result<Vec<AuditRecord>, StoreError> {
        let since = self.clock.now().minus(LATE_MAX);
        let filter = Filter { since: Some(since), ..Filter::default() };
        let mut new = Vec::new();
        let mut cursor: Option<Cursor> = None;
        loop {
            let page = self.store.page(&filter, cursor.as_ref(), PAGE).await?;
            let known = new.len();
            new.extend(page.records.into_iter().filter(|record| seen.insert((record.timestamp, record.id.clone()))));
            cursor = page.next;
            // A page without anything new: what is older was seen when it came.
            if cursor.is_none() || new.len() == known || new.len() >= PERIOD_RECORDS_MAX {
                break;
            }
        }
        while seen.len() > TOLD_MAX || seen.first().is_some_and(|(at, _)| *at < since) {
            seen.pop_first();
        }
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::audit::{EventType, Severity};
    use picket_shared::reason::Reason;

    #[tokio::test]
    async fn who_listens_is_told_what_the_store_would_find() {
        let folder = tempfile::tempdir().unwrap();
        let store = AuditStore::open(&format!("sqlite:{}", folder.path().join("audit.db").display())).await.unwrap();
        let record =
            |reason, ip: &str, at| AuditRecord::refusal(reason, ip.parse().unwrap(), Timestamp::from_millis(at));
        let alice = AuditRecord { user_id: Some("alice".into()), ..record(Reason::Burst, "192.0.2.1", 3) };
        let named = AuditRecord {
            event_name: Some("chat:Send".into()),
            socket_id: Some("s1".into()),
            ..record(Reason::Schema, "2001:db8::1", 4)
        };
        let records = [
            record(Reason::OriginNotAllowed, "192.0.2.1", 1),
            record(Reason::TokenInvalid, "192.0.2.77", 2).with("detail", "50% Off"),
            alice,
            named,
        ];
        store.insert(&records.iter().collect::<Vec<_>>()).await.unwrap();
        let all = Filter::default();
        let text = |text: &str| Filter { text: Some(text.into()), ..all.clone() };
        for filter in [
            all.clone(),
            Filter { event_type: Some(EventType::InvalidOrigin), ..all.clone() },
            Filter { severity: Some(Severity::Medium), ..all.clone() },
            Filter { network: Some("192.0.2.0/26".parse().unwrap()), ..all.clone() },
            Filter { network: Some("2001:db8::/32".parse().unwrap()), ..all.clone() },
            Filter { user_id: Some("alice".into()), ..all.clone() },
            Filter { socket_id: Some("s1".into()), ..all.clone() },
            Filter { since: Some(Timestamp::from_millis(2)), until: Some(Timestamp::from_millis(4)), ..all.clone() },
            text("50% o"),
            text("50_"),
            text("CHAT:send"),
            text("token_invalid"),
            text("not allowed"),
            text("nothing"),
        ] {
            let mut stored = store.page(&filter, None, 10).await.unwrap().records;
            stored.reverse();
            let told: Vec<_> = records.iter().filter(|record| filter.finds(record)).cloned().collect();
            assert_eq!(told, stored, "{filter:?}");
        }
    }
}
