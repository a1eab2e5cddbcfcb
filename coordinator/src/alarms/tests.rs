//! Alarms on their way to real HTTP servers: signed, repeated, gathered, bounded, and in nobody's way.

use super::receivers::{Patience, QUEUE_MAX};
use super::*;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode};
use picket_shared::clock::ManualClock;
use picket_shared::policy::{Environment, Notification, NotificationKind, Policy};
use picket_shared::secret::Secret;
use picket_shared::tasks::Tasks;
use picket_shared::telemetry::Metrics;
use serde_json::Value;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const START: Timestamp = Timestamp::from_millis(1_764_000_000_000);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// an HTTP server that answers with the statuses it is told, then with 200; or never
struct Ear {
    address: std::net::SocketAddr,
    heard: mpsc::UnboundedReceiver<Heard>,
}

#[derive(Clone)]
struct Manner {
    heard: mpsc::UnboundedSender<Heard>,
    answers: Arc<Mutex<Vec<u16>>>,
}

struct Heard {
    headers: HeaderMap,
    body: String,
}

/// the answer that never comes
const HANGS: u16 = 0;

impl Ear {
    async fn that_answers(tasks: &Tasks, answers: &[u16]) -> Self {
        let (sender, heard) = mpsc::unbounded_channel();
        let manner = Manner { heard: sender, answers: Arc::new(Mutex::new(answers.to_vec())) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/{*any}", post(hear)).with_state(manner);
        let stopped = tasks.stopped();
        tasks.spawn("ear", async move {
            tokio::select! {
                served = axum::serve(listener, router) => served.unwrap(),
                () = stopped => {}
            }
        });
        Ear { address, heard }
    }

    async fn hears(&mut self) -> Heard {
        tokio::time::timeout(Duration::from_secs(10), self.heard.recv()).await.expect("an alarm comes").unwrap()
    }

    fn receiver(&self, kind: NotificationKind, secret_file: Option<&std::path::Path>) -> Notification {
        Notification {
            kind,
            url: Secret::new(format!("http://{}/hook", self.address)),
            min_severity: Severity::High,
            secret_file: secret_file.map(|path| path.display().to_string()),
        }
    }
}

async fn hear(State(manner): State<Manner>, headers: HeaderMap, body: String) -> StatusCode {
    let answer = {
        let mut answers = manner.answers.lock();
        if answers.is_empty() { 200 } else { answers.remove(0) }
    };
    manner.heard.send(Heard { headers, body }).unwrap();
    if answer == HANGS {
        std::future::pending::<()>().await;
    }
    StatusCode::from_u16(answer).unwrap()
}

impl Heard {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

struct Tower {
    alarms: Arc<Alarms>,
    policy: LivePolicy,
    clock: Arc<ManualClock>,
    metrics: Metrics,
    tasks: Tasks,
}

impl Tower {
    fn watching_for(tasks: Tasks, notifications: Vec<Notification>) -> Self {
        let mut policy = Policy::default();
        policy.monitoring.notifications = notifications;
        let policy = LivePolicy::starting_with(policy, Environment::Production).unwrap();
        let (clock, metrics) = (Arc::new(ManualClock::at(START)), Metrics::start("test").unwrap());
        let instruments = Instruments::new(&metrics);
        let patience = Patience { first_pause: Duration::from_millis(1), attempts: 4, ..Patience::default() };
        let receivers = Arc::new(Receivers::new(clock.clone(), instruments.clone(), patience).unwrap());
        receivers.adopt(&policy.current().document.monitoring.notifications);
        tasks.spawn("alarms", receivers.clone().run(policy.clone(), tasks.stopped()));
        let alarms =
            Alarms::new("c1".into(), policy.clone(), clock.clone(), Outbox::default(), instruments, receivers).into();
        Tower { alarms, policy, clock, metrics, tasks }
    }

