//! Ingest with a store that fails, a log that repeats itself, and audit logging switched off.

use super::*;
use crate::alarms::Receivers;
use crate::store::{Filter, Span};
use crate::tail::Tail;
use parking_lot::Mutex;
use picket_shared::audit::{EventType, Outbox};
use picket_shared::clock::{ManualClock, Timestamp};
use picket_shared::policy::{Environment, Policy};
use picket_shared::reason::Reason;
use picket_shared::state::{BlockScope, BlockView, LeaseKey, State};
use picket_shared::telemetry::Metrics;

const START: Timestamp = Timestamp::from_millis(1_764_000_000_000);

struct Mill {
    ingest: Ingest,
    state: State,
    folder: tempfile::TempDir,
}

impl Mill {
    async fn with(change: impl FnOnce(&mut Policy)) -> Self {
        Self::on(State::memory(), tempfile::tempdir().unwrap(), change).await
    }

    async fn on(state: State, folder: tempfile::TempDir, change: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = Policy::default();
        change(&mut policy);
        let policy = LivePolicy::starting_with(policy, Environment::Production).unwrap();
        let clock = Arc::new(ManualClock::at(START));
        let instruments = Instruments::new(&Metrics::start("test").unwrap());
        let outbox = Outbox::default();
        let receivers = Receivers::new(clock.clone(), instruments.clone(), Default::default()).unwrap();
        let alarms = Alarms::new(
            "c1".into(),
            policy.clone(),
            clock.clone(),
            outbox.clone(),
            instruments.clone(),
            receivers.into(),
        );
        let behaviour = Behaviour {
            id: "c1".into(),
            policy: policy.clone(),
            outbox: outbox.clone(),
            clock: clock.clone(),
            watch: Default::default(),
        };
        let enforcement = Enforcement {
            id: "c1".into(),
            policy: policy.clone(),
            blocks: state.blocks.clone(),
            leases: state.leases.clone(),
            view: BlockView::default(),
            outbox,
            clock: clock.clone(),
            trusted_proxies: Vec::new(),
            instruments: instruments.clone(),
            memory: Mutex::default(),
            crowded_at: usize::MAX,
            term: Default::default(),
        };
        let store = AuditStore::open(&format!("sqlite:{}", folder.path().join("audit.db").display())).await.unwrap();
        let log = state.audit.clone();
        let enforcement = Arc::new(enforcement);
        let recollection = Recollection {
            store: store.clone(),
            tail: Arc::new(Tail::new(store.clone())),
            enforcement: enforcement.clone(),
            policy: policy.clone(),
            clock: clock.clone(),
        };
        let leads = watch::Sender::new(Some(Instant::now() + Duration::from_secs(3600))).subscribe();
        let ingest = Ingest {
            log,
            store,
            enforcement,
            alarms: Arc::new(alarms),
            behaviour,
            policy,
            instruments,
            recollection,
            leads,
            progress: Progress::default(),
        };
        Mill { ingest, state, folder }
    }

    async fn arrives(&self, records: &[AuditRecord]) {
        self.state.audit.append(records).await.unwrap();
    }

    async fn stored(&self) -> usize {
        self.ingest.store.page(&Filter::default(), None, 1000).await.unwrap().records.len()
    }

    fn score(&self) -> f64 {
        self.ingest.enforcement.standing(mallory()).score
    }
}

fn mallory() -> std::net::IpAddr {
    "192.0.2.66".parse().unwrap()
}

fn refusal(reason: Reason) -> AuditRecord {
    AuditRecord::refusal(reason, mallory(), START)
}

#[tokio::test]
async fn a_record_that_is_delivered_twice_is_stored_and_scored_once() {
    let mut mill = Mill::with(|_| {}).await;
    let record = refusal(Reason::TokenInvalid);
    mill.arrives(&[record.clone(), record.clone()]).await;
    mill.ingest.step().await.unwrap();
    mill.arrives(&[record]).await;
    mill.ingest.step().await.unwrap();
    assert_eq!((mill.stored().await, mill.score()), (1, 1.0));
    assert_eq!(mill.state.audit.lag().await.unwrap(), 0);
}

