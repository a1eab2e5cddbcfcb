//! The store's bounds: records by number, counts by age. Deletes in small steps, so that ingest is not held up.

use std::sync::Arc;
use std::time::Duration;

use picket_shared::clock::Clock;

use crate::metrics::Instruments;
use crate::store::{AuditStore, StoreError};

/// audit records that the store keeps; beyond it the oldest go
const RECORDS_MAX: u64 = 10_000_000;
/// how long the counts by minute are kept, longer than the records may be
const COUNTS_KEPT: Duration = Duration::from_secs(400 * 86_400);
/// between looks at a store that is within its bounds
const PERIOD: Duration = Duration::from_secs(60);
/// between steps of deleting
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Retention {
    pub(crate) store: AuditStore,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) instruments: Instruments,
}

impl Retention {
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            let pause = match self.step().await {
                Ok(0) => PERIOD,
                Ok(_) => PAUSE,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "old audit records not deleted");
                    PERIOD
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = &mut stop => return,
            }
        }
    }

    /// answers how many records it deleted
    async fn step(&self) -> Result<u64, StoreError> {
        let deleted = self.store.delete_beyond(RECORDS_MAX).await?;
        self.instruments.records_deleted.add(deleted, &[]);
        if deleted == 0 {
            self.store.delete_counts(self.clock.now().minus(COUNTS_KEPT)).await?;
        }
        Ok(deleted)
    }
}