    /// the next version of the policy is in force
    fn changes_to(&self, notifications: &[Notification]) {
        let mut next = self.policy.as_version();
        next.version += 1;
        next.policy.monitoring.notifications = notifications.to_vec();
        self.policy.put_in_force(next);
    }

    fn rings(&self) {
        self.alarms.tell(self.alarms.of_condition(&change(), START));
    }

    fn sees(&self, reason: Reason, address: [u8; 4]) {
        self.alarms.notice([&AuditRecord::refusal(reason, address.into(), self.clock.now())]);
    }

    fn counted(&self, what: &str) -> u64 {
        let text = self.metrics.render().unwrap();
        let line = text.lines().find(|line| line.starts_with("picket_alarms_notifications") && line.contains(what));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    async fn counts_once_told(&self, ear: &mut Ear, told: u64) {
        self.knows_receivers(2).await;
        self.rings();
        ear.hears().await;
        self.counts("delivered", told).await;
    }

    async fn knows_receivers(&self, wanted: usize) {
        let known = async {
            while self.alarms.receivers.len() != wanted {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), known).await.expect("the policy's receivers are known");
    }

    async fn counts(&self, what: &str, wanted: u64) {
        let reached = async {
            while self.counted(what) < wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), reached).await.unwrap_or_else(|_| panic!("{what}: {wanted}"));
        assert_eq!(self.counted(what), wanted, "{what}");
    }
}

fn secret_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SECRET).unwrap();
    file
}

#[tokio::test]
async fn a_webhook_is_signed_and_repeated_under_one_id_until_it_arrives() {
    let (tasks, secret) = (Tasks::default(), secret_file());
    let mut ear = Ear::that_answers(&tasks, &[500, 429]).await;
    let tower = Tower::watching_for(tasks, vec![ear.receiver(NotificationKind::Webhook, Some(secret.path()))]);
    tower.sees(Reason::HostileContent, [192, 0, 2, 66]);
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let heard = ear.hears().await;
        let (id, time) = (heard.header("webhook-id"), heard.header("webhook-timestamp"));
        assert_eq!(time, "1764000000");
        // Verified by another implementation than the one that signs.
        let key = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
        let expected = hmac_sha256(&key, format!("{id}.{time}.{}", heard.body).as_bytes());
        assert_eq!(heard.header("webhook-signature"), format!("v1,{}", STANDARD.encode(expected)));
        let body = heard.json();
        assert_eq!((&body["type"], &body["data"]["severity"]), (&"alarm.noticed".into(), &"high".into()));
        assert_eq!(body["data"]["record"]["ip"], "192.0.2.66");
        ids.insert(id.to_owned());
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    tower.counts("retried", 2).await;
    tower.counts("delivered", 1).await;
    assert!(tower.alarms.receivers.failing().is_empty());
    assert!(tower.tasks.stop(Duration::from_secs(1)).await);
}

/// RFC 2104 by its definition
fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let pad = |with: u8| (0..64).map(|place| key.get(place).unwrap_or(&0) ^ with).collect::<Vec<u8>>();
    let inner = Sha256::digest([&pad(0x36)[..], message].concat());
    Sha256::digest([&pad(0x5c)[..], &inner].concat()).to_vec()
}

#[tokio::test]
async fn many_records_of_a_kind_are_one_alarm_and_then_a_number() {
    let tasks = Tasks::default();
    let mut ear = Ear::that_answers(&tasks, &[]).await;
    let tower = Tower::watching_for(tasks, vec![ear.receiver(NotificationKind::Slack, None)]);
    for last in 0..200 {
        tower.sees(Reason::AddressBlocked, [192, 0, 2, last]);
    }
    let first = ear.hears().await.json();
    assert_eq!(first["text"], "[high] this address is blocked: 192.0.2.0");
    assert_eq!(first["blocks"][0]["type"], "section");
    tower.clock.advance(digest::WINDOW);
    tower.alarms.look(&Readings::default(), true);
    assert_eq!(ear.hears().await.json()["text"], "[high] this address is blocked: 199 times, lastly 192.0.2.199");
    tower.sees(Reason::TokenInvalid, [192, 0, 2, 1]);
    tower.counts("delivered", 2).await;
}

