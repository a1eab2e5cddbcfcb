//! What a replica has too is not undone by the death of a master. Replication is asynchronous, so that is waited for (`WAIT`), for a
//! moment and where there is a replica.
//!
//! The server does nothing else for a connection that waits, so one waits for all: a wait that begins after a write covers it.

use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Redis;
use super::link::Lane;

const PATIENCE: Duration = Duration::from_millis(100);
/// where no replica came in time, for how long none is waited for
const NONE_FOR: Duration = Duration::from_secs(10);

/// what the last waits came to
#[derive(Default)]
pub(super) struct Replicas(Mutex<Waits>);

#[derive(Default)]
struct Waits {
    none_until: Option<Instant>,
    /// by key, when the last wait began that a replica answered; there are two keys
    reached: HashMap<String, Instant>,
}

impl Redis {
    /// whether a replica has what was last written by the durable lane to the slot of a key
    pub(super) async fn reaches_a_replica(&self, key: &str) -> bool {
        let written = Instant::now();
        let mut waits = self.replicas.0.lock().await;
        let began = Instant::now();
        if waits.none_until.is_some_and(|until| began < until) {
            return false;
        }
        if waits.reached.get(key).is_some_and(|covered| *covered >= written) {
            return true;
        }
        let reached = matches!(self.link.wait_for_replica(Lane::Durable, key, PATIENCE).await, Ok(1..));
        waits.none_until = (!reached).then(|| began + NONE_FOR);
        if reached {
            waits.reached.insert(key.to_owned(), began);
        }
        reached
    }
}
