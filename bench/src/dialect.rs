//! How a message looks on the wire: a JSON event in a text frame, plain or as a Socket.IO packet, always of the same length.

use anyhow::{Result, bail};
use clap::ValueEnum;
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::client::Socket;

pub const MESSAGE_BYTES: usize = 122;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    Json,
    Socketio,
}

impl Dialect {
    pub fn path(self) -> &'static str {
        match self {
            Dialect::Json => "/ws",
            Dialect::Socketio => "/socket.io/?EIO=4&transport=websocket",
        }
    }

    pub fn message(self) -> Message {
        let (start, end) = match self {
            Dialect::Json => (r#"{"type":"chat:message","room":"general","id":184467,"text":""#, r#""}"#),
            Dialect::Socketio => (r#"42["chat:message",{"room":"general","id":184467,"text":""#, r#""}]"#),
        };
        let words = "Shall we meet at ten, or is that too early for everybody who was late yesterday?";
        let text = &words[..MESSAGE_BYTES - start.len() - end.len()];
        Message::Text(Utf8Bytes::from(format!("{start}{text}{end}")))
    }

    /// an event with one text, which is already escaped as JSON
    pub fn event(self, field: &str, name: &str, text: &str) -> String {
        self.event_of(field, name, &format!(r#""text":"{text}""#))
    }

    /// an event with these members, which are raw JSON
    pub fn event_of(self, field: &str, name: &str, members: &str) -> String {
        match self {
            Dialect::Json => format!(r#"{{"{field}":"{name}",{members}}}"#),
            Dialect::Socketio => format!(r#"42["{name}",{{{members}}}]"#),
        }
    }

    /// the reason of a gateway that says it has refused an event
    pub fn refusal(self, text: &str) -> Option<String> {
        let said: Value = match self {
            Dialect::Json => serde_json::from_str(text).ok().filter(|said: &Value| said["type"] == "error")?,
            Dialect::Socketio => {
                let packet: Value = serde_json::from_str(text.strip_prefix("42")?).ok()?;
                packet.get(1).filter(|_| packet[0] == "error")?.clone()
            }
        };
        Some(said["reason"].as_str().unwrap_or("without a reason").to_owned())
    }

    /// whether this is an answer to a message, and not the protocol's own talk
    pub fn is_event(self, message: &Message) -> bool {
        match (self, message) {
            (Dialect::Json, Message::Text(_)) => true,
            (Dialect::Socketio, Message::Text(text)) => text.starts_with("42"),
            _ => false,
        }
    }

    /// what has to happen on an open socket before the first message
    pub async fn introduce(self, socket: &mut Socket, token: Option<&str>) -> Result<()> {
        if self == Dialect::Json {
            return Ok(());
        }
        expect(socket, "0{").await?;
        let connect = token.map_or_else(|| "40".to_owned(), |token| format!(r#"40{{"token":"{token}"}}"#));
        socket.send(Message::text(connect)).await?;
        expect(socket, "40{").await
    }
}

async fn expect(socket: &mut Socket, start: &str) -> Result<()> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Text(text))) if text.starts_with(start) => return Ok(()),
            other => bail!("expected a packet {start}…, got {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_all_dialects_are_equally_long_and_json() {
        for dialect in [Dialect::Json, Dialect::Socketio] {
            let Message::Text(text) = dialect.message() else { panic!("a text") };
            assert_eq!(text.len(), MESSAGE_BYTES);
            serde_json::from_str::<serde_json::Value>(text.trim_start_matches("42")).unwrap();
            assert!(dialect.is_event(&Message::Text(text)));
        }
    }

    #[test]
    fn a_refusal_is_told_from_an_echo() {
        let echo = Dialect::Json.event("type", "chat:message", "hello");
        assert_eq!(Dialect::Json.refusal(&echo), None);
        assert_eq!(Dialect::Json.refusal(r#"{"type":"error","reason":"burst"}"#), Some("burst".to_owned()));
        let echo = Dialect::Socketio.event("type", "chat:message", "hello");
        assert_eq!(Dialect::Socketio.refusal(&echo), None);
        assert_eq!(Dialect::Socketio.refusal(r#"42["error",{"reason":"burst"}]"#), Some("burst".to_owned()));
    }
}