/// as if later entries had been read before: what a dead coordinator left comes late
fn reads_late(mill: &mut Mill) {
    mill.ingest.progress.scored = Some(EntryId { millis: u64::MAX, sequence: 0 });
}

#[tokio::test]
async fn x18_what_a_dead_coordinator_left_is_scored_once_though_later_records_were() {
    let mut mill = Mill::with(|_| {}).await;
    reads_late(&mut mill);
    let late = refusal(Reason::TokenInvalid);
    mill.arrives(std::slice::from_ref(&late)).await;
    mill.ingest.step().await.unwrap();
    mill.arrives(&[late]).await;
    mill.ingest.step().await.unwrap();
    println!("x18: {} stored, score {} after two deliveries", mill.stored().await, mill.score());
    assert_eq!((mill.stored().await, mill.score()), (1, 1.0));
}

#[tokio::test]
async fn x20_who_stood_still_leaves_what_it_read_to_the_next_leader() {
    let mut mill = Mill::with(|_| {}).await;
    mill.arrives(&[refusal(Reason::TokenInvalid)]).await;
    mill.ingest.leads = watch::Sender::new(Some(Instant::now())).subscribe();
    assert!(matches!(mill.ingest.step().await, Err(IngestError::Superseded)));
    println!("x20: a leader of yesterday stored {} and scored {}", mill.stored().await, mill.score());
    assert_eq!((mill.stored().await, mill.score(), mill.state.audit.lag().await.unwrap()), (0, 0.0, 1));
}

#[tokio::test]
async fn what_is_not_stored_and_is_read_again_is_not_scored_again() {
    let mut mill = Mill::with(|policy| policy.security.enable_audit_logging = false).await;
    mill.arrives(&[refusal(Reason::Malformed)]).await;
    mill.ingest.step().await.unwrap();
    let once = mill.score();
    assert!(once > 0.0);
    reads_late(&mut mill);
    mill.arrives(&[refusal(Reason::Malformed)]).await;
    mill.ingest.step().await.unwrap();
    assert_eq!((mill.stored().await, mill.score()), (0, once));
}

#[tokio::test]
async fn while_the_store_fails_nothing_is_acknowledged_or_lost() {
    let mut mill = Mill::with(|_| {}).await;
    mill.arrives(&[refusal(Reason::TokenInvalid)]).await;
    mill.ingest.store.close().await;
    assert!(mill.ingest.step().await.is_err());
    assert_eq!(mill.state.audit.lag().await.unwrap(), 1);
    let Mill { ingest, state, folder } = mill;
    drop(ingest);
    let mut mill = Mill::on(state, folder, |_| {}).await;
    mill.ingest.step().await.unwrap();
    assert_eq!((mill.stored().await, mill.state.audit.lag().await.unwrap()), (1, 0));
}

#[tokio::test]
async fn what_was_read_ahead_of_a_store_that_fails_is_read_again() {
    let mut mill = Mill::with(|_| {}).await;
    let records: Vec<_> = (0..READ_MAX + BATCH_MAX + 10).map(|_| refusal(Reason::AddressBlocked)).collect();
    mill.arrives(&records).await;
    assert_eq!(mill.ingest.step().await.unwrap(), READ_MAX);
    assert_eq!(mill.ingest.progress.ahead.len(), BATCH_MAX, "the next batch is there");
    assert_eq!(mill.state.audit.lag().await.unwrap() as usize, records.len(), "and nothing is acknowledged yet");
    mill.ingest.store.close().await;
    assert!(mill.ingest.step().await.is_err());
    let Mill { ingest, state, folder } = mill;
    drop(ingest);
    let mut mill = Mill::on(state, folder, |_| {}).await;
    while mill.ingest.step().await.unwrap() > 0 {}
    let span = Span { since: Timestamp::default(), until: START.plus(Duration::from_secs(60)) };
    let stored = mill.ingest.store.summary(span, Duration::from_secs(60), 1).await.unwrap().total;
    assert_eq!((stored as usize, mill.state.audit.lag().await.unwrap()), (records.len(), 0));
}

