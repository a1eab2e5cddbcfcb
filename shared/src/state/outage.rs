//! What limits do while the shared state is not reachable: each check has a stance of its own.
//!
//! `share`, the default: each node enforces the limit divided by the last known number of nodes, at least 1, from its own
//! memory. `open` lets through, `closed` refuses. Nothing is queued, and nothing is asked again later; what a node let through
//! by its own share it tells the state when that answers again, so that it counts.

use async_trait::async_trait;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::overshoot::Overshoot;
use super::{
    Acquired, Charge, Claim, CounterKey, Counters, LeaseKey, Leases, Ledger, LimitName, Memory, Permit, StateError,
};
use crate::clock::Timestamp;
use crate::window::Quota;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stance {
    #[default]
    Share,
    Open,
    Closed,
}

/// the stance of each check that asks the shared state
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Stances {
    pub connection_rate: Stance,
    pub message_rate: Stance,
    pub concurrency: Stance,
}

impl Stances {
    pub fn all(stance: Stance) -> Self {
        Stances { connection_rate: stance, message_rate: stance, concurrency: stance }
    }
}

/// for how long fewer nodes must be heard of before their number is believed: an empty state fills up again meanwhile
const SHRINKS_AFTER: Duration = Duration::from_secs(10);

/// the number of nodes that this node last heard of, itself included
#[derive(Clone, Debug, Default)]
pub struct KnownNodes(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    nodes: u32,
    /// since when fewer are heard of, and how many at most
    fewer: Option<(Timestamp, u32)>,
}

impl KnownNodes {
    /// as a snapshot remembers it
    pub fn remember(&self, nodes: u32) {
        self.0.lock().nodes = nodes;
    }

    pub fn number(&self) -> u32 {
        self.0.lock().nodes.max(1)
    }

    /// takes note of how many are heard of: more at once, fewer when it has been so for a while
    pub fn heard_of(&self, nodes: usize, now: Timestamp) {
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
        let mut known = self.0.lock();
        if nodes >= known.nodes {
            *known = Known { nodes, fewer: None };
            return;
        }
        let (since, most) = known.fewer.unwrap_or((now, nodes));
        let most = most.max(nodes);
        *known = match now.since(since) >= SHRINKS_AFTER {
            true => Known { nodes: most, fewer: None },
            false => Known { nodes: known.nodes, fewer: Some((since, most)) },
        };
    }

    /// this node's part of a limit, rounded up so that it is at least 1
    fn share(&self, limit: u32) -> u32 {
        limit.div_ceil(self.number())
    }
}

/// the shared limits, and what stands in for them
pub struct WithStance {
    counters: Arc<dyn Counters>,
    leases: Arc<dyn Leases>,
    local: Memory,
    stances: Stances,
    nodes: KnownNodes,
    overshoot: Arc<Overshoot>,
    /// one at a time looks at what this node holds and adds to it
    taking: Mutex<()>,
    /// the same, for those who ask the state while it recounts
    taking_in_recount: tokio::sync::Mutex<()>,
}

impl WithStance {
    pub fn new(
        counters: Arc<dyn Counters>,
        leases: Arc<dyn Leases>,
        stances: Stances,
        nodes: KnownNodes,
        overshoot: Arc<Overshoot>,
    ) -> Self {
        WithStance {
            counters,
            leases,
            local: Memory::default(),
            stances,
            nodes,
            overshoot,
            taking: Mutex::default(),
            taking_in_recount: Default::default(),
        }
    }

    fn stance_of(&self, limit: &LimitName) -> Stance {
        match limit {
            LimitName::Connections => self.stances.connection_rate,
            LimitName::Messages | LimitName::Event(_) => self.stances.message_rate,
        }
    }

    fn take_share(&self, claims: &[Claim]) -> Acquired {
        let _alone = self.taking.lock();
        match self.beyond_share(claims) {
            Some(claim) => Acquired::Full { claim },
            None => self.adopt_alone(claims),
        }
    }

    /// the first claim of which this node holds its share already
    fn beyond_share(&self, claims: &[Claim]) -> Option<usize> {
        claims.iter().position(|claim| self.leases.held_here(&claim.key) >= self.nodes.share(claim.cap))
    }

