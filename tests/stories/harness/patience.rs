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
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(PROBE_EVERY).await;
    }
}
