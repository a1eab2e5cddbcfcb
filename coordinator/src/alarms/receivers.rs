//! The way of an alarm to its receivers: a bounded queue for each, so that one that hangs delays nobody; sent again with growing
//! pauses, given up in the end. What is dropped and given up is counted exactly.
//!
//! URLs come from the policy: they are only posted to, redirects are not followed, and nothing of an answer but its status is read.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
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
    /// in the order of the policy
    queues: Mutex<Vec<Arc<Queue>>>,
}

/// what waits for one receiver, as long as the policy names it as it is
struct Queue {
    notification: Notification,
    pending: Mutex<Pending>,
    wake: Notify,
    /// the policy does not name it any more
    gone: Notify,
}

#[derive(Default)]
struct Pending {
    waiting: VecDeque<Arc<Alarm>>,
    /// failures in a row to deliver the first one
    attempt: u32,
    /// since the last one that arrived
    dropped: u64,
    /// what went wrong with the last attempt
    failing: Option<String>,
    /// somebody sends what waits
    is_served: bool,
}

impl Queue {
    fn of(notification: Notification, pending: Pending) -> Arc<Self> {
        Arc::new(Queue { notification, pending: Mutex::new(pending), wake: Notify::new(), gone: Notify::new() })
    }

    /// whether the same alarms go to the same place, perhaps signed otherwise, or fewer of them
    fn leads_to(&self, other: &Notification) -> bool {
        self.notification.kind == other.kind && self.notification.url == other.url
    }

    fn first(&self) -> Option<(Arc<Alarm>, u64)> {
        let pending = self.pending.lock();
        Some((pending.waiting.front()?.clone(), pending.dropped))
    }

    /// the first alarm arrived, with `told` drops before it; or is given up, which is a drop to its receiver
    fn done(&self, told: Option<u64>) {
        let mut pending = self.pending.lock();
        pending.waiting.pop_front();
        pending.attempt = 0;
        match told {
            Some(told) => {
                pending.failing = None;
                pending.dropped = pending.dropped.saturating_sub(told);
            }
            None => pending.dropped += 1,
        }
    }

    /// answers how often in a row it has failed now
    fn failed(&self, error: &SendError) -> u32 {
        let mut pending = self.pending.lock();
        pending.failing = Some(error.to_string());
        pending.attempt += 1;
        pending.attempt
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
        let queues = self.queues.lock();
        for queue in queues.iter().filter(|queue| queue.notification.min_severity <= alarm.severity) {
            let mut pending = queue.pending.lock();
            if pending.waiting.len() >= QUEUE_MAX {
                pending.waiting.remove(1);
                pending.dropped += 1;
                self.count(Outcome::Dropped, 1);
            }
            pending.waiting.push_back(alarm.clone());
            queue.wake.notify_one();
        }
    }

    /// sends until `stop` resolves; what waits then is lost. A receiver that stays as it is notices nothing of a new policy
    pub(crate) async fn run(self: Arc<Self>, policy: LivePolicy, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut versions = policy.changes();
        let mut sending = FuturesUnordered::new();
        loop {
            versions.mark_unchanged();
            self.adopt(&policy.current().document.monitoring.notifications);
            sending.extend(self.unserved().into_iter().map(|queue| self.serve(queue)));
            loop {
                tokio::select! {
                    Some(()) = sending.next() => {}
                    changed = versions.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    () = &mut stop => return,
                }
            }
        }
    }

    /// Takes up the policy's receivers; one that stays keeps what waits for it, and so does one of the same URL. What waits for one
    /// that is taken away is dropped
    pub(super) fn adopt(&self, notifications: &[Notification]) {
        let mut queues = self.queues.lock();
        let mut old = std::mem::take(&mut *queues);
        let mut take = |is_meant: &dyn Fn(&Queue) -> bool| {
            old.iter().position(|queue| is_meant(queue)).map(|index| old.swap_remove(index))
        };
        let mut adopted: Vec<_> =
            notifications.iter().map(|wanted| take(&|queue| queue.notification == *wanted)).collect();
        for (place, notification) in adopted.iter_mut().zip(notifications).filter(|(place, _)| place.is_none()) {
            let pending = take(&|queue| queue.leads_to(notification)).map(|queue| {
                queue.gone.notify_one();
                Pending { attempt: 0, is_served: false, ..std::mem::take(&mut *queue.pending.lock()) }
            });
            *place = Some(Queue::of(notification.clone(), pending.unwrap_or_default()));
        }
        queues.extend(adopted.into_iter().flatten());
        old.iter().for_each(|queue| self.take_leave(queue));
    }

    fn take_leave(&self, queue: &Queue) {
        let waiting = std::mem::take(&mut queue.pending.lock().waiting).len();
        queue.gone.notify_one();
        if waiting > 0 {
            tracing::warn!(
                host = queue.notification.host(),
                waiting,
                "receiver of alarms taken away, what waited is not told"
            );
            self.count(Outcome::Dropped, waiting as u64);
        }
    }

    fn unserved(&self) -> Vec<Arc<Queue>> {
        let is_unserved = |queue: &&Arc<Queue>| !std::mem::replace(&mut queue.pending.lock().is_served, true);
        self.queues.lock().iter().filter(is_unserved).cloned().collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queues.lock().len()
    }

    /// receivers that do not take what they are sent, each in a sentence
    pub(crate) fn failing(&self) -> Vec<String> {
        let queues = self.queues.lock();
        let failing = queues.iter().enumerate().filter_map(|(index, queue)| {
            let pending = queue.pending.lock();
            let error = pending.failing.as_ref()?;
            let (host, waiting) = (queue.notification.host(), pending.waiting.len());
            Some(format!("monitoring.notifications[{index}] ({host}): {error}; {waiting} alarms wait"))
        });
        failing.collect()
    }

    /// until the receiver is taken away
    async fn serve(&self, queue: Arc<Queue>) {
        tokio::select! {
            // What waited is another's by then.
            biased;
            () = queue.gone.notified() => {}
            () = self.deliver(&queue) => {}
        }
    }

    async fn deliver(&self, queue: &Queue) {
        let notification = &queue.notification;
        if let Err(error) = secrets(notification).await {
            queue.pending.lock().failing = Some(error.to_string());
        }
        loop {
            let Some((alarm, dropped)) = queue.first() else {
                queue.wake.notified().await;
                continue;
            };
            match self.send(notification, &alarm, dropped).await {
                Ok(()) => {
                    queue.done(Some(dropped));
                    self.count(Outcome::Delivered, 1);
                }
                Err(error) => {
                    let attempt = queue.failed(&error);
                    tracing::warn!(host = notification.host(), %error, attempt, "alarm not delivered");
                    if attempt < self.patience.attempts && !is_final(&error) {
                        self.count(Outcome::Retried, 1);
                        tokio::time::sleep(self.pause(attempt, &error)).await;
                    } else {
                        queue.done(None);
                        self.count(Outcome::GivenUp, 1);
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

    fn count(&self, outcome: Outcome, alarms: u64) {
        self.instruments.count_notifications(outcome, alarms);
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