    async fn acquire_by_stance(&self, claims: &[Claim], now: Timestamp) -> Result<Acquired, StateError> {
        let error = match self.leases.acquire(claims, now).await {
            Ok(acquired) => return Ok(acquired),
            Err(error) => error,
        };
        match self.stances.concurrency {
            Stance::Closed => Err(error),
            Stance::Open => Ok(self.adopt_alone(claims)),
            Stance::Share => Ok(self.take_share(claims)),
        }
    }

    fn adopt_alone(&self, claims: &[Claim]) -> Acquired {
        self.overshoot.held_alone();
        self.adopt(claims)
    }

    /// the state may not know yet what others hold: beside its cap, each node's share holds
    async fn acquire_in_recount(&self, claims: &[Claim], now: Timestamp) -> Result<Acquired, StateError> {
        let _alone = self.taking_in_recount.lock().await;
        match self.beyond_share(claims) {
            Some(claim) => Ok(Acquired::Full { claim }),
            None => self.acquire_by_stance(claims, now).await,
        }
    }

    fn adopt(&self, claims: &[Claim]) -> Acquired {
        let keys: Vec<LeaseKey> = claims.iter().map(|claim| claim.key.clone()).collect();
        self.leases.adopt(&keys);
        Acquired::Granted
    }
}

#[async_trait]
impl Counters for WithStance {
    async fn charge(&self, key: CounterKey, quota: Quota, now: Timestamp) -> Result<Charge, StateError> {
        let error = match self.counters.charge(key.clone(), quota, now).await {
            Ok(charge) => return Ok(charge),
            Err(error) => error,
        };
        match self.stance_of(&key.limit) {
            Stance::Closed => Err(error),
            Stance::Open => {
                self.overshoot.let_through_alone(&key.limit);
                Ok(Charge::Granted(Permit { key, at: now, ledger: Ledger::None }))
            }
            Stance::Share => {
                let limit = NonZeroU32::new(self.nodes.share(quota.limit.get())).unwrap_or(NonZeroU32::MIN);
                let charge = self.local.charge(key, Quota { limit, ..quota }, now).await?;
                Ok(match charge {
                    Charge::Granted(permit) => {
                        self.overshoot.let_through_alone(&permit.key.limit);
                        self.counters.remember(&permit, quota);
                        Charge::Granted(Permit { ledger: Ledger::Local, ..permit })
                    }
                    exhausted @ Charge::Exhausted { .. } => exhausted,
                })
            }
        }
    }

    fn charge_at_once(&self, key: &CounterKey, quota: Quota, now: Timestamp) -> Option<Charge> {
        self.counters.charge_at_once(key, quota, now)
    }

    async fn refund(&self, permit: Permit) -> Result<(), StateError> {
        match permit.ledger {
            Ledger::Shared | Ledger::Share(_) => self.counters.refund(permit).await,
            Ledger::Local => {
                self.counters.forget(&permit);
                self.local.refund(permit).await
            }
            Ledger::None => Ok(()),
        }
    }
}

#[async_trait]
impl Leases for WithStance {
    async fn acquire(&self, claims: &[Claim], now: Timestamp) -> Result<Acquired, StateError> {
        match self.leases.is_recounting() && self.stances.concurrency != Stance::Open {
            true => self.acquire_in_recount(claims, now).await,
            false => self.acquire_by_stance(claims, now).await,
        }
    }

    fn adopt(&self, keys: &[LeaseKey]) {
        self.leases.adopt(keys);
    }

    fn is_recounting(&self) -> bool {
        self.leases.is_recounting()
    }

    fn release(&self, keys: &[LeaseKey]) {
        self.leases.release(keys);
    }

    fn held_here(&self, key: &LeaseKey) -> u32 {
        self.leases.held_here(key)
    }

