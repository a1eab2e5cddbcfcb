//! Each second: this coordinator says that it lives, and looks at the nodes and the audit log.

use std::sync::Arc;
use std::time::Duration;

use picket_shared::clock::{Clock, Timestamp};
use picket_shared::state::{CoordinatorStatus, State, StateError};
use tokio::sync::watch;

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
    pub(crate) since: Timestamp,
    /// whether this coordinator leads
    pub(crate) leads: watch::Sender<bool>,
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

    /// one coordinator reads audit and scores, so that no score is split; a dead one is followed within 10 s
    async fn look_who_leads(&self, now: Timestamp) -> Result<(), StateError> {
        let living = self.state.nodes.coordinators(now).await?;
        let leads = CoordinatorStatus::leader(&living).is_some_and(|leader| leader.id == self.id);
        if self.leads.send_replace(leads) != leads {
            tracing::info!(leads, "leadership of the coordinators");
        }
        Ok(())
    }

    pub(crate) async fn beat(&self) -> Result<(), StateError> {
        let now = self.clock.now();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let status = CoordinatorStatus { id: self.id.clone(), version, since: self.since, last_seen: now };
        self.state.nodes.coordinator_alive(status).await?;
        self.look_who_leads(now).await?;
        self.load.sample(&self.state.nodes.nodes(now).await?, now);
        self.instruments.audit_lag.record(self.state.audit.lag().await?, &[]);
        self.instruments.addresses_scored.record(self.enforcement.addresses_scored() as u64, &[]);
        Ok(())
    }
}