#[tokio::test]
async fn without_audit_logging_low_records_are_scored_and_administration_is_stored() {
    let mut mill = Mill::with(|policy| policy.security.enable_audit_logging = false).await;
    let login = AuditRecord::new(EventType::AdminLogin, Severity::Low, mallory(), "login", START);
    mill.arrives(&[refusal(Reason::Malformed), refusal(Reason::TokenInvalid), login]).await;
    mill.ingest.step().await.unwrap();
    assert_eq!((mill.stored().await, mill.score()), (2, 2.0));
}

#[tokio::test]
async fn scores_survive_a_restart() {
    let mut mill = Mill::with(|_| {}).await;
    mill.arrives(&[refusal(Reason::TokenInvalid), refusal(Reason::TokenInvalid), refusal(Reason::HostileContent)])
        .await;
    mill.ingest.step().await.unwrap();
    let Mill { ingest, state, folder } = mill;
    ingest.store.close().await;
    drop(ingest);
    let mill = Mill::on(state, folder, |_| {}).await;
    assert_eq!(mill.score(), 0.0);
    mill.ingest.recollection.begin_anew().await;
    assert_eq!(mill.score(), 3.0);
}

#[tokio::test]
async fn who_leads_from_the_first_moment_knows_what_the_trail_says() {
    let mut mill = Mill::with(|_| {}).await;
    mill.ingest.store.insert(&[&refusal(Reason::TokenInvalid)]).await.unwrap();
    mill.ingest.step_or_stand_by().await;
    assert_eq!(mill.score(), 1.0);
    mill.ingest.enforcement.begin_term().await.unwrap();
    mill.ingest.enforcement.replay(&refusal(Reason::TokenInvalid));
    mill.ingest.step_or_stand_by().await;
    assert_eq!(mill.score(), 1.0, "in another term it begins anew");
}

#[tokio::test]
async fn x18_who_begins_to_lead_knows_what_the_trail_says_and_no_more() {
    let mut mill = Mill::with(|policy| policy.security.suspicious_activity_threshold = 3).await;
    let leadership = watch::Sender::new(None);
    mill.ingest.leads = leadership.subscribe();
    // What another coordinator stored and did before this one leads; what this one thinks is old.
    let yesterday = START.minus(Duration::from_secs(86_400));
    let blocked = AuditRecord::new(EventType::IpBlocked, Severity::High, mallory(), "x", yesterday)
        .with("automatic", true)
        .with("network", "192.0.2.66");
    let before: Vec<_> = [blocked].into_iter().chain((0..2).map(|_| refusal(Reason::TokenInvalid))).collect();
    mill.ingest.store.insert(&before.iter().collect::<Vec<_>>()).await.unwrap();
    for _ in 0..20 {
        mill.ingest.enforcement.replay(&refusal(Reason::OriginNotAllowed));
    }
    leadership.send_replace(Some(Instant::now() + Duration::from_secs(3600)));
    mill.ingest.stand_by().await.unwrap();
    assert_eq!((mill.score(), mill.ingest.enforcement.relapses(mallory())), (2.0, 1));
    mill.arrives(&[refusal(Reason::TokenInvalid)]).await;
    mill.ingest.step().await.unwrap();
    assert_eq!(mill.state.blocks.load(START).await.unwrap().blocks.len(), 1, "the third point makes the block");
    assert_eq!(mill.ingest.enforcement.relapses(mallory()), 2);
}