    async fn held(&self, key: &LeaseKey) -> Result<u32, StateError> {
        self.leases.held(key).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Subject;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// the embedded state behind a line that can be cut
    #[derive(Default)]
    struct Line {
        memory: Memory,
        cut: AtomicBool,
    }

    impl Line {
        fn reach(&self) -> Result<&Memory, StateError> {
            match self.cut.load(Ordering::Relaxed) {
                true => Err(StateError("cut".into())),
                false => Ok(&self.memory),
            }
        }
    }

    #[async_trait]
    impl Counters for Line {
        async fn charge(&self, key: CounterKey, quota: Quota, now: Timestamp) -> Result<Charge, StateError> {
            self.reach()?.charge(key, quota, now).await
        }

        async fn refund(&self, permit: Permit) -> Result<(), StateError> {
            self.reach()?.refund(permit).await
        }
    }

    #[async_trait]
    impl Leases for Line {
        async fn acquire(&self, claims: &[Claim], now: Timestamp) -> Result<Acquired, StateError> {
            self.reach()?.acquire(claims, now).await
        }

        fn adopt(&self, keys: &[LeaseKey]) {
            self.memory.adopt(keys);
        }

        fn release(&self, keys: &[LeaseKey]) {
            self.memory.release(keys);
        }

        fn held_here(&self, key: &LeaseKey) -> u32 {
            self.memory.held_here(key)
        }

        async fn held(&self, key: &LeaseKey) -> Result<u32, StateError> {
            self.reach()?.held(key).await
        }
    }

    fn with_stance(stance: Stance, nodes: usize) -> (Arc<Line>, WithStance) {
        let line = Arc::new(Line::default());
        let known = KnownNodes::default();
        known.remember(u32::try_from(nodes).unwrap());
        (line.clone(), WithStance::new(line.clone(), line, Stances::all(stance), known, Arc::default()))
    }

    fn quota() -> Quota {
        Quota::new(10, 60_000)
    }

    fn messages() -> CounterKey {
        CounterKey { subject: Subject::User("alice".into()), limit: LimitName::Messages }
    }

    async fn admitted(state: &WithStance, tries: u32) -> usize {
        let mut admitted = 0;
        for _ in 0..tries {
            let charge = state.charge(messages(), quota(), Timestamp::from_millis(1_000_000)).await;
            admitted += usize::from(matches!(charge, Ok(Charge::Granted(_))));
        }
        admitted
    }

    #[test]
    fn x02_the_number_of_nodes_falls_only_when_it_stays_low() {
        let known = KnownNodes::default();
        let heard_of = |nodes, seconds: u64| {
            known.heard_of(nodes, Timestamp::from_millis(seconds * 1000));
            known.number()
        };
        assert_eq!(heard_of(3, 0), 3);
        assert_eq!(heard_of(1, 1), 3, "an empty state knows only who spoke");
        assert_eq!(heard_of(3, 3), 3);
        assert_eq!(heard_of(2, 5), 3);
        assert_eq!(heard_of(1, 9), 3);
        assert_eq!(heard_of(1, 15), 2, "the most of the last ten seconds");
    }

    #[tokio::test]
    async fn x02_without_the_state_each_node_enforces_its_share() {
        for (stance, expected) in [(Stance::Share, 4), (Stance::Open, 20), (Stance::Closed, 0)] {
            let (line, state) = with_stance(stance, 3);
            assert_eq!(admitted(&state, 20).await, 10, "the whole limit while the state is there");
            line.cut.store(true, Ordering::Relaxed);
            assert_eq!(admitted(&state, 20).await, expected, "{stance:?}");
        }
    }

    #[tokio::test]
    async fn x02_slots_taken_alone_count_when_the_state_is_back() {
        let (line, state) = with_stance(Stance::Share, 2);
        let claims = [Claim { key: LeaseKey::Anonymous, cap: 5 }];
        line.cut.store(true, Ordering::Relaxed);
        let now = Timestamp::from_millis(1_000_000);
        for _ in 0..3 {
            assert_eq!(state.acquire(&claims, now).await.unwrap(), Acquired::Granted);
        }
        assert_eq!(state.acquire(&claims, now).await.unwrap(), Acquired::Full { claim: 0 }, "half of five, rounded up");
        line.cut.store(false, Ordering::Relaxed);
        assert_eq!(state.held(&LeaseKey::Anonymous).await.unwrap(), 3);
        state.release(&[LeaseKey::Anonymous]);
        assert_eq!(state.held(&LeaseKey::Anonymous).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_permit_goes_back_to_where_it_came_from() {
        let (line, state) = with_stance(Stance::Share, 1);
        line.cut.store(true, Ordering::Relaxed);
        let now = Timestamp::from_millis(1_000_000);
        let Charge::Granted(permit) = state.charge(messages(), quota(), now).await.unwrap() else {
            panic!("the share was empty");
        };
        assert_eq!(admitted(&state, 20).await, 9);
        state.refund(permit).await.unwrap();
        assert_eq!(admitted(&state, 20).await, 1);
    }
}
