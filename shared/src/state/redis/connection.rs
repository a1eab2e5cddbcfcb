//! One connection of the driver: it is set up again and again, and it is known at once when it is lost.

use fred::error::Error;
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::config::Server;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::tasks::Tasks;

/// the pause before a try to connect, and what chance adds at most: no more than four tries a second
/// over the four
pub(super) const RECONNECT_MS: (u32, u32) = (1100, 200);
/// the longest pause
const PAUSE_MAX: Duration = Duration::from_millis(1300);

pub(super) struct Connection<C> {
    client: C,
    /// The driver says "connected" until it tries again. What is queued for it meanwhile would wait, and a request to reconnect
    /// would end the next connection.
    is_lost: Arc<AtomicBool>,
}

impl<C: ClientLike + EventInterface + 'static> Connection<C> {
    pub(super) fn of(client: C) -> Self {
        Connection { client, is_lost: Arc::default() }
    }

    pub(super) fn client(&self) -> &C {
        &self.client
    }

    pub(super) fn is_up(&self) -> bool {
        !self.is_lost.load(Ordering::Relaxed) && self.client.is_connected()
    }

    /// each time that it is hardly up again
    pub(super) fn reconnections(&self) -> broadcast::Receiver<Server> {
        self.client.reconnect_rx()
    }

    /// drops a connection that only seems to live; one that is being set up already is left alone
    pub(super) async fn force_reconnection(&self) -> Result<(), Error> {
        if self.is_up() { self.client.force_reconnection().await } else { Ok(()) }
    }

    /// until the tasks are stopped; what is connected then stays so for the last calls
    pub(super) fn keep(&self, name: &'static str, tells_why: bool, tasks: &Tasks) {
        tasks.spawn(name, keep(self.client.clone(), tasks.stopped()));
        tasks.spawn(name, watch(self.client.clone(), self.is_lost.clone(), tells_why, tasks.stopped()));
    }
}

async fn keep<C: ClientLike>(client: C, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    loop {
        let connection = client.connect();
        tokio::select! {
            ended = connection => tracing::warn!(outcome = ?ended.map_err(|error| error.to_string()), "connection to redis ended, it is set up anew"),
            () = &mut stop => return,
        }
        // It ended for good: a refused login, say.
        tokio::select! {
            () = tokio::time::sleep(revive_delay()) => {}
            () = &mut stop => return,
        }
    }
}

fn revive_delay() -> Duration {
    let (delay, jitter) = RECONNECT_MS;
    let [chance] = crate::random::bytes();
    Duration::from_millis(u64::from(delay + jitter * u32::from(chance) / u32::from(u8::MAX)))
}

/// notices losses, until the driver itself knows better, and tells why, each reason once until another comes
async fn watch<C: EventInterface>(
    client: C,
    is_lost: Arc<AtomicBool>,
    tells_why: bool,
    stop: impl Future<Output = ()>,
) {
    tokio::pin!(stop);
    let (mut errors, mut reconnections, mut told) = (client.error_rx(), client.reconnect_rx(), String::new());
    loop {
        tokio::select! {
            // What was lost and is up again is up.
            biased;
            () = &mut stop => return,
            error = errors.recv() => {
                is_lost.store(true, Ordering::Relaxed);
                match error {
                    Ok((error, _)) if tells_why && error.to_string() != told => {
                        told = error.to_string();
                        tracing::warn!(error = told, "no connection to redis");
                    }
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => errors = client.error_rx(),
                }
            }
            Ok(_) = reconnections.recv() => is_lost.store(false, Ordering::Relaxed),
            () = tokio::time::sleep(PAUSE_MAX), if is_lost.load(Ordering::Relaxed) => is_lost.store(false, Ordering::Relaxed),
        }
    }
}
