//! The two sides of a session: what either says, in turn, and the flush when neither has more to say.

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use picket_shared::policy::PAYLOAD_BYTES_MAX;
use picket_shared::window::Quota;
use std::task::{Context, Poll};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::client::Client;
use super::guard::Guarded;
use crate::gate::Gate;
use crate::protocol::frames::FrameBounds;

pub type Socket = WebSocketStream<Guarded>;

/// a write buffer holds one message and little more, since a socket that blocks is not fed; this is beyond every message
const WRITE_BUFFER_BYTES_MAX: usize = 4 * PAYLOAD_BYTES_MAX;
/// the window in which control frames are counted
const CONTROL_FRAMES_WINDOW_MS: u64 = 5000;

/// both ends of a session
pub struct Sockets {
    pub client: Client,
    pub upstream: Socket,
    /// something may wait in a write buffer
    pub unflushed: bool,
    /// who is asked first, in turn, so that neither keeps the other waiting
    upstream_first: bool,
}

/// what one of the two said, or that writes have to wait for a peer
pub enum Heard {
    Client(Option<Result<Message, Error>>),
    Upstream(Option<Result<Message, Error>>),
    /// a peer does not take what was written
    Blocked,
}

impl Sockets {
    /// a client and the upstream's tunnel
    pub async fn between(client: Client, upstream: Upgraded, gate: &Gate) -> Self {
        let upstream_config = config(gate, gate.limits.upstream_message_bytes_max);
        let upstream = Guarded::upstream(upstream);
        Sockets {
            client,
            upstream: WebSocketStream::from_raw_socket(upstream, Role::Client, Some(upstream_config)).await,
            unflushed: false,
            upstream_first: false,
        }
    }

    /// what comes next. One pass asks each side once: a burst is read whole, and then costs one write on the other side.
    pub fn poll_next(&mut self, hears_client: bool, cx: &mut Context<'_>) -> Poll<Heard> {
        self.upstream_first = !self.upstream_first;
        let first = if self.upstream_first { self.poll_upstream(cx) } else { self.poll_client(hears_client, cx) };
        if first.is_ready() {
            return first;
        }
        let second = if self.upstream_first { self.poll_client(hears_client, cx) } else { self.poll_upstream(cx) };
        match second.is_pending() && self.unflushed {
            true => self.poll_flush(cx),
            false => second,
        }
    }

    fn poll_client(&mut self, is_heard: bool, cx: &mut Context<'_>) -> Poll<Heard> {
        // What waited for the client's next poll has to be flushed on the WebSocket that took over.
        self.unflushed |= self.client.goes_over();
        match is_heard {
            true => self.client.poll_next_unpin(cx).map(Heard::Client),
            false => Poll::Pending,
        }
    }

    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        self.upstream.poll_next_unpin(cx).map(Heard::Upstream)
    }

    /// the upstream first: a client that does not read must not keep its last words from it
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        let upstream = self.upstream.poll_flush_unpin(cx);
        let client = self.client.poll_flush_unpin(cx);
        match (upstream, client) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                self.unflushed = false;
                Poll::Pending
            }
            _ => Poll::Ready(Heard::Blocked),
        }
    }
}

/// a client's WebSocket over its upgraded connection, with its bounds
pub async fn client_socket(client: Upgraded, gate: &Gate) -> Socket {
    let limits = &gate.limits;
    let message_bytes_max = gate.policy.current().validation.payload_bytes_max;
    let bounds = FrameBounds {
        message_bytes_max: message_bytes_max as u64,
        fragments_max: limits.fragments_max,
        control_frames: Quota::new(limits.control_frames_max, CONTROL_FRAMES_WINDOW_MS),
    };
    let client = Guarded::client(client, bounds, gate.clock.clone(), gate.policy.clone());
    // The guard judges by the policy in force, which may change; behind it only the policy's own maximum stands.
    WebSocketStream::from_raw_socket(client, Role::Server, Some(config(gate, PAYLOAD_BYTES_MAX))).await
}

fn config(gate: &Gate, message_bytes_max: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(gate.memory.buffer_bytes(gate.limits.read_buffer_bytes))
        .write_buffer_size(gate.memory.buffer_bytes(gate.limits.read_buffer_bytes))
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max))
}
