//! The client's side of a session: a WebSocket, or long-polling that may go over to one.

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use picket_shared::clock::Timestamp;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::guard::Written;
use super::polling::PollingSocket;
use super::sockets::Socket;

#[expect(clippy::large_enum_variant, reason = "nearly every session has the large one, which a box would cost a step")]
pub enum Client {
    WebSocket(Socket),
    Polling(PollingSocket),
}

impl Client {
    /// leaves polling for the WebSocket that took over, if one did; what waited for a poll is written there, unflushed
    pub fn goes_over(&mut self) -> bool {
        let Client::Polling(polling) = self else {
            return false;
        };
        let Some((mut socket, queued)) = polling.taken_over() else {
            return false;
        };
        for message in queued {
            // Its next read says what is wrong with it.
            if let Err(error) = socket.start_send_unpin(message) {
                tracing::debug!(%error, "a queued message was not written");
            }
        }
        *self = Client::WebSocket(socket);
        true
    }

    pub fn written(&self) -> Written {
        match self {
            Client::WebSocket(socket) => socket.get_ref().written(),
            Client::Polling(polling) => polling.written(),
        }
    }

    pub fn close_code(&self) -> Option<u16> {
        match self {
            Client::WebSocket(socket) => socket.get_ref().close_code(),
            Client::Polling(_) => None,
        }
    }

    /// since when a message is under way; a post is handed over whole, and has its own bound of time
    pub fn unfinished_since(&self) -> Option<Timestamp> {
        match self {
            Client::WebSocket(socket) => socket.get_ref().unfinished_since(),
            Client::Polling(_) => None,
        }
    }

    /// reads and forgets what the peer still sends, up to a bound; the buffers of its messages are given back first
    pub async fn discard(self, bytes_max: usize) {
        if let Client::WebSocket(socket) = self
            && let Err(error) = socket.into_inner().discard(bytes_max).await
        {
            tracing::debug!(%error, "peer ended without a goodbye");
        }
    }
}

impl Stream for Client {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.get_mut() {
            Client::WebSocket(socket) => socket.poll_next_unpin(cx),
            Client::Polling(polling) => polling.poll_next(cx),
        }
    }
}

impl Sink<Message> for Client {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let client = self.get_mut();
        client.goes_over();
        match client {
            Client::WebSocket(socket) => socket.poll_ready_unpin(cx),
            Client::Polling(polling) => polling.poll_ready(cx),
        }
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        match self.get_mut() {
            Client::WebSocket(socket) => socket.start_send_unpin(message),
            Client::Polling(polling) => polling.send(message),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.get_mut() {
            Client::WebSocket(socket) => socket.poll_flush_unpin(cx),
            Client::Polling(polling) => polling.poll_flush(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.get_mut() {
            Client::WebSocket(socket) => socket.poll_close_unpin(cx),
            Client::Polling(polling) => polling.poll_flush(cx),
        }
    }
}
