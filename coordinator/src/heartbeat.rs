//! Each second: this coordinator says that it lives, and looks at the nodes and the audit log.

use std::sync::Arc;
use std::time::Duration;

use picket_shared::clock::{Clock, Timestamp};
use picket_shared::state::{CoordinatorStatus, State, StateError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::alarms::{Alarms, Readings, Roll};
use crate::enforcement::Enforcement;
use crate::load::Load;
use crate::metrics::Instruments;
use crate::twin;

const PERIOD: Duration = Duration::from_secs(1);
/// how long after it was said the leadership is believed: others take it for dead a second later
const LEADS_FOR: Duration = Duration::from_secs(9);
/// who was not heard of for so long was taken for dead
const DEAD_AFTER: Duration = Duration::from_secs(10);

/// until when this coordinator leads, unless it is said again; `None` while another one does. Who stood still does not act on
/// what it knew before
pub(crate) type LeadsUntil = Option<Instant>;

pub(crate) fn leads(until: &LeadsUntil) -> bool {
    until.is_some_and(|until| Instant::now() < until)
}

pub(crate) struct Heartbeat {
    pub(crate) id: String,
    pub(crate) state: State,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) load: Arc<Load>,
    pub(crate) enforcement: Arc<Enforcement>,
    pub(crate) alarms: Arc<Alarms>,
    pub(crate) instruments: Instruments,
    pub(crate) since: Timestamp,
    /// who had this id and has ended
    pub(crate) predecessor: Option<Timestamp>,
    /// since when an older one lives that has this id too
    pub(crate) twin: Option<Timestamp>,
    pub(crate) leads: watch::Sender<LeadsUntil>,
    pub(crate) roll: Roll,
    /// how often in a row the state did not answer
    pub(crate) failed: u64,
}

