//! The end of a polling session that its relay sees, in the place of a WebSocket.

use parking_lot::MutexGuard;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::desk::{Desk, Stage, Upgraded};
use super::{PollingSession, PollingSessions, Terms, Vacancy};
use crate::protocol::payload;
use crate::session::guard::Written;
use crate::session::sockets::Socket;

/// what may wait for the next poll before the upstream is not read any more; one message may go beyond it
pub(super) const QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// the end of a session that its relay sees
pub struct PollingSocket {
    pub(super) session: Arc<PollingSession>,
    pub(super) sessions: Arc<PollingSessions>,
    pub(super) terms: Terms,
    pub(super) is_open: bool,
    pub(super) _vacancy: Vacancy,
}

impl PollingSocket {
    pub fn written(&self) -> Written {
        self.session.written.clone()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.session.desk.lock()
    }

    /// what the client says; a poll is a sign of life, as a pong is
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        let mut desk = self.desk();
        if desk.stage == Stage::Closing {
            return Poll::Ready(None);
        }
        if let Some(violation) = desk.violation.take() {
            return Poll::Ready(Some(Err(Error::Io(io::Error::other(violation)))));
        }
        if let Some(message) = desk.incoming.pop_front() {
            return Poll::Ready(Some(Ok(message)));
        }
        desk.all_dealt_with();
        if desk.stage == Stage::Gone {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut desk.was_heard) {
            return Poll::Ready(Some(Ok(Message::Pong(bytes::Bytes::new()))));
        }
        desk.relay = Some(cx.waker().clone());
        Poll::Pending
    }

    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut desk = self.desk();
        if desk.stage == Stage::Gone {
            return Poll::Ready(Err(Error::ConnectionClosed));
        }
        if desk.outgoing_bytes >= QUEUE_BYTES_MAX && desk.stage == Stage::Open {
            desk.relay = Some(cx.waker().clone());
            desk.wake_poller();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    pub fn send(&mut self, message: Message) -> Result<(), Error> {
        let message = match message {
            Message::Text(text) if !self.is_open => {
                let terms = &self.terms;
                let open = payload::open(&text, &self.session.sid, terms.upgrades, terms.body_bytes_max);
                self.is_open = true;
                Message::text(open.ok_or(Error::ConnectionClosed)?)
            }
            other => other,
        };
        let mut desk = self.desk();
        match message {
            Message::Text(_) | Message::Binary(_) => desk.push(message),
            // Whoever has no poll open shows that it lives by the next one.
            Message::Ping(_) => desk.noop(),
            Message::Close(_) if matches!(desk.stage, Stage::Open) => {
                desk.push(Message::text(payload::CLOSE));
                desk.stage = Stage::Closing;
                desk.incoming.clear();
                desk.all_dealt_with();
            }
            Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
        }
        Ok(())
    }

    /// the last words are flushed when they were fetched; others wait for the next poll without keeping the relay
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut desk = self.desk();
        if desk.outgoing.is_empty() {
            return Poll::Ready(Ok(()));
        }
        desk.wake_poller();
        if desk.stage != Stage::Closing {
            return Poll::Ready(Ok(()));
        }
        desk.relay = Some(cx.waker().clone());
        Poll::Pending
    }

    /// the WebSocket that took over, and what it has still to be told; not before all of a post was dealt with
    pub fn taken_over(&mut self) -> Option<(Socket, Vec<Message>)> {
        let mut desk = self.desk();
        if desk.stage != Stage::Open || !desk.incoming.is_empty() {
            return None;
        }
        let Upgraded { socket, place } = desk.upgraded.take()?;
        desk.stage = Stage::Upgraded;
        desk.place = Some(place);
        let mut queued: Vec<_> = std::mem::take(&mut desk.outgoing).into();
        queued.retain(|message| !matches!(message, Message::Text(text) if text.as_str() == payload::NOOP));
        drop(desk);
        Some((*socket, queued))
    }
}

impl Drop for PollingSocket {
    fn drop(&mut self) {
        self.sessions.table.lock().remove(&self.session.sid);
        let mut desk = self.desk();
        if desk.stage != Stage::Upgraded {
            desk.stage = Stage::Ended;
            desk.upgraded = None;
        }
        desk.all_dealt_with();
        desk.wake_poller();
    }
}