#[tokio::test]
async fn a_threshold_raises_an_alarm_that_is_resolved_and_both_are_in_the_trail() {
    let tasks = Tasks::default();
    let mut ear = Ear::that_answers(&tasks, &[]).await;
    let tower = Tower::watching_for(tasks, vec![ear.receiver(NotificationKind::Webhook, None)]);
    let busy = Readings { connections: Some(5000), ..Readings::default() };
    tower.alarms.look(&busy, false);
    tower.alarms.look(&busy, true);
    let raised = ear.hears().await.json();
    assert_eq!((&raised["type"], &raised["data"]["kind"]), (&"alarm.raised".into(), &"highConnectionCount".into()));
    for seconds in [1, 31] {
        tower.clock.advance(Duration::from_secs(seconds));
        tower.alarms.look(&Readings { connections: Some(0), ..Readings::default() }, true);
    }
    let resolved = ear.hears().await;
    assert_eq!(resolved.json()["type"], "alarm.resolved");
    assert_eq!(resolved.header("webhook-signature"), "", "there is no secret to sign with");
    let state = picket_shared::state::State::memory();
    let outbox = tower.alarms.outbox.clone();
    outbox.deliver(state.audit.clone(), tower.clock.clone(), std::future::ready(())).await;
    let records = state.audit.read(10, Duration::ZERO).await.unwrap();
    let kinds: Vec<_> = records.iter().map(|(_, record)| record.event_type).collect();
    assert_eq!(kinds, [EventType::AlarmRaised, EventType::AlarmResolved]);
    tower.alarms.notice(records.iter().map(|(_, record)| record));
    tower.counts("delivered", 2).await;
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_nobody_and_its_queue_is_bounded_and_counted() {
    let tasks = Tasks::default();
    let mut hanging = Ear::that_answers(&tasks, &[HANGS]).await;
    let mut other = Ear::that_answers(&tasks, &[]).await;
    let receivers = [&hanging, &other].map(|ear| ear.receiver(NotificationKind::Webhook, None)).into_iter().collect();
    let tower = Tower::watching_for(tasks, receivers);
    let alarm = || tower.alarms.of_condition(&change(), START);
    tower.alarms.tell(alarm());
    hanging.hears().await;
    let began = tokio::time::Instant::now();
    for _ in 0..QUEUE_MAX + 10 {
        tower.alarms.tell(alarm());
        other.hears().await;
    }
    other.hears().await;
    println!("{} alarms past a receiver that hangs in {:?}", QUEUE_MAX + 10, began.elapsed());
    tower.counts("delivered", QUEUE_MAX as u64 + 11).await;
    tower.counts("dropped", 11).await;
}

#[tokio::test]
async fn what_is_given_up_is_counted_and_told_with_the_next() {
    let tasks = Tasks::default();
    let mut ear = Ear::that_answers(&tasks, &[500, 503, 302, 404, 410]).await;
    let tower = Tower::watching_for(tasks, vec![ear.receiver(NotificationKind::Webhook, None)]);
    tower.alarms.tell(tower.alarms.of_condition(&change(), START));
    tower.counts("given_up", 1).await;
    let failing = tower.alarms.receivers.failing();
    assert_eq!(failing, ["monitoring.notifications[0] (127.0.0.1): answered 404 Not Found; 0 alarms wait"]);
    tower.alarms.tell(tower.alarms.of_condition(&change(), START));
    tower.counts("given_up", 2).await;
    tower.alarms.tell(tower.alarms.of_condition(&change(), START));
    for _ in 0..5 {
        ear.hears().await;
    }
    assert_eq!(ear.hears().await.json()["data"]["dropped"], 2);
}

#[tokio::test]
async fn what_is_on_its_way_is_not_sent_again_for_a_change_of_the_policy() {
    let tasks = Tasks::default();
    let mut hanging = Ear::that_answers(&tasks, &[HANGS]).await;
    let mut other = Ear::that_answers(&tasks, &[]).await;
    let [slow, quick] = [&hanging, &other].map(|ear| ear.receiver(NotificationKind::Webhook, None));
    let tower = Tower::watching_for(tasks, vec![slow.clone()]);
    tower.rings();
    hanging.hears().await;
    for told in 1..=5 {
        tower.changes_to(&[quick.clone(), slow.clone()]);
        tower.counts_once_told(&mut other, told).await;
        tower.changes_to(std::slice::from_ref(&slow));
        tower.knows_receivers(1).await;
    }
    assert!(hanging.heard.try_recv().is_err(), "it is asked once");
    tower.counts("dropped", 0).await;
}

#[tokio::test]
async fn a_change_of_the_policy_does_not_begin_the_attempts_anew() {
    let tasks = Tasks::default();
    let mut ear = Ear::that_answers(&tasks, &[500, 500, 500, 500]).await;
    let mut receivers = vec![ear.receiver(NotificationKind::Webhook, None)];
    let tower = Tower::watching_for(tasks, receivers.clone());
    tower.rings();
    for _ in 0..4 {
        ear.hears().await;
        receivers.push(Notification { min_severity: Severity::Critical, ..receivers[0].clone() });
        tower.changes_to(&receivers);
    }
    tower.counts("given_up", 1).await;
    tower.counts("retried", 3).await;
}

#[tokio::test]
async fn what_waited_for_a_receiver_that_is_taken_away_is_dropped_and_what_waited_for_one_that_changes_is_not() {
    let tasks = Tasks::default();
    let (mut leaving, mut staying) =
        (Ear::that_answers(&tasks, &[HANGS]).await, Ear::that_answers(&tasks, &[HANGS]).await);
    let [gone, changed] = [&leaving, &staying].map(|ear| ear.receiver(NotificationKind::Webhook, None));
    let tower = Tower::watching_for(tasks, vec![gone, changed.clone()]);
    for _ in 0..3 {
        tower.rings();
    }
    leaving.hears().await;
    let first = staying.hears().await.json();

    tower.changes_to(&[Notification { min_severity: Severity::Medium, ..changed }]);

    tower.counts("dropped", 3).await;
    tower.counts("delivered", 3).await;
    assert_eq!(staying.hears().await.json()["data"]["summary"], first["data"]["summary"]);
}

#[tokio::test]
async fn r15_what_goes_wrong_is_told_without_the_url_and_without_the_secret() {
    let (tasks, secret) = (Tasks::default(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(secret.path(), "canary").unwrap();
    let ear = Ear::that_answers(&tasks, &[]).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut unreachable = ear.receiver(NotificationKind::Slack, None);
    unreachable.url = Secret::new(format!("http://{closed}/canary"));
    let tower =
        Tower::watching_for(tasks, vec![unreachable, ear.receiver(NotificationKind::Webhook, Some(secret.path()))]);
    tower.alarms.tell(tower.alarms.of_condition(&change(), START));
    tower.counts("given_up", 2).await;
    let failing = tower.alarms.receivers.failing().join("\n");
    println!("{failing}");
    assert!(!failing.contains("canary") && failing.contains("not reached") && failing.contains("secretFile"));
}

fn change() -> Change {
    Change {
        condition: Condition::ErrorRate,
        state: AlarmState::Raised,
        summary: "too many".into(),
        value: 1.0,
        threshold: 0.5,
        since: START,
    }
}

#[test]
fn kinds_have_names_of_their_own() {
    let conditions = Condition::ALL.map(Condition::as_str);
    assert!(EventType::ALL.iter().all(|kind| !conditions.contains(&kind.as_str())));
}