impl Heartbeat {
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut last = Instant::now();
        loop {
            if last.elapsed() > DEAD_AFTER {
                tracing::warn!("this coordinator stood still and was taken for dead, it begins anew");
                self.predecessor = Some(self.since);
                self.since = self.clock.now();
            }
            last = Instant::now();
            self.beat().await;
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = &mut stop => return,
            }
        }
    }

    /// One coordinator reads audit and scores, so that no score is split; a dead one is followed within 10 s. Who led until it was not
    /// heard of begins a new term: another one may have led meanwhile
    async fn look_who_leads(&self, now: Timestamp, said: Instant) -> Result<(), StateError> {
        let living = self.state.nodes.coordinators(now).await?;
        let is_leader = CoordinatorStatus::leader(&living).is_some_and(|leader| leader.id == self.id);
        if is_leader && !leads(&self.leads.borrow()) {
            self.enforcement.begin_term().await?;
        }
        let before = self.leads.send_replace(is_leader.then(|| said + LEADS_FOR));
        if before.is_some() != is_leader {
            tracing::info!(leads = is_leader, "leadership of the coordinators");
        }
        Ok(())
    }

    /// One of two that have the same id says that it lives, the older one; the other leads nothing until that one has ended
    async fn look_for_a_twin(&mut self) -> Result<(), StateError> {
        let bearer = twin::bearer(&*self.state.nodes, &self.id, &*self.clock).await?;
        let elder = bearer.map(|bearer| bearer.since).filter(|since| *since < self.since);
        let twin = elder.filter(|since| self.predecessor != Some(*since));
        if let (Some(since), None) = (twin, self.twin) {
            self.leads.send_replace(None);
            tracing::error!(id = self.id, %since, "another coordinator runs under this id, this one stands by: give each a node.id");
        }
        self.twin = twin;
        Ok(())
    }

    /// looks at the cluster, even where the state does not answer: then who led last tells of it
    async fn beat(&mut self) {
        let readings = match self.look_around().await {
            Ok(readings) => {
                self.failed = 0;
                Readings { failed_beats: Some(0), ..readings }
            }
            Err(error) => {
                tracing::warn!(%error, "heartbeat not delivered");
                self.failed += 1;
                self.roll.was_interrupted();
                Readings::without_state(self.failed)
            }
        };
        let led = self.leads.borrow().is_some();
        self.alarms.look(&readings, led);
    }

    async fn look_around(&mut self) -> Result<Readings, StateError> {
        let (now, said) = (self.clock.now(), Instant::now());
        self.look_for_a_twin().await?;
        if self.twin.is_none() {
            let version = env!("CARGO_PKG_VERSION").to_owned();
            let status = CoordinatorStatus { id: self.id.clone(), version, since: self.since, last_seen: now };
            self.state.nodes.coordinator_alive(status).await?;
            self.look_who_leads(now, said).await?;
        }
        let nodes = self.state.nodes.nodes(now).await?;
        self.load.sample(&nodes, now);
        let lag = self.state.audit.lag().await?;
        self.instruments.audit_lag.record(lag, &[]);
        self.instruments.addresses_scored.record(self.enforcement.addresses_scored() as u64, &[]);
        let dead_letters = self.state.audit.dead_letters().await?;
        let newest = self.state.policies.newest_version().await?;
        let following = nodes.iter().filter(|node| Roll::follows(node, now));
        let mut running: Vec<_> = following.map(|node| (node.id.as_str(), node.policy_version)).collect();
        running.push((self.id.as_str(), self.alarms.policy.version()));
        Ok(Readings {
            lost_nodes: Some(self.roll.lost(&nodes, now)),
            stale_policy: Some(self.roll.behind(&running, newest, now)),
            audit_lag: Some(lag),
            dead_letters: Some(dead_letters),
            ..Readings::of(&nodes, self.load.last_minute(now))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarms::{Condition, Receivers};
    use async_trait::async_trait;
    use picket_shared::audit::Outbox;
    use picket_shared::clock::ManualClock;
    use picket_shared::policy::{Environment, Policy};
    use picket_shared::state::{BlockView, LivePolicy, NodeStatus, Nodes};
    use picket_shared::telemetry::Metrics;

    const START: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    fn coordinator(id: &str, state: &State, clock: &Arc<ManualClock>) -> Heartbeat {
        let policy = LivePolicy::starting_with(Policy::default(), Environment::Production).unwrap();
        let (instruments, outbox) = (Instruments::new(&Metrics::start("test").unwrap()), Outbox::default());
        let enforcement = Enforcement {
            id: id.into(),
            policy: policy.clone(),
            blocks: state.blocks.clone(),
            leases: state.leases.clone(),
            view: BlockView::default(),
            outbox: outbox.clone(),
            clock: clock.clone(),
            trusted_proxies: Vec::new(),
            instruments: instruments.clone(),
            memory: Default::default(),
            crowded_at: crate::enforcement::CROWDED_AT,
            term: Default::default(),
        };
        let receivers = Receivers::new(clock.clone(), instruments.clone(), Default::default()).unwrap().into();
        let alarms = Alarms::new(id.into(), policy, clock.clone(), outbox, instruments.clone(), receivers);
        Heartbeat {
            id: id.into(),
            state: state.clone(),
            clock: clock.clone(),
            load: Arc::default(),
            enforcement: enforcement.into(),
            alarms: alarms.into(),
            instruments,
            since: clock.now(),
            predecessor: None,
            twin: None,
            leads: watch::Sender::new(None),
            roll: Roll::default(),
            failed: 0,
        }
    }

    fn term(coordinator: &Heartbeat) -> Option<u64> {
        leads(&coordinator.leads.borrow()).then(|| coordinator.enforcement.term())
    }

    #[tokio::test]
    async fn who_leads_again_after_another_one_begins_a_new_term() {
        let (state, clock) = (State::memory(), Arc::new(ManualClock::at(START)));
        let mut elder = coordinator("elder", &state, &clock);
        elder.beat().await;
        clock.advance(PERIOD);
        let mut younger = coordinator("younger", &state, &clock);
        younger.beat().await;
        elder.beat().await;
        assert_eq!((term(&elder), term(&younger)), (Some(1), None), "who leads on is in the same term");

        // The elder does not reach the state, and what it said is not believed any more.
        clock.advance(DEAD_AFTER);
        elder.leads.send_replace(Some(Instant::now()));
        younger.beat().await;
        assert_eq!((term(&elder), term(&younger)), (None, Some(2)));

        elder.beat().await;
        younger.beat().await;
        assert_eq!((term(&elder), term(&younger)), (Some(3), None));
    }

    #[tokio::test]
    async fn of_two_that_started_under_one_id_the_older_leads_until_it_has_ended() {
        let (state, clock) = (State::memory(), Arc::new(ManualClock::at(START)));
        let mut elder = coordinator("c1", &state, &clock);
        clock.advance(Duration::from_millis(1));
        let mut younger = coordinator("c1", &state, &clock);
        // Neither saw the other when it started, and the younger one is the first to be heard of.
        younger.beat().await;
        for _ in 0..5 {
            elder.beat().await;
            younger.beat().await;
            assert_eq!((term(&elder).is_some(), term(&younger)), (true, None));
            clock.advance(PERIOD);
        }
        clock.advance(DEAD_AFTER);
        younger.beat().await;
        assert!(term(&younger).is_some(), "the older one has ended");
    }

    #[tokio::test]
    async fn a_coordinator_that_was_started_again_leads_at_once() {
        let (state, clock) = (State::memory(), Arc::new(ManualClock::at(START)));
        let mut before = coordinator("c1", &state, &clock);
        before.beat().await;
        clock.advance(3 * PERIOD);
        let mut after = coordinator("c1", &state, &clock);
        after.predecessor = Some(before.since);
        after.beat().await;
        assert!(term(&after).is_some());
    }

    /// a state that nobody reaches
    struct Away;

    fn away<T>() -> Result<T, StateError> {
        Err(StateError("away".into()))
    }

    #[async_trait]
    impl Nodes for Away {
        async fn node_alive(&self, _: NodeStatus) -> Result<(), StateError> {
            away()
        }

        async fn coordinator_alive(&self, _: CoordinatorStatus) -> Result<(), StateError> {
            away()
        }

        async fn nodes(&self, _: Timestamp) -> Result<Vec<NodeStatus>, StateError> {
            away()
        }

        async fn coordinators(&self, _: Timestamp) -> Result<Vec<CoordinatorStatus>, StateError> {
            away()
        }
    }

    /// what the trail would have of alarms
    async fn recorded(coordinator: &Heartbeat) -> Vec<(String, Timestamp)> {
        let (log, outbox) = (State::memory().audit, coordinator.alarms.outbox.clone());
        outbox.deliver(log.clone(), coordinator.clock.clone(), std::future::ready(())).await;
        let entries = log.read(10, Duration::ZERO).await.unwrap();
        entries.into_iter().map(|(_, record)| (record.message, record.timestamp)).collect()
    }

    #[tokio::test]
    async fn who_led_when_the_state_went_away_tells_of_it_and_who_stood_by_does_not() {
        let (state, clock) = (State::memory(), Arc::new(ManualClock::at(START)));
        let mut elder = coordinator("elder", &state, &clock);
        clock.advance(PERIOD);
        let mut younger = coordinator("younger", &state, &clock);
        elder.beat().await;
        younger.beat().await;
        for one in [&mut elder, &mut younger] {
            one.state.nodes = Arc::new(Away);
        }
        for _ in 0..30 {
            clock.advance(PERIOD);
            elder.beat().await;
            younger.beat().await;
        }
        for one in [&elder, &younger] {
            let words = "the shared state did not answer 30 heartbeats in a row".to_owned();
            assert_eq!(one.alarms.in_force(), [(Condition::StateOutage, words)], "both know it");
        }
        let words = "the shared state did not answer 3 heartbeats in a row".to_owned();
        assert_eq!(recorded(&elder).await, [(words, START.plus(4 * PERIOD))]);
        assert_eq!(recorded(&younger).await, []);
    }
}
