//! The store's bounds: records by age, number and size, counts by age. Deletes in small steps, so that ingest is not held up.

use std::sync::Arc;
use std::time::Duration;

use picket_shared::clock::Clock;

use crate::metrics::Instruments;
use crate::store::{AuditStore, Bounds, StoreError};

/// between looks at a store that is within its bounds
const PERIOD: Duration = Duration::from_secs(60);
/// between steps of deleting
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Retention {
    pub(crate) store: AuditStore,
    pub(crate) bounds: Bounds,
    /// how long the counts by minute are kept, longer than the records may be
    pub(crate) counts_kept: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) instruments: Instruments,
}

impl Retention {
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            let pause = match self.step().await {
                Ok(false) => PERIOD,
                Ok(true) => PAUSE,
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

    /// answers whether it deleted records, and there may be more
    async fn step(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        if let Some((cause, deleted)) = self.store.prune(&self.bounds, now).await? {
            self.instruments.count_deleted(cause, deleted);
            return Ok(true);
        }
        self.store.forget(now.minus(self.counts_kept)).await?;
        Ok(false)
    }
}
