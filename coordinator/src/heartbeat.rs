//! Each second: this coordinator says that it lives, and looks at the nodes and the audit log.

use std::sync::Arc;
use std::time::Duration;

use picket_shared::clock::Clock;
use picket_shared::state::{CoordinatorStatus, State, StateError};

use crate::enforcement::Enforcement;
use crate::load::Load;
use crate::metrics::Instruments;

const PERIOD: Duration = Duration::from_secs(1);

pub(crate) struct Heartbeat {
    pub(crate) id: String,
    pub(crate) state: State,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) load: Arc<Load>,
    pub(crate) enforcement: Arc<Enforcement>,
    pub(crate) instruments: Instruments,
}

impl Heartbeat {
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            if let Err(error) = self.beat().await {
                tracing::warn!(%error, "heartbeat not delivered");
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = &mut stop => return,
            }
        }
    }

    pub(crate) async fn beat(&self) -> Result<(), StateError> {
        let now = self.clock.now();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.state.nodes.coordinator_alive(CoordinatorStatus { id: self.id.clone(), version, last_seen: now }).await?;
        self.load.sample(&self.state.nodes.nodes(now).await?, now);
        self.instruments.audit_lag.record(self.state.audit.lag().await?, &[]);
        self.instruments.addresses_scored.record(self.enforcement.addresses_scored() as u64, &[]);
        Ok(())
    }
}
