//! Waiting for a peer that reads slowly: backpressure with a bound, which no block waits for.

use futures_util::FutureExt;
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;

use super::attention::Listener;
use super::guard::Written;
use super::step::Conversation;
use crate::admission::still_admissible;
use crate::attempt::Attempt;
use crate::gate::Gate;
use crate::pardons::Pardons;
use crate::refusal::Denial;

/// why a write did not end well
pub enum Stuck {
    Failed(Error),
    /// the peer took no byte for as long as it may
    NoProgress,
    Denied(Denial),
}

/// whichever side failed says so at its next read, with its own words
pub fn failures_speak_at_the_next_read(stuck: Stuck) -> Result<(), Stuck> {
    match stuck {
        Stuck::Failed(error) => {
            tracing::debug!(%error, "flush failed");
            Ok(())
        }
        other => Err(other),
    }
}

/// waits for a peer that reads slowly: as long as it takes something now and then, and not past a block
pub async fn patiently(
    write: impl Future<Output = Result<(), Error>>,
    written: &Written,
    gate: &Gate,
    attempt: &Attempt,
    conversation: &Conversation,
    attention: &Listener,
) -> Result<(), Stuck> {
    tokio::pin!(write);
    // The usual case: the kernel takes it at once, and no timer is made.
    if let Some(outcome) = (&mut write).now_or_never() {
        return outcome.map_err(Stuck::Failed);
    }
    let wait = async {
        let mut bell = attention.bell();
        loop {
            tokio::select! {
                outcome = take_time(&mut write, written, gate.limits.write_timeout()) => return outcome,
                _ = bell.changed() => {
                    // What is pardoned is recorded when the session itself looks.
                    let mut pardons = Pardons::by(gate);
                    let principals = conversation.principals();
                    if let Err(denial) = still_admissible(gate, attempt, principals, &mut pardons, gate.clock.now()) {
                        return Err(Stuck::Denied(denial));
                    }
                }
            }
        }
    };
    // Boxed: an idle session keeps no room for it.
    Box::pin(wait).await
}

/// gives a write as long as the peer takes at least a byte in each `patience`
async fn take_time(
    write: &mut (impl Future<Output = Result<(), Error>> + Unpin),
    written: &Written,
    patience: Duration,
) -> Result<(), Stuck> {
    loop {
        let taken = written.bytes();
        match timeout(patience, &mut *write).await {
            Ok(outcome) => return outcome.map_err(Stuck::Failed),
            Err(_) if written.bytes() == taken => return Err(Stuck::NoProgress),
            Err(_) => {}
        }
    }
}