#[tokio::test]
async fn h24_who_begins_to_lead_knows_who_came_in_long_ago_and_is_connected_still() {
    let mut mill = Mill::with(|policy| policy.security.suspicious_activity_threshold = 3).await;
    let morning = START.minus(Duration::from_secs(10 * 3600));
    for user in ["alice", "bob", "carol"] {
        let came = AuditRecord::new(EventType::AuthenticationSuccess, Severity::Low, mallory(), "in", morning);
        mill.ingest.store.insert(&[&AuditRecord { user_id: Some(user.into()), ..came }]).await.unwrap();
        mill.state.leases.adopt(&[LeaseKey::User(user.into())]);
    }
    mill.ingest.recollection.begin_anew().await;
    mill.arrives(&[(); 3].map(|()| refusal(Reason::TokenInvalid))).await;
    mill.ingest.step().await.unwrap();
    let blocks = mill.state.blocks.load(START).await.unwrap().blocks;
    assert_eq!(blocks.iter().map(|block| block.scope).collect::<Vec<_>>(), [BlockScope::Anonymous]);
}

#[tokio::test]
async fn who_stands_by_knows_what_the_leader_stores() {
    let mut mill = Mill::with(|_| {}).await;
    mill.ingest.leads = watch::Sender::new(None).subscribe();
    let (store, enforcement) = (mill.ingest.store.clone(), mill.ingest.enforcement.clone());
    let leader = async {
        while enforcement.standing(mallory()).score < 2.0 {
            store.insert(&[&refusal(Reason::TokenInvalid)]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let tail = mill.ingest.recollection.tail.clone();
    tokio::select! {
        outcome = mill.ingest.stand_by() => panic!("nobody said that it leads: {outcome:?}"),
        () = tail.run(std::future::pending()) => panic!("the tail ended"),
        outcome = tokio::time::timeout(Duration::from_secs(20), leader) => outcome.unwrap(),
    }
}

/// an audit log that does not take acknowledgements
struct Deaf(Arc<dyn AuditLog>);

#[async_trait::async_trait]
impl AuditLog for Deaf {
    async fn append(&self, records: &[AuditRecord]) -> Result<(), StateError> {
        self.0.append(records).await
    }

    async fn read(&self, max: usize, wait: Duration) -> Result<Vec<(EntryId, AuditRecord)>, StateError> {
        self.0.read(max, wait).await
    }

    async fn read_on(&self, last: EntryId, max: usize) -> Result<Vec<(EntryId, AuditRecord)>, StateError> {
        self.0.read_on(last, max).await
    }

    async fn acknowledge(&self, _: &[EntryId]) -> Result<(), StateError> {
        Err(StateError("deaf".to_owned()))
    }

    async fn lag(&self) -> Result<u64, StateError> {
        self.0.lag().await
    }

    async fn dead_letters(&self) -> Result<u64, StateError> {
        self.0.dead_letters().await
    }
}

#[tokio::test]
async fn what_could_not_be_acknowledged_is_scored_once_and_acknowledged_later() {
    let mut mill = Mill::with(|_| {}).await;
    let records: Vec<_> = (0..READ_MAX + 3).map(|_| refusal(Reason::AddressBlocked)).collect();
    mill.arrives(&records).await;
    mill.arrives(&[refusal(Reason::TokenInvalid)]).await;
    let log = std::mem::replace(&mut mill.ingest.log, Arc::new(Deaf(mill.state.audit.clone())));
    mill.ingest.step().await.unwrap();
    for _ in 0..3 {
        assert!(mill.ingest.step().await.is_err());
    }
    mill.ingest.log = log;
    while mill.ingest.step().await.unwrap() > 0 {}
    assert_eq!((mill.score(), mill.state.audit.lag().await.unwrap()), (1.0, 0));
    let total = mill.ingest.store.total(&Filter::default()).await.unwrap();
    assert_eq!(total.count as usize, records.len() + 1);
}

#[tokio::test]
async fn what_is_in_the_log_at_the_stop_is_stored() {
    let mill = Mill::with(|_| {}).await;
    let records: Vec<_> = (0..1500).map(|_| refusal(Reason::AddressBlocked)).collect();
    mill.arrives(&records).await;
    let Mill { ingest, state, folder } = mill;
    ingest.run(std::future::ready(())).await;
    let mill = Mill::on(state, folder, |_| {}).await;
    assert_eq!(mill.ingest.store.total(&Filter::default()).await.unwrap().count, 1500);
    assert_eq!(mill.state.audit.lag().await.unwrap(), 0);
}
