//! Waiting for a condition, always with a deadline.

use std::future::Future;
use std::time::{Duration, Instant};

/// Long enough for a debug build on a loaded two-core machine; a story that passes never waits for it.
const PATIENCE: Duration = Duration::from_secs(10);
const PROBE_EVERY: Duration = Duration::from_millis(15);

pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Asks again until the answer is there.
pub async fn eventually<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    soon(what, PATIENCE, ask).await.0
}

/// Asks again until the answer is there, which a promise says must be so soon; and how long it took.
pub async fn soon<T>(what: &str, promised: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> (T, Duration) {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return (answer, start.elapsed());
        }
        assert!(start.elapsed() < promised, "{what}: not within {promised:?}");
        tokio::time::sleep(PROBE_EVERY).await;
    }
}
