//! What the two pipelines decide with. One per node.

use picket_shared::audit::Outbox;
use picket_shared::behaviour::Watch;
use picket_shared::clock::Clock;
use picket_shared::reason::Reason;
use picket_shared::state::{BlockView, Counters, Leases, LivePolicy, Traffic};
use picket_shared::telemetry::Tracer;
use std::net::IpAddr;
use std::sync::Arc;

use crate::checks::handshake_rate::Handshakes;
use crate::checks::upgrade_rate::Upgrades;
use crate::config::Limits;
use crate::geo::Geo;
use crate::identity::Keys;
use crate::memory::Memory;
use crate::metrics::Instruments;
use crate::pending::{Pending, Place};
use crate::refusal::Denial;

pub struct Gate {
    pub node: Arc<str>,
    pub clock: Arc<dyn Clock>,
    pub policy: LivePolicy,
    pub blocks: BlockView,
    pub counters: Arc<dyn Counters>,
    pub leases: Arc<dyn Leases>,
    pub keys: Keys,
    /// `None` where no database of countries is configured
    pub geo: Option<Geo>,
    pub handshakes: Handshakes,
    pub upgrades: Upgrades,
    pub pending: Arc<Pending>,
    pub memory: Arc<Memory>,
    pub limits: Limits,
    /// what `security.behaviour` watches
    pub watch: Watch,
    pub outbox: Outbox,
    pub traffic: Arc<Traffic>,
    pub instruments: Instruments,
    /// `None` where traces go nowhere
    pub tracer: Option<Arc<Tracer>>,
    /// an event of this name panics, to show that a panic ends one connection; debug builds only
    pub panic_event: Option<String>,
}

impl Gate {
    /// a place among those that have not logged in; the policy's limit binds here too, if it is enforced
    pub fn waits_for_connect(&self, address: IpAddr) -> Result<Place, Denial> {
        let policy = self.policy.current();
        let per_address = match policy.enforcement.pardons(Reason::TooManyConnections) {
            true => u32::MAX,
            false => policy.limits.per_address,
        };
        self.pending.enter(address, per_address)
    }
}
