//! The way of an alarm to its receivers: a bounded queue for each, so that one that hangs delays nobody; sent again with growing
//! pauses, given up in the end. What is dropped and given up is counted exactly.
//!
//! URLs come from the policy: they are only posted to, redirects are not followed, and nothing of an answer but its status is read.

use futures_util::future::join_all;
use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use parking_lot::Mutex;
use reqwest::Client;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

use picket_shared::clock::Clock;
use picket_shared::policy::{Notification, NotificationKind};
use picket_shared::state::LivePolicy;

use super::signature::{SecretError, Secrets};
use super::{Alarm, message};
use crate::metrics::Instruments;

/// alarms that wait for one receiver; beyond it the oldest goes that is not on its way
pub(super) const QUEUE_MAX: usize = 256;
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// how often and how long it is tried
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) attempts: u32,
    /// the pause after the first failure; each is twice as long, with some chance
    pub(crate) first_pause: Duration,
    pub(crate) longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { attempts: 10, first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(120) }
    }
}

/// what became of an attempt to tell
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    Retried,
    GivenUp,
    Dropped,
}

impl Outcome {
    pub(crate) const ALL: [Outcome; 4] = [Outcome::Delivered, Outcome::Retried, Outcome::GivenUp, Outcome::Dropped];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Outcome::Delivered => "delivered",
            Outcome::Retried => "retried",
            Outcome::GivenUp => "given_up",
            Outcome::Dropped => "dropped",
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("not reached: {0}")]
    Unreached(String),
    #[error("answered {status}")]
    Refused { status: StatusCode, retry_after: Option<Duration> },
}

pub(crate) struct Receivers {
    client: Client,
    clock: Arc<dyn Clock>,
    instruments: Instruments,
    patience: Patience,
    queues: Mutex<Vec<Queue>>,
}

struct Queue {
    notification: Notification,
    waiting: VecDeque<Arc<Alarm>>,
    /// since the last one that arrived
    dropped: u64,
    /// what went wrong with the last attempt
    failing: Option<String>,
    wake: Arc<Notify>,
}

impl Queue {
    fn of(notification: Notification) -> Self {
        Queue { notification, waiting: VecDeque::new(), dropped: 0, failing: None, wake: Arc::default() }
    }
}

