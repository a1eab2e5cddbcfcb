//! This node among the others: its mode, the heartbeat that says so, and what it knows of them.

use picket_shared::audit::{AuditRecord, EventType, Outbox, Severity};
use picket_shared::clock::Clock;
use picket_shared::state::{KnownNodes, LivePolicy, Mode, NodeStatus, Nodes, StateError, Traffic};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

const HEARTBEAT: Duration = Duration::from_secs(1);

pub struct Membership {
    pub id: Arc<str>,
    pub traffic: Arc<Traffic>,
    pub policy: LivePolicy,
    /// whether the shared state is not asked at present; `None` where it cannot be away
    pub outage: Option<watch::Receiver<bool>>,
    pub known: KnownNodes,
    /// policy and blocks are known from elsewhere than the state: a snapshot, or nobody asked for more
    pub informed: bool,
    /// whether it can tell of which country an address is
    pub knows_countries: bool,
    draining: AtomicBool,
    reached: AtomicBool,
}

impl Membership {
    pub fn new(
        id: Arc<str>,
        traffic: Arc<Traffic>,
        policy: LivePolicy,
        outage: Option<watch::Receiver<bool>>,
        known: KnownNodes,
        informed: bool,
        knows_countries: bool,
    ) -> Self {
        let (draining, reached) = (AtomicBool::new(false), AtomicBool::new(false));
        Membership { id, traffic, policy, outage, known, informed, knows_countries, draining, reached }
    }

    pub fn mode(&self) -> Mode {
        if self.draining.load(Ordering::Relaxed) {
            return Mode::Draining;
        }
        match &self.outage {
            Some(outage) if *outage.borrow() => Mode::Degraded,
            _ => Mode::Normal,
        }
    }

    /// a degraded node is ready; one that never learnt policy and blocks is not
    pub fn is_ready(&self) -> bool {
        let learnt = self.reached.load(Ordering::Relaxed) && self.policy.version() > 0;
        self.mode() != Mode::Draining && (self.informed || learnt)
    }

    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn connections(&self) -> u64 {
        self.traffic.active_connections.load(Ordering::Relaxed)
    }

    fn status(&self, clock: &dyn Clock) -> NodeStatus {
        NodeStatus {
            id: self.id.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: self.mode(),
            policy_version: self.policy.version(),
            connections: self.connections(),
            last_seen: clock.now(),
            traffic: self.traffic.snapshot(),
            decisions: Some(self.traffic.decisions()),
            enforce: self.policy.enforcement().mode(),
            is_switched: self.policy.switched().is_some(),
            knows_countries: Some(self.knows_countries),
            on_trial: self.policy.is_on_trial(),
            clock_offset_ms: clock.offset_ms(),
        }
    }

    /// says that this node lives, before it takes anybody in: so that it does not think that it is alone
    pub async fn says_it_lives(&self, nodes: &dyn Nodes, clock: &dyn Clock) {
        match self.beat(nodes, clock).await {
            Ok(()) => self.reached.store(true, Ordering::Relaxed),
            Err(error) => tracing::debug!(%error, "heartbeat not delivered"),
        }
    }

    /// says that this node lives, and counts who else does, until `stop` resolves; then goodbye, without which it would be lost
    pub async fn heartbeat(
        self: Arc<Self>,
        nodes: Arc<dyn Nodes>,
        clock: Arc<dyn Clock>,
        stop: impl Future<Output = ()>,
    ) {
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = sleep(HEARTBEAT) => {}
                () = &mut stop => break,
            }
            self.says_it_lives(&*nodes, &*clock).await;
        }
        self.start_draining();
        if let Err(error) = nodes.node_alive(self.status(&*clock)).await {
            tracing::debug!(%error, "goodbye not delivered");
        }
    }

    async fn beat(&self, nodes: &dyn Nodes, clock: &dyn Clock) -> Result<(), StateError> {
        nodes.node_alive(self.status(clock)).await?;
        let serving = nodes.nodes(clock.now()).await?.iter().filter(|node| node.mode != Mode::Draining).count();
        self.known.heard_of(serving, clock.now());
        Ok(())
    }

    /// says whenever the shared state goes or comes back, until `stop` resolves
    pub async fn announce_outages(
        self: Arc<Self>,
        outbox: Outbox,
        clock: Arc<dyn Clock>,
        stop: impl Future<Output = ()>,
    ) {
        let Some(mut outage) = self.outage.clone() else {
            return;
        };
        tokio::pin!(stop);
        let mut announced = false;
        loop {
            let away = *outage.borrow_and_update();
            if away != announced {
                announced = away;
                self.announce(away, &outbox, &*clock);
            }
            tokio::select! {
                changed = outage.changed() => if changed.is_err() { return },
                () = &mut stop => return,
            }
        }
    }

    fn announce(&self, away: bool, outbox: &Outbox, clock: &dyn Clock) {
        let (severity, message) = match away {
            true => (Severity::High, "the shared state is away, limits hold for this node alone"),
            false => (Severity::Medium, "the shared state is back"),
        };
        tracing::warn!(mode = ?self.mode(), "{message}");
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let record = AuditRecord::new(EventType::ModeChanged, severity, nobody, message, clock.now());
        outbox.record(AuditRecord { node: Some(self.id.to_string()), ..record }.with("degraded", away));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::clock::SystemClock;
    use picket_shared::policy::{Environment, Policy};
    use picket_shared::state::State;
    use picket_shared::tasks::Tasks;

    #[tokio::test]
    async fn who_ends_says_goodbye() {
        let (state, tasks, clock) = (State::memory(), Tasks::default(), Arc::new(SystemClock));
        let policy = LivePolicy::starting_with(Policy::default(), Environment::Production).unwrap();
        let membership =
            Membership::new("edge-1".into(), Arc::default(), policy, None, KnownNodes::default(), true, false);
        let membership = Arc::new(membership);
        tasks.spawn("heartbeat", membership.heartbeat(state.nodes.clone(), clock.clone(), tasks.stopped()));
        assert!(tasks.stop(HEARTBEAT / 2).await);
        let nodes = state.nodes.nodes(clock.now()).await.unwrap();
        assert_eq!(nodes.into_iter().map(|node| node.mode).collect::<Vec<_>>(), [Mode::Draining]);
    }
}
