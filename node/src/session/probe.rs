//! The upgrade of a polling session (engine.io-protocol v4, "Upgrade"): a WebSocket proves itself, then takes over.
//!
//! The node answers the probe itself, since the upstream's side is a WebSocket from the start. The session's state stays where
//! it is: what was inspected on one transport counts on the other.

use futures_util::{SinkExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::polling::PollingSession;
use super::sockets::Socket;

const ASKED: &str = "2probe";
const PROVEN: &str = "3probe";
const UPGRADE: &str = "5";
/// how often an open poll is let go until the client has gone over, as Engine.IO's own server does
const RELEASE_EVERY: Duration = Duration::from_millis(100);
/// how long a socket that failed may take to hear of it
const GOODBYE: Duration = Duration::from_secs(2);

/// carries the upgrade out, or ends the WebSocket; the session polls on in that case
pub async fn probe(
    mut socket: Socket,
    session: Arc<PollingSession>,
    place: Arc<OwnedSemaphorePermit>,
    patience: Duration,
) {
    match timeout(patience, prove(&mut socket, &session)).await {
        Ok(Some(())) => session.hand_over(Box::new(socket), place),
        Ok(None) | Err(_) => {
            session.end_probe();
            let frame = CloseFrame { code: CloseCode::Policy, reason: "protocol_error".into() };
            // Whoever does not take it in time is dropped.
            timeout(GOODBYE, socket.close(Some(frame))).await.ok();
        }
    }
}

/// `None` if the client says something else, or the session ended
async fn prove(socket: &mut Socket, session: &PollingSession) -> Option<()> {
    let mut release = interval(RELEASE_EVERY);
    let mut is_proven = false;
    loop {
        tokio::select! {
            message = socket.next() => match message?.ok()? {
                Message::Text(text) if text == ASKED && !is_proven => {
                    socket.send(Message::text(PROVEN)).await.ok()?;
                    is_proven = true;
                }
                Message::Text(text) if text == UPGRADE && is_proven => return Some(()),
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Text(_) | Message::Binary(_) | Message::Close(_) | Message::Frame(_) => return None,
            },
            _ = release.tick() => {
                let polls_on = if is_proven { session.release_poll() } else { session.is_open() };
                if !polls_on {
                    return None;
                }
            }
        }
    }
}
