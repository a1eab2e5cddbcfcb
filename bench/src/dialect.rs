//! How a message looks on the wire: a JSON event in a text frame, plain or as a Socket.IO packet, always of the same length.

use anyhow::{Result, bail};
use clap::ValueEnum;
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
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

    /// whether this is an answer to a message, and not the protocol's own talk
    pub fn is_event(self, message: &Message) -> bool {
        match (self, message) {
            (Dialect::Json, Message::Text(_)) => true,
            (Dialect::Socketio, Message::Text(text)) => text.starts_with("42"),
            _ => false,
        }
    }

    /// what has to happen on an open socket before the first message
    pub async fn introduce(self, socket: &mut Socket, token: &str) -> Result<()> {
        if self == Dialect::Json {
            return Ok(());
        }
        expect(socket, "0{").await?;
        socket.send(Message::text(format!(r#"40{{"token":"{token}"}}"#))).await?;
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
}
