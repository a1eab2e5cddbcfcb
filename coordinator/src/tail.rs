//! The trail as it grows, for those who listen: what is new in the store, in the order of storing, whichever coordinator stored it.
//!
//! The store is asked while anybody listens. In a flood that is faster than it is read here, what is furthest behind is left out, and
//! it is said how much: the trail itself has it.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify, broadcast};

use picket_shared::audit::AuditRecord;

use crate::store::{AuditStore, Ends, StoreError};

const PERIOD: Duration = Duration::from_millis(500);
/// records that are read, and told, in one period
const PERIOD_RECORDS_MAX: u32 = 4096;
/// records that the listeners may be behind the trail
const BEHIND_TRAIL_MAX: u64 = 65_536;
/// records that a slow listener may be behind the others: two periods
const BEHIND_MAX: usize = 2 * PERIOD_RECORDS_MAX as usize;

/// what listeners hear
#[derive(Clone, Debug)]
pub(crate) enum News {
    Record(Arc<AuditRecord>),
    /// so many records are not told
    LeftOut(u64),
}

pub(crate) struct Tail {
    store: AuditStore,
    listeners: broadcast::Sender<News>,
    arrival: Notify,
    /// up to where the trail was told; `None` while nobody listens
    told: Mutex<Option<Ends>>,
}

impl Tail {
    pub(crate) fn new(store: AuditStore) -> Self {
        Tail { store, listeners: broadcast::Sender::new(BEHIND_MAX), arrival: Notify::new(), told: Mutex::default() }
    }

    /// hears all that is stored from here on, and where others listen already, perhaps a little of what was stored before
    pub(crate) async fn listen(&self) -> Result<broadcast::Receiver<News>, StoreError> {
        let mut told = self.told.lock().await;
        let listener = self.listeners.subscribe();
        if told.is_none() {
            *told = Some(self.store.ends().await?);
        }
        self.arrival.notify_one();
        Ok(listener)
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
            while self.is_heard().await {
                if let Err(error) = self.tell().await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the stream of audit records waits");
                }
                tokio::time::sleep(PERIOD).await;
            }
        }
    }

    /// once nobody listens, the next one begins anew
    async fn is_heard(&self) -> bool {
        let mut told = self.told.lock().await;
        let is_heard = self.listeners.receiver_count() > 0;
        if !is_heard {
            *told = None;
        }
        is_heard
    }

    async fn tell(&self) -> Result<(), StoreError> {
        let mut told = self.told.lock().await;
        let Some(read) = told.as_mut() else { return Ok(()) };
        let ends = self.store.ends().await?;
        let behind = read.until(&ends);
        if behind > BEHIND_TRAIL_MAX {
            *read = ends;
            self.listeners.send(News::LeftOut(behind)).ok();
            return Ok(());
        }
        for record in self.store.grown(read, &ends, PERIOD_RECORDS_MAX).await? {
            self.listeners.send(News::Record(Arc::new(record))).ok();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Filter;
    use picket_shared::audit::{EventType, Severity};
    use picket_shared::clock::Timestamp;
    use picket_shared::reason::Reason;
    use tempfile::TempDir;

    async fn store() -> (AuditStore, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let store = AuditStore::open(&format!("sqlite:{}", folder.path().join("audit.db").display())).await.unwrap();
        (store, folder)
    }

    fn record(reason: Reason, ip: &str, at: u64) -> AuditRecord {
        AuditRecord::refusal(reason, ip.parse().unwrap(), Timestamp::from_millis(at))
    }

    async fn inserts(store: &AuditStore, records: &[AuditRecord]) {
        for batch in records.chunks(8192) {
            store.insert(&batch.iter().collect::<Vec<_>>()).await.unwrap();
        }
    }

    async fn heard(listener: &mut broadcast::Receiver<News>) -> Option<AuditRecord> {
        match tokio::time::timeout(Duration::from_secs(10), listener.recv()).await.unwrap().unwrap() {
            News::Record(record) => Some((*record).clone()),
            News::LeftOut(_) => None,
        }
    }

    #[tokio::test]
    async fn all_that_is_stored_once_somebody_listens_is_told_in_that_order_however_old_it_is() {
        const OLD: u64 = 1;
        let (store, _folder) = store().await;
        inserts(&store, &[record(Reason::Burst, "192.0.2.1", 1_000_000)]).await;
        let tail = Arc::new(Tail::new(store.clone()));
        let mut listener = tail.listen().await.unwrap();
        // Stored before anything is told, by a tail that has not begun to follow.
        let mut stored: Vec<_> = (0..2000).map(|n| record(Reason::Burst, "192.0.2.2", 2_000_000 + n)).collect();
        stored.push(record(Reason::Burst, "192.0.2.3", OLD));
        inserts(&store, &stored).await;
        let hears = async {
            for record in &stored {
                assert_eq!(heard(&mut listener).await.as_ref(), Some(record));
            }
            let late = record(Reason::Burst, "192.0.2.4", OLD);
            let mut second = tail.listen().await.unwrap();
            inserts(&store, std::slice::from_ref(&late)).await;
            for listener in [&mut listener, &mut second] {
                assert_eq!(heard(listener).await.as_ref(), Some(&late));
            }
        };
        tail.clone().run(hears).await;
    }

    #[tokio::test]
    async fn a_flood_is_left_out_and_said_to_be() {
        let (store, _folder) = store().await;
        let tail = Arc::new(Tail::new(store.clone()));
        let mut listener = tail.listen().await.unwrap();
        let flood: Vec<_> = (0..=BEHIND_TRAIL_MAX).map(|n| record(Reason::Burst, "192.0.2.2", n)).collect();
        inserts(&store, &flood).await;
        let hears = async {
            let news = listener.recv().await.unwrap();
            assert!(matches!(news, News::LeftOut(left_out) if left_out == BEHIND_TRAIL_MAX + 1), "{news:?}");
            let next = record(Reason::Burst, "192.0.2.3", 1);
            inserts(&store, std::slice::from_ref(&next)).await;
            assert_eq!(heard(&mut listener).await, Some(next));
        };
        tail.clone().run(hears).await;
    }

    #[tokio::test]
    async fn who_listens_is_told_what_the_store_would_find() {
        let (store, _folder) = store().await;
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
        inserts(&store, &records).await;
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
