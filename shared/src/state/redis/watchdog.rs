//! Notices connections that only seem to live. The driver resets its own check with every write, so a hung server that is
//! written to never trips it: with Sentinel that keeps a process on the old master for ever.

use fred::interfaces::EventInterface;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use super::Redis;

const TICK: Duration = Duration::from_millis(250);
/// consecutive time-outs that are too many
const TIMEOUTS_MAX: u32 = 5;
/// every process publishes a heartbeat each second, and hears at least its own
const SILENCE_MAX: Duration = Duration::from_millis(2500);
const PAUSE: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn run(redis: Arc<Redis>, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let (mut checks, mut subscriptions) = (redis.link.reconnections(), redis.link.subscriber().reconnect_rx());
    let mut last = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            // What has just come back may be silent for a moment.
            Ok(_) = checks.recv() => last = Instant::now(),
            Ok(_) = subscriptions.recv() => last = Instant::now(),
            () = &mut stop => return,
        }
        let (timeouts, silence) = (redis.link.timeouts_in_row(), redis.hints.silence());
        if (timeouts < TIMEOUTS_MAX && silence < SILENCE_MAX) || last.elapsed() < PAUSE {
            continue;
        }
        last = Instant::now();
        tracing::warn!(
            timeouts,
            silence_ms = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX),
            "redis is connected but silent, reconnecting"
        );
        if tokio::time::timeout(PATIENCE, redis.link.force_reconnection()).await.is_err() {
            tracing::warn!("reconnecting to redis takes long");
        }
    }
}
