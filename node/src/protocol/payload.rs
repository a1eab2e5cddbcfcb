//! Engine.IO 4 over long-polling: packets in the body of a request or an answer, and the open packet of a session.
//!
//! Grammar: engine.io-protocol v4, packets parted by the record separator; a binary message is `b` and its bytes in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

const SEPARATOR: char = '\u{1e}';
/// Engine.IO's packet that says nothing: it ends a poll
pub const NOOP: &str = "6";
/// Engine.IO's packet that ends a session
pub const CLOSE: &str = "1";

/// why a body cannot be read; the text is for operators
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("packets in one request")]
    TooMany,
}

/// the packets of a body as messages, as a WebSocket would bring them; counted before any of them is read
pub fn read(body: &str, packets_max: usize) -> Result<Vec<Message>, PayloadError> {
    if body.split(SEPARATOR).take(packets_max + 1).count() > packets_max {
        return Err(PayloadError::TooMany);
    }
    body.split(SEPARATOR).map(read_packet).collect()
}

fn read_packet(packet: &str) -> Result<Message, PayloadError> {
    match packet.strip_prefix('b') {
        Some(encoded) => {
            let bytes = STANDARD.decode(encoded).map_err(|_| PayloadError::Malformed("binary that is not base64"))?;
            Ok(Message::binary(bytes))
        }
        None if packet.is_empty() => Err(PayloadError::Malformed("an empty packet")),
        None => Ok(Message::text(packet)),
    }
}

/// bytes that a message takes in a body, separator included
pub fn written_len(message: &Message) -> usize {
    match message {
        Message::Binary(bytes) => 2 + bytes.len().div_ceil(3) * 4,
        other => 1 + other.len(),
    }
}

/// messages as the body of an answer
pub fn write<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Bytes {
    let mut body = String::new();
    for message in messages {
        if !body.is_empty() {
            body.push(SEPARATOR);
        }
        match message {
            Message::Text(text) => body.push_str(text),
            Message::Binary(bytes) => {
                body.push('b');
                STANDARD.encode_string(bytes, &mut body);
            }
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
        }
    }
    body.into()
}

/// the upstream's open packet as a polling client gets it: with the node's own session id, the transports that the client
/// may go over to, and no larger bodies than the node takes; `None` if it is none
pub fn open(upstreams: &str, sid: &str, upgrades: &[&str], body_bytes_max: usize) -> Option<String> {
    let mut open: Value = serde_json::from_str(upstreams.strip_prefix('0')?).ok()?;
    let members = open.as_object_mut()?;
    let upstream_max = members.get("maxPayload").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let payload_max = upstream_max.min(u64::try_from(body_bytes_max).unwrap_or(u64::MAX));
    members.insert("sid".into(), sid.into());
    members.insert("upgrades".into(), json!(upgrades));
    members.insert("maxPayload".into(), payload_max.into());
    Some(format!("0{open}"))
}

/// whether a message is an open packet
pub fn is_open(message: &Message) -> bool {
    matches!(message, Message::Text(text) if text.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn packets_are_parted_and_binary_is_decoded() {
        let read = read("40\u{1e}42[\"a\",\"b\"]\u{1e}bAQID\u{1e}3", 4).unwrap();
        assert_eq!(
            read,
            [Message::text("40"), Message::text(r#"42["a","b"]"#), Message::binary(vec![1, 2, 3]), Message::text("3")]
        );
    }

    #[test]
    fn s08_more_packets_than_allowed_are_refused_before_they_are_read() {
        let flood = "b!\u{1e}".repeat(999) + "3";
        assert_eq!(read(&flood, 999), Err(PayloadError::TooMany));
        assert_eq!(read("3\u{1e}3", 1), Err(PayloadError::TooMany));
        assert_eq!(read("3\u{1e}3", 2).map(|packets| packets.len()), Ok(2));
    }

    #[test]
    fn what_is_no_payload_is_refused() {
        for body in ["", "\u{1e}", "3\u{1e}", "\u{1e}3", "b!", "bAQI", "bAQID=", "bAR==", "3\u{1e}b*"] {
            assert!(matches!(read(body, 10), Err(PayloadError::Malformed(_))), "{body:?}");
        }
        assert_eq!(read("b", 10), Ok(vec![Message::binary(Vec::new())]), "an empty binary message is one");
    }

    #[test]
    fn the_open_packet_has_the_nodes_session_and_bounds() {
        let upstreams =
            r#"0{"sid":"theirs","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":5000000}"#;
        let open = open(upstreams, "ours", &["websocket"], 1_000_000).unwrap();
        let read: Value = serde_json::from_str(&open[1..]).unwrap();
        assert_eq!(
            read,
            json!({"sid":"ours","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1_000_000})
        );
        for text in ["", "0", "0[]", "0{", "40{}", "2"] {
            assert_eq!(super::open(text, "ours", &[], 1), None, "{text}");
        }
    }

    fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            "[0-9][^\u{1e}]{0,40}".prop_map(Message::text),
            proptest::collection::vec(any::<u8>(), 0..60).prop_map(Message::binary)
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(messages in proptest::collection::vec(message(), 1..20)) {
            let body = write(&messages);
            let length: usize = messages.iter().map(written_len).sum();
            prop_assert_eq!(body.len(), length - 1);
            prop_assert_eq!(read(std::str::from_utf8(&body).unwrap(), 20), Ok(messages));
        }

        #[test]
        fn no_body_is_read_as_another(body in "[0-9b=A-Z/+\u{1e}\\PC]{0,60}") {
            if let Ok(messages) = read(&body, 30) {
                prop_assert_eq!(write(&messages), body);
            }
        }
    }
}
