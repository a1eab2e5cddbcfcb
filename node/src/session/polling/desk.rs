//! Where the two ends of a polling session meet: what was said, what is to be told, and how far the session is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_tungstenite::tungstenite::Message;

use super::requests::Request;
use crate::protocol::frames::Violation;
use crate::protocol::payload;
use crate::session::sockets::Socket;

/// where both ends meet
#[derive(Default)]
pub struct Desk {
    pub incoming: VecDeque<Message>,
    /// told when all of a post was dealt with
    pub dealt_with: Option<oneshot::Sender<()>>,
    pub outgoing: VecDeque<Message>,
    pub outgoing_bytes: usize,
    pub is_posting: bool,
    pub is_polling: bool,
    pub is_probing: bool,
    /// a request came since the relay last asked
    pub was_heard: bool,
    pub violation: Option<Violation>,
    pub stage: Stage,
    pub upgraded: Option<Upgraded>,
    /// of the WebSocket that took over, held as long as the session
    pub place: Option<Arc<OwnedSemaphorePermit>>,
    pub relay: Option<Waker>,
    pub poller: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    #[default]
    Open,
    /// the client broke a request off
    Gone,
    /// the last words wait for a poll
    Closing,
    /// the session goes on over a WebSocket
    Upgraded,
    Ended,
}

/// the WebSocket that takes over, and its place among the node's sockets
pub struct Upgraded {
    pub socket: Box<Socket>,
    pub place: Arc<OwnedSemaphorePermit>,
}

impl Desk {
    pub fn open_mark(&mut self, request: Request) -> &mut bool {
        match request {
            Request::Poll => &mut self.is_polling,
            Request::Post => &mut self.is_posting,
        }
    }

    pub fn wake_relay(&mut self) {
        if let Some(waker) = self.relay.take() {
            waker.wake();
        }
    }

    pub fn wake_poller(&mut self) {
        if let Some(waker) = self.poller.take() {
            waker.wake();
        }
    }

    pub fn push(&mut self, message: Message) {
        self.outgoing_bytes += payload::written_len(&message);
        self.outgoing.push_back(message);
    }

    /// what waits for a poll; the end by itself, since clients forget what came in one body with it
    pub fn take_outgoing(&mut self) -> Vec<Message> {
        let kept = usize::from(self.stage == Stage::Closing && self.outgoing.len() > 1);
        let told = self.outgoing.len() - kept;
        self.outgoing.drain(..told).collect()
    }

    pub fn noop(&mut self) {
        if self.is_polling && self.outgoing.is_empty() {
            self.push(Message::text(payload::NOOP));
            self.wake_poller();
        }
    }

    pub fn all_dealt_with(&mut self) {
        if let Some(dealt_with) = self.dealt_with.take() {
            // Whoever asked may have gone.
            dealt_with.send(()).ok();
        }
    }
}
