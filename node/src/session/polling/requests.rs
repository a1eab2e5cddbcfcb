//! The end of a polling session that HTTP requests see.

use parking_lot::Mutex;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_tungstenite::tungstenite::Message;

use super::Opener;
use super::desk::{Desk, Stage, Upgraded};
use crate::protocol::frames::Violation;
use crate::protocol::payload;
use crate::session::guard::Written;
use crate::session::sockets::Socket;

/// the end of a session that its requests see
pub struct PollingSession {
    pub sid: Arc<str>,
    pub opener: Opener,
    pub(super) desk: Mutex<Desk>,
    pub(super) written: Written,
}

/// why a request has no answer from the session
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// there is no such session any more
    Unknown,
    /// another request of the same kind is open
    Overlap,
}

impl PollingSession {
    pub(super) fn new(sid: Arc<str>, opener: Opener) -> Self {
        PollingSession { sid, opener, desk: Mutex::default(), written: Written::default() }
    }

    /// waits for something to tell the client
    pub async fn poll(&self) -> Result<Vec<Message>, Turned> {
        let mut open = self.start(Request::Poll)?;
        let told = poll_fn(|cx| self.poll_outgoing(cx)).await;
        open.is_whole = true;
        told
    }

    /// takes the session's one place for a post, before its body is read
    pub fn start_post(&self) -> Result<OpenRequest<'_>, Turned> {
        self.start(Request::Post)
    }

    fn start(&self, request: Request) -> Result<OpenRequest<'_>, Turned> {
        let mut desk = self.desk.lock();
        let is_last_poll = request == Request::Poll && desk.stage == Stage::Closing && !desk.outgoing.is_empty();
        if desk.stage != Stage::Open && !is_last_poll {
            return Err(Turned::Unknown);
        }
        if std::mem::replace(desk.open_mark(request), true) {
            desk.violation.get_or_insert(Violation::Protocol("two requests of one kind at a time"));
            desk.wake_relay();
            return Err(Turned::Overlap);
        }
        desk.was_heard = true;
        desk.wake_relay();
        drop(desk);
        Ok(OpenRequest { session: self, request, is_whole: false })
    }

    fn poll_outgoing(&self, cx: &mut Context<'_>) -> Poll<Result<Vec<Message>, Turned>> {
        let mut desk = self.desk.lock();
        if !desk.outgoing.is_empty() {
            self.written.add(std::mem::take(&mut desk.outgoing_bytes));
            let told = desk.take_outgoing();
            desk.wake_relay();
            return Poll::Ready(Ok(told));
        }
        match desk.stage {
            Stage::Upgraded => Poll::Ready(Ok(vec![Message::text(payload::NOOP)])),
            Stage::Ended | Stage::Gone => Poll::Ready(Err(Turned::Unknown)),
            Stage::Open | Stage::Closing => {
                desk.poller = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// a WebSocket asks to take over; one at a time
    pub fn start_probe(&self) -> Result<(), Turned> {
        let mut desk = self.desk.lock();
        if desk.stage != Stage::Open {
            return Err(Turned::Unknown);
        }
        match std::mem::replace(&mut desk.is_probing, true) {
            true => Err(Turned::Overlap),
            false => Ok(()),
        }
    }

    /// another WebSocket may try
    pub fn end_probe(&self) {
        self.desk.lock().is_probing = false;
    }

    /// lets an open poll return, so that the client can go over; says whether the session still polls
    pub fn release_poll(&self) -> bool {
        let mut desk = self.desk.lock();
        desk.noop();
        desk.stage == Stage::Open
    }

    pub fn is_open(&self) -> bool {
        self.desk.lock().stage == Stage::Open
    }

    /// the relay goes on with this WebSocket
    pub fn hand_over(&self, socket: Box<Socket>, place: Arc<OwnedSemaphorePermit>) {
        let mut desk = self.desk.lock();
        if desk.stage == Stage::Open {
            desk.upgraded = Some(Upgraded { socket, place });
            desk.wake_relay();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Poll,
    Post,
}

/// a request that the session waits for; broken off, it ends the session
pub struct OpenRequest<'a> {
    session: &'a PollingSession,
    request: Request,
    is_whole: bool,
}

impl OpenRequest<'_> {
    /// hands the packets of a post to the relay, and waits until it has dealt with all of them
    pub async fn deliver(mut self, messages: Vec<Message>) {
        let (dealt_with, wait) = oneshot::channel();
        {
            let mut desk = self.session.desk.lock();
            desk.incoming = messages.into();
            desk.dealt_with = Some(dealt_with);
            desk.wake_relay();
        }
        // An error says that the session ended over it: its last words go to the poll.
        wait.await.ok();
        self.is_whole = true;
    }

    /// ends the session for what the post was
    pub fn violates(mut self, violation: Violation) {
        self.is_whole = true;
        let mut desk = self.session.desk.lock();
        desk.violation.get_or_insert(violation);
        desk.wake_relay();
    }
}

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        let mut desk = self.session.desk.lock();
        *desk.open_mark(self.request) = false;
        if !self.is_whole && desk.stage == Stage::Open {
            desk.stage = Stage::Gone;
            desk.wake_relay();
        }
    }
}
