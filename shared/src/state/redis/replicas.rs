//! What a replica has too is not undone by the death of a master. Replication is asynchronous, so that is waited for (`WAIT`), for a
//! moment and where there is a replica.

use std::time::Duration;
use tokio::time::Instant;

use super::Redis;
use super::link::Lane;

const PATIENCE: Duration = Duration::from_millis(100);
/// where no replica came in time, for how long none is waited for
const NONE_FOR: Duration = Duration::from_secs(10);

impl Redis {
    /// whether a replica has what was last written by the durable lane to the slot of a key
    pub(super) async fn reaches_a_replica(&self, key: &str) -> bool {
        let now = Instant::now();
        if self.no_replica_until.lock().is_some_and(|until| now < until) {
            return false;
        }
        let reached = matches!(self.link.wait_for_replica(Lane::Durable, key, PATIENCE).await, Ok(1..));
        *self.no_replica_until.lock() = (!reached).then(|| now + NONE_FOR);
        reached
    }
}
