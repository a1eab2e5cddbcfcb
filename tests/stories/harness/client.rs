//! A WebSocket client that came in: it sends, receives and is closed.

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::http::Head;
use super::patience::within;
use super::wire::Wire;

pub struct Client {
    pub answer: Head,
    socket: WebSocketStream<TcpStream>,
    inbox: Vec<Received>,
}

#[derive(Debug)]
enum Received {
    Text(String),
    Binary(Vec<u8>),
    Ping,
    Closed(u16, String),
    Lost(String),
}

impl Client {
    pub async fn over(wire: Wire, answer: Head) -> Self {
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let socket = WebSocketStream::from_partially_read(wire.stream, wire.buffer, Role::Client, Some(config)).await;
        Self { answer, socket, inbox: Vec::new() }
    }

    pub async fn sends(&mut self, event: Value) {
        self.sends_text(&event.to_string()).await;
    }

    pub async fn sends_text(&mut self, text: &str) {
        self.sends_message(Message::text(text)).await;
    }

    pub async fn sends_binary(&mut self, bytes: &[u8]) {
        self.sends_message(Message::binary(bytes.to_vec())).await;
    }

    /// As one MessagePack value.
    pub async fn sends_packed(&mut self, event: &Value) {
        self.sends_binary(&rmp_serde::to_vec_named(event).unwrap()).await;
    }

    async fn sends_message(&mut self, message: Message) {
        within("sending a message", self.socket.send(message))
            .await
            .unwrap_or_else(|error| panic!("sending: {error}; inbox: {:?}", self.inbox));
    }

    /// The next event that has at least these fields; those before it are passed over.
    pub async fn receives(&mut self, fields: Value) -> Value {
        self.receives_matching(&fields.to_string(), |received| match received {
            Received::Text(text) => serde_json::from_str::<Value>(text).ok().filter(|event| holds(event, &fields)),
            _ => None,
        })
        .await
    }

    pub async fn receives_text(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        self.receives_matching("a text", |received| match received {
            Received::Text(text) if wanted(text) => Some(text.clone()),
            _ => None,
        })
        .await
    }

    /// The next text that begins so, or `None` when the connection is closed first.
    pub async fn receives_or_is_closed(&mut self, beginning: &str) -> Option<String> {
        self.receives_matching(beginning, |received| match received {
            Received::Text(text) if text.starts_with(beginning) => Some(Some(text.clone())),
            Received::Closed(..) => Some(None),
            _ => None,
        })
        .await
    }

    pub async fn receives_binary(&mut self, bytes: &[u8]) {
        self.receives_matching("a binary message", |received| {
            matches!(received, Received::Binary(found) if found == bytes).then_some(())
        })
        .await;
    }

    /// The next MessagePack value, such as a packet of `socket.io-msgpack-parser`, that has at least these fields.
    pub async fn receives_packed(&mut self, fields: Value) -> Value {
        self.receives_matching(&fields.to_string(), |received| match received {
            Received::Binary(bytes) => rmp_serde::from_slice(bytes).ok().filter(|value| holds(value, &fields)),
            _ => None,
        })
        .await
    }

    /// The refusal of one event on a JSON route.
    pub async fn is_refused(&mut self, reason: &str) -> Value {
        let refusal = self.receives(serde_json::json!({ "type": "error" })).await;
        assert_eq!(refusal["reason"], reason, "{refusal}");
        assert!(refusal["message"].is_string(), "{refusal}");
        assert!(refusal.as_object().is_some_and(|fields| fields.contains_key("event")), "{refusal}");
        refusal
    }

    pub async fn is_pinged(&mut self) {
        self.receives_matching("a ping", |received| matches!(received, Received::Ping).then_some(())).await;
    }

    pub async fn closes_with(&mut self, code: u16, reason: &str) {
        let (found, said) = self.closes().await;
        assert_eq!((found, said.as_str()), (code, reason), "how the connection was closed");
    }

    pub async fn closes(&mut self) -> (u16, String) {
        self.receives_matching("a close frame", |received| match received {
            Received::Closed(code, reason) => Some((*code, reason.clone())),
            _ => None,
        })
        .await
    }

    /// An event of its own comes back: the way to the upstream and back is open.
    pub async fn is_still_served(&mut self) {
        let beacon = serde_json::json!({ "type": "still-served" });
        self.sends(beacon.clone()).await;
        self.receives(beacon).await;
    }

    pub async fn leaves(mut self) {
        self.leaves_with(1000, "").await;
    }

    pub async fn leaves_with(&mut self, code: u16, reason: &'static str) {
        let closing = self.socket.close(Some(CloseFrame { code: code.into(), reason: reason.into() }));
        within("closing", closing).await.unwrap_or_else(|error| panic!("closing: {error}"));
        within("the end of the connection", async { while let Some(Ok(_)) = self.socket.next().await {} }).await;
    }

    async fn receives_matching<T>(&mut self, what: &str, wanted: impl Fn(&Received) -> Option<T>) -> T {
        let mut passed = 0;
        loop {
            if let Some((index, found)) = self
                .inbox
                .iter()
                .enumerate()
                .skip(passed)
                .find_map(|(index, received)| Some((index, wanted(received)?)))
            {
                self.inbox.drain(..=index);
                return found;
            }
            passed = self.inbox.len();
            match self.inbox.last() {
                Some(Received::Closed(code, reason)) => {
                    panic!("{what}: closed with {code} {reason:?} instead; before that: {}", excerpt(&self.inbox))
                }
                Some(Received::Lost(why)) => {
                    panic!("{what}: lost the connection instead: {why}; before that: {}", excerpt(&self.inbox))
                }
                _ => {}
            }
            let next = tokio::time::timeout(std::time::Duration::from_secs(10), self.socket.next()).await;
            let Ok(next) = next else { panic!("{what} did not come; instead: {}", excerpt(&self.inbox)) };
            self.inbox.extend(received(next));
            if let Some(Received::Closed(..)) = self.inbox.last() {
                // The answer to the close leaves now; where the server did not wait for it, that is its right.
                self.socket.flush().await.ok();
            }
        }
    }
}

type Next = Option<Result<Message, tokio_tungstenite::tungstenite::Error>>;

fn received(next: Next) -> Option<Received> {
    Some(match next {
        Some(Ok(Message::Text(text))) => Received::Text(text.to_string()),
        Some(Ok(Message::Binary(bytes))) => Received::Binary(bytes.to_vec()),
        Some(Ok(Message::Ping(_))) => Received::Ping,
        Some(Ok(Message::Close(frame))) => {
            let (code, reason) =
                frame.map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.to_string()));
            Received::Closed(code, reason)
        }
        Some(Ok(Message::Pong(_) | Message::Frame(_))) => return None,
        Some(Err(error)) => Received::Lost(error.to_string()),
        None => Received::Lost("end of the stream".to_owned()),
    })
}

/// Every field of `part` is in `whole` with the same value.
pub fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, value)| whole.get(name).is_some_and(|found| holds(found, value)))
        }
        _ => whole == part,
    }
}

fn excerpt(inbox: &[Received]) -> String {
    format!("{inbox:?}").chars().take(2000).collect()
}
