//! Each second a process says that it lives, and learns who died. While the circuit is open this is the probe.
//!
//! What a process holds is counted under its *generation*: a random name that dies when it is not heard of for so long, and
//! never comes back. A process that was cut off goes on under a new one.

use arc_swap::ArcSwap;
use fred::types::Value;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::keys::HASH_KEY_BYTES;
use super::reply::{Reply, unexpected};
use super::time::corrected;
use super::{Redis, millis, number};
use crate::clock::{CLOCK_OFFSET_MAX_MS, Timestamp};
use crate::state::StateError;

const PERIOD: Duration = Duration::from_secs(1);
/// how often a probe is sent while the circuit is open, with up to 100 ms more; a new connection is probed at once
const PROBE_PERIOD: Duration = Duration::from_millis(250);
/// until a new connection, which is told of while it is set up, is there
const SETTLES: Duration = Duration::from_millis(20);
/// a generation not heard of for so long is dead; with the second until all know it, below ten
const DEAD_AFTER: Duration = Duration::from_secs(8);
/// how long the dead are remembered: longer than a lease key lives
const REMEMBERED: Duration = Duration::from_secs(120);
/// dead generations that are passed along
const DEAD_MAX: u64 = 256;
const KEY_LIFE: Duration = Duration::from_secs(600);
/// how long after a loss or an outage others may not have told their counts yet: a heartbeat, or a reconnection and a probe,
/// and the telling
const RECOUNTED_WITHIN: Duration = Duration::from_secs(2);
/// the least pause between heartbeats, whoever asks for one
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// this process's generation, and who is dead
pub(super) struct Membership {
    generation: ArcSwap<Generation>,
    dead: ArcSwap<Vec<String>>,
    clock_offset_ms: AtomicI64,
    /// until then the counts in Redis may be too low
    recounts_until: Mutex<Option<Instant>>,
    /// asks for a heartbeat out of turn
    look: Notify,
}

struct Generation {
    name: String,
    announced: AtomicBool,
}

impl Default for Membership {
    fn default() -> Self {
        Membership {
            generation: ArcSwap::from_pointee(Generation::new()),
            dead: ArcSwap::default(),
            clock_offset_ms: AtomicI64::new(0),
            recounts_until: Mutex::default(),
            look: Notify::new(),
        }
    }
}

impl Generation {
    fn new() -> Self {
        Generation { name: crate::random::hex(8), announced: false.into() }
    }
}

impl Membership {
    pub(super) fn generation(&self) -> Value {
        self.generation.load().name.clone().into()
    }

    /// the dead generations, as scripts take them
    pub(super) fn dead(&self) -> impl Iterator<Item = Value> + use<> {
        let dead = self.dead.load_full();
        (0..dead.len()).map(move |i| dead[i].clone().into())
    }

    pub(super) fn clock_offset_ms(&self) -> i64 {
        self.clock_offset_ms.load(Ordering::Relaxed)
    }

    /// says that Redis may know less than is held
    pub(super) fn recount(&self) {
        *self.recounts_until.lock() = Some(Instant::now() + RECOUNTED_WITHIN);
    }

    pub(super) fn is_recounting(&self) -> bool {
        self.recounts_until.lock().is_some_and(|until| Instant::now() < until)
    }

    /// asks for a heartbeat at once: a hint that Redis may have been emptied
    pub(super) fn look(&self) {
        self.look.notify_one();
    }
}

pub(super) async fn run(redis: Arc<Redis>, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut last = Instant::now();
    let mut reconnections = redis.link.reconnections();
    loop {
        let pause = if redis.link.is_open() { PROBE_PERIOD + jitter() } else { PERIOD };
        let mut circuit = redis.link.circuit();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = redis.asked_to_look(last) => {}
            Ok(_) = reconnections.recv() => tokio::time::sleep(SETTLES).await,
            // When it opens, the pause of the closed one is too long.
            Ok(()) = circuit.changed() => continue,
            () = &mut stop => return,
        }
        last = Instant::now();
        let was_open = redis.link.is_open();
        if was_open {
            // Before the answer: whoever takes a slot right after it must know.
            redis.membership.recount();
        }
        if let Err(error) = redis.beat().await {
            tracing::debug!(%error, "heartbeat not delivered");
        }
        if was_open && !redis.link.is_open() {
            redis.heal();
        }
    }
}

fn jitter() -> Duration {
    let [byte] = crate::random::bytes();
    Duration::from_millis(u64::from(byte) * 100 / 255)
}

impl Redis {
    async fn asked_to_look(&self, last: Instant) {
        self.membership.look.notified().await;
        tokio::time::sleep_until(last + PAUSE_MIN).await;
    }

    pub(super) async fn beat(&self) -> Result<(), StateError> {
        if self.announce().await? {
            // This generation was taken for dead: what it held may be others' by now.
            tracing::warn!("this process was cut off for too long, its connections are counted anew");
            self.membership.generation.store(Arc::new(Generation::new()));
            self.announce().await?;
            self.publish_all_leases();
        }
        Ok(())
    }

    /// Redis was away or emptied: what it does not know is told, what this process missed is looked for
    fn heal(&self) {
        self.membership.recount();
        self.publish_all_leases();
        self.hints.suspect();
    }

    fn correct_clock(&self, there: i64, sent: Timestamp, received: Timestamp) {
        let before = self.membership.clock_offset_ms();
        let offset_ms = corrected(before, there, sent, received);
        self.membership.clock_offset_ms.store(offset_ms, Ordering::Relaxed);
        let is_far = |offset_ms: i64| offset_ms.unsigned_abs() > CLOCK_OFFSET_MAX_MS;
        match (is_far(before), is_far(offset_ms)) {
            (false, true) => tracing::error!(offset_ms, "the clock of this machine is wrong, redis's is used"),
            (true, false) => tracing::info!(offset_ms, "the clock of this machine agrees with redis's again"),
            _ => {}
        }
    }

    /// says whether this generation is dead
    async fn announce(&self) -> Result<bool, StateError> {
        let generation = self.membership.generation.load_full();
        let arguments = vec![
            generation.name.clone().into(),
            Value::Bytes(self.keys.hash_key().to_vec().into()),
            millis(DEAD_AFTER),
            millis(REMEMBERED),
            number(DEAD_MAX),
            self.keys.heartbeat_channel().into(),
            millis(KEY_LIFE),
        ];
        let sent = self.clock.now();
        let reply = self.link.probe(&self.scripts.heartbeat, self.keys.heartbeat().into(), arguments).await?;
        let (received, mut reply) = (self.clock.now(), Reply::from(reply));
        let hash_key =
            reply.bytes()?.and_then(|bytes| <[u8; HASH_KEY_BYTES]>::try_from(bytes).ok()).ok_or_else(unexpected)?;
        let was = reply.text()?;
        let now = reply.integer()?;
        let mut dead = Vec::new();
        while !reply.is_empty() {
            dead.push(reply.text()?);
        }
        self.membership.dead.store(Arc::new(dead));
        self.correct_clock(now, sent, received);
        let other_key = self.keys.adopt(hash_key);
        let announced = generation.announced.swap(true, Ordering::Relaxed);
        if announced && (other_key || was == "new") {
            tracing::warn!("redis does not know this process any more, its connections are counted anew");
            self.heal();
        }
        Ok(was == "dead")
    }
}
