//! Hints that something changed: by pub/sub at once, by a look every 5 s in any case. Never the truth.

use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::Message;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{ClockSource, Redis};

/// how often every follower looks without a hint
const PERIOD: Duration = Duration::from_secs(5);

pub(super) struct Hints {
    pub(super) blocks: watch::Sender<u64>,
    pub(super) policy: watch::Sender<u64>,
    pub(super) revocations: watch::Sender<u64>,
    /// when a heartbeat came through the subscription last
    heard: Mutex<Instant>,
}

impl Default for Hints {
    fn default() -> Self {
        Hints {
            blocks: watch::Sender::new(0),
            policy: watch::Sender::new(0),
            revocations: watch::Sender::new(0),
            heard: Mutex::new(Instant::now()),
        }
    }
}

impl Hints {
    /// anything may have changed
    pub(super) fn suspect(&self) {
        hint(&self.blocks);
        hint(&self.policy);
        hint(&self.revocations);
    }

    pub(super) fn silence(&self) -> Duration {
        self.heard.lock().elapsed()
    }
}

fn hint(sender: &watch::Sender<u64>) {
    sender.send_modify(|count| *count = count.wrapping_add(1));
}

/// turns messages into hints, and subscribes anew after every reconnection
pub(super) async fn follow(redis: Arc<Redis>, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let subscriber = redis.link.subscriber();
    let (mut messages, mut reconnections) = (subscriber.message_rx(), subscriber.reconnect_rx());
    if subscriber.is_connected() {
        redis.subscribe().await;
    }
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Ok(message) => redis.take_hint(&message),
                Err(RecvError::Lagged(_)) => redis.hints.suspect(),
                Err(RecvError::Closed) => messages = subscriber.message_rx(),
            },
            _ = reconnections.recv() => {
                // It may be another server, or an empty one.
                redis.membership.look();
                redis.subscribe().await;
            }
            () = &mut stop => return,
        }
    }
}

/// lets every follower look, and removes ended blocks where that is this process's business
pub(super) async fn poll(redis: Arc<Redis>, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = &mut stop => return,
        }
        if redis.expires_blocks
            && redis.clock_source == ClockSource::Redis
            && let Err(error) = redis.expire_blocks(redis.clock.now()).await
        {
            tracing::debug!(%error, "ended blocks not removed yet");
        }
        redis.hints.suspect();
    }
}

impl Redis {
    async fn subscribe(&self) {
        let keys = &self.keys;
        let channels =
            vec![keys.blocks_channel(), keys.policy_channel(), keys.revocations_channel(), keys.heartbeat_channel()];
        match self.link.subscriber().subscribe(channels).await {
            // What was published before is gone.
            Ok(()) => self.hints.suspect(),
            Err(error) => tracing::warn!(%error, "no subscription to redis, changes are looked for every 5 s"),
        }
    }

    fn take_hint(&self, message: &Message) {
        let channel: &str = &message.channel;
        if channel == self.keys.blocks_channel() {
            hint(&self.hints.blocks);
        } else if channel == self.keys.policy_channel() {
            hint(&self.hints.policy);
        } else if channel == self.keys.revocations_channel() {
            hint(&self.hints.revocations);
        } else {
            *self.hints.heard.lock() = Instant::now();
            // Who says no name found an empty Redis.
            if message.value.as_bytes().is_some_and(<[u8]>::is_empty) {
                self.membership.look();
            }
        }
    }
}