impl Receivers {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        instruments: Instruments,
        patience: Patience,
    ) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .timeout(ANSWER_WAIT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("picket/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Receivers { client, clock, instruments, patience, queues: Mutex::default() })
    }

    /// puts an alarm into the queues of those whom it concerns, and returns at once
    pub(super) fn tell(&self, alarm: &Arc<Alarm>) {
        let mut queues = self.queues.lock();
        for queue in queues.iter_mut().filter(|queue| queue.notification.min_severity <= alarm.severity) {
            if queue.waiting.len() >= QUEUE_MAX {
                queue.waiting.remove(1);
                queue.dropped += 1;
                self.count(Outcome::Dropped);
            }
            queue.waiting.push_back(alarm.clone());
            queue.wake.notify_one();
        }
    }

    /// sends until `stop` resolves; what waits then is lost
    pub(crate) async fn run(self: Arc<Self>, policy: LivePolicy, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut versions = policy.changes();
        loop {
            versions.mark_unchanged();
            let places = self.adopt(&policy.current().document.monitoring.notifications);
            let sending = async {
                join_all((0..places).map(|place| self.serve(place))).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = sending => {}
                changed = versions.changed() => if changed.is_err() { return },
                () = &mut stop => return,
            }
        }
    }

    /// takes up the policy's receivers; one that stays keeps what waits for it
    pub(super) fn adopt(&self, notifications: &[Notification]) -> usize {
        let mut queues = self.queues.lock();
        let mut old = std::mem::take(&mut *queues);
        for notification in notifications {
            let known = old.iter().position(|queue| queue.notification == *notification);
            queues.push(known.map_or_else(|| Queue::of(notification.clone()), |index| old.swap_remove(index)));
        }
        queues.len()
    }

    /// receivers that do not take what they are sent, each in a sentence
    pub(crate) fn failing(&self) -> Vec<String> {
        let queues = self.queues.lock();
        let failing = queues.iter().enumerate().filter_map(|(index, queue)| {
            let error = queue.failing.as_ref()?;
            let (host, waiting) = (queue.notification.host(), queue.waiting.len());
            Some(format!("monitoring.notifications[{index}] ({host}): {error}; {waiting} alarms wait"))
        });
        failing.collect()
    }

    async fn serve(&self, place: usize) {
        let Some((notification, wake)) = self.receiver(place) else { return };
        if let Err(error) = secrets(&notification).await {
            self.failed(place, &error.to_string());
        }
        let mut attempt = 0;
        loop {
            let Some((alarm, dropped)) = self.first(place) else {
                wake.notified().await;
                continue;
            };
            match self.send(&notification, &alarm, dropped).await {
                Ok(()) => {
                    self.done(place, Some(dropped));
                    self.count(Outcome::Delivered);
                    attempt = 0;
                }
                Err(error) => {
                    attempt += 1;
                    self.failed(place, &error.to_string());
                    tracing::warn!(host = notification.host(), %error, attempt, "alarm not delivered");
                    if attempt < self.patience.attempts && !is_final(&error) {
                        self.count(Outcome::Retried);
                        tokio::time::sleep(self.pause(attempt, &error)).await;
                    } else {
                        self.done(place, None);
                        self.count(Outcome::GivenUp);
                        attempt = 0;
                    }
                }
            }
        }
    }

    async fn send(&self, notification: &Notification, alarm: &Alarm, dropped: u64) -> Result<(), SendError> {
        let body = match notification.kind {
            NotificationKind::Webhook => message::webhook(alarm, dropped),
            NotificationKind::Slack => message::slack(alarm, dropped),
        };
        let body = body.to_string();
        let mut request = self.client.post(notification.url.expose()).header(CONTENT_TYPE, "application/json");
        if notification.kind == NotificationKind::Webhook {
            let seconds = self.clock.now().as_millis() / 1000;
            request = request.header("webhook-id", &alarm.id).header("webhook-timestamp", seconds);
            if let Some(secrets) = secrets(notification).await? {
                request = request.header("webhook-signature", secrets.sign(&alarm.id, seconds, &body));
            }
        }
        // The URL is a secret, and would be part of the error.
        let unreached = |error: reqwest::Error| SendError::Unreached(cause(&error.without_url()));
        let answer = request.body(body).send().await.map_err(unreached)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Err(SendError::Refused { status, retry_after: retry_after.map(Duration::from_secs) })
    }

    /// twice as long after each failure, from a half to one and a half times, and at least what the receiver asks for
    fn pause(&self, attempt: u32, error: &SendError) -> Duration {
        let Patience { first_pause, longest_pause, .. } = self.patience;
        let pause = first_pause.saturating_mul(1 << (attempt - 1).min(16)).min(longest_pause);
        let [chance] = picket_shared::random::bytes::<1>();
        let pause = pause / 2 + pause.mul_f64(f64::from(chance) / f64::from(u8::MAX));
        match error {
            SendError::Refused { retry_after: Some(wait), .. } => pause.max((*wait).min(longest_pause)),
            _ => pause,
        }
    }

    fn receiver(&self, place: usize) -> Option<(Notification, Arc<Notify>)> {
        self.queues.lock().get(place).map(|queue| (queue.notification.clone(), queue.wake.clone()))
    }

    fn first(&self, place: usize) -> Option<(Arc<Alarm>, u64)> {
        let queues = self.queues.lock();
        let queue = queues.get(place)?;
        Some((queue.waiting.front()?.clone(), queue.dropped))
    }

    /// the first alarm arrived, with `told` drops before it; or is given up, which is a drop to its receiver
    fn done(&self, place: usize, told: Option<u64>) {
        let mut queues = self.queues.lock();
        let Some(queue) = queues.get_mut(place) else { return };
        queue.waiting.pop_front();
        match told {
            Some(told) => {
                queue.failing = None;
                queue.dropped -= told;
            }
            None => queue.dropped += 1,
        }
    }

    fn failed(&self, place: usize, error: &str) {
        if let Some(queue) = self.queues.lock().get_mut(place) {
            queue.failing = Some(error.to_owned());
        }
    }

    fn count(&self, outcome: Outcome) {
        self.instruments.count_notifications(outcome, 1);
    }
}

async fn secrets(notification: &Notification) -> Result<Option<Secrets>, SecretError> {
    match &notification.secret_file {
        Some(path) => Secrets::read(Path::new(path)).await.map(Some),
        None => Ok(None),
    }
}

/// the receiver said that it wants nothing any more
fn is_final(error: &SendError) -> bool {
    matches!(error, SendError::Refused { status: StatusCode::GONE, .. })
}

/// the innermost cause says most
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_timeout() { format!("no answer within {} s", ANSWER_WAIT.as_secs()) } else { cause.to_string() }
}
