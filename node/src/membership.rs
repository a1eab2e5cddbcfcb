//! This node among the others: its mode, and the heartbeat that says so.

use parking_lot::Mutex;
use picket_shared::clock::Clock;
use picket_shared::state::{LivePolicy, Mode, NodeStatus, Nodes, Traffic};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;

const HEARTBEAT: Duration = Duration::from_secs(1);

pub struct Membership {
    id: Arc<str>,
    mode: Mutex<Mode>,
    traffic: Arc<Traffic>,
    policy: LivePolicy,
}

impl Membership {
    pub fn new(id: Arc<str>, traffic: Arc<Traffic>, policy: LivePolicy) -> Self {
        Membership { id, mode: Mutex::new(Mode::Normal), traffic, policy }
    }

    pub fn mode(&self) -> Mode {
        *self.mode.lock()
    }

    pub fn is_ready(&self) -> bool {
        self.mode() != Mode::Draining
    }

    pub fn start_draining(&self) {
        *self.mode.lock() = Mode::Draining;
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
        }
    }

    /// says that this node lives, until `stop` resolves
    pub async fn heartbeat(
        self: Arc<Self>,
        nodes: Arc<dyn Nodes>,
        clock: Arc<dyn Clock>,
        stop: impl Future<Output = ()>,
    ) {
        tokio::pin!(stop);
        loop {
            if let Err(error) = nodes.node_alive(self.status(&*clock)).await {
                tracing::warn!(%error, "heartbeat not delivered");
            }
            tokio::select! {
                () = sleep(HEARTBEAT) => {}
                () = &mut stop => return,
            }
        }
    }
}
