//! The one place that spawns: every task has a name, is tracked, and is told to stop before it is made to.

use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// the tasks of one process
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    panics: Arc<AtomicU64>,
}

impl Tasks {
    /// runs `future` until it ends; a panic in it is counted, logged with the task's name, and ends that task only
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = self.clone();
        // Combinators, not `async`: an async block would hold the future as argument and as local, twice its size.
        let isolated = AssertUnwindSafe(future)
            .catch_unwind()
            .map(move |outcome| tasks.survive(name, outcome).unwrap_or_default());
        tokio::spawn(self.tracker.track_future(isolated));
    }

    /// runs `future` here; `None` when it panicked, which is counted and logged
    pub fn isolate<F: Future>(&self, name: &'static str, future: F) -> impl Future<Output = Option<F::Output>> {
        AssertUnwindSafe(future).catch_unwind().map(move |outcome| self.survive(name, outcome))
    }

    fn survive<T>(&self, name: &'static str, outcome: std::thread::Result<T>) -> Option<T> {
        if outcome.is_err() {
            self.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(task = name, "task panicked");
        }
        outcome.ok()
    }

    /// how many panics were caught since the start
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// resolves when the process is told to stop
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stop.clone().cancelled_owned()
    }

    /// tells every task to stop and waits for them, at most `patience`; says whether all ended
    pub async fn stop(&self, patience: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}
