//! Socket.IO 5 inside Engine.IO 4: a strict reading of what clients send, and the packets that Picket sends.
//!
//! How a packet is written is a parser's business ([`Parser`]): [`text`] is the default one, [`msgpack`] is
//! `socket.io-msgpack-parser`. What is not fully understood is an error, never passed on: parsers that differ here were
//! CVE-2022-2421, CVE-2023-32695 and their kin.

mod msgpack;
mod text;

use bytes::Bytes;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::ops::Range;
use tokio_tungstenite::tungstenite::Message;

use super::{NamedAt, locate_first};
use crate::config::Parser;

/// the largest ack id that every JavaScript client can hold, 2^53 − 1
const ACK_ID_MAX: u64 = (1 << 53) - 1;
/// event names that clients and servers keep for themselves (socket.io-parser `RESERVED_EVENTS`, and Node's emitter)
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// a packet of a client
#[derive(Debug, PartialEq, Eq)]
pub enum ClientPacket<'a> {
    /// Engine.IO's end of a session
    Close,
    /// Engine.IO's heartbeat
    Pong,
    /// binary that belongs to the packet before it
    Attachment(&'a Bytes),
    Message(Packet<'a>),
}

/// a Socket.IO packet of a client
#[derive(Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub namespace: Cow<'a, str>,
    pub kind: Kind<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// the `auth` object, if there is one
    Connect(Option<Payload<'a>>),
    Disconnect,
    Event(Call<'a>),
    Ack(Reply<'a>),
}

/// what a packet carries, as JSON
#[derive(Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    pub json: Cow<'a, str>,
    /// where in the frame the MessagePack stands that was read; `None`: the JSON is the end of the frame itself
    pub packed_at: Option<Range<usize>>,
}

/// an event: `["name", …]`
#[derive(Debug, PartialEq, Eq)]
pub struct Call<'a> {
    pub payload: Payload<'a>,
    pub named: NamedAt<'a>,
    pub ack: Option<u64>,
    /// binary messages that follow
    pub attachments: usize,
}

/// the answer to an event of the server
#[derive(Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    pub payload: Payload<'a>,
    pub attachments: usize,
}

/// bounds of one packet
#[derive(Clone, Copy, Debug)]
pub struct PacketBounds {
    pub attachments_max: usize,
    pub name_bytes_max: usize,
}

/// why a packet cannot be passed on; the text is for operators
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// not a packet
    Malformed(&'static str),
    /// a packet that a client does not send here
    OutOfPlace(&'static str),
}

use PacketError::{Malformed, OutOfPlace};

/// what the upstream's packets change for Picket; all others are passed on unread
#[derive(Debug, PartialEq, Eq)]
pub enum ServerPacket<'a> {
    /// Engine.IO's handshake: from here on it is the client's turn
    Open,
    /// Engine.IO's heartbeat, to be answered once
    Ping,
    Connected(Cow<'a, str>),
    Disconnected(Cow<'a, str>),
    ConnectError(Cow<'a, str>),
    Other,
}

impl Parser {
    /// a message of a client: Engine.IO's own packets are texts whatever the parser
    pub fn read<'a>(self, message: &'a Message, bounds: &PacketBounds) -> Result<ClientPacket<'a>, PacketError> {
        match (message, self) {
            (Message::Text(text), _) => match (text.as_bytes(), self) {
                ([], _) => Err(Malformed("empty packet")),
                (b"1", _) => Ok(ClientPacket::Close),
                (b"3", _) => Ok(ClientPacket::Pong),
                ([b'4', ..], Parser::Default) => text::read(&text[1..], bounds).map(ClientPacket::Message),
                ([b'4', ..], Parser::MsgPack) => Err(Malformed("a text where MessagePack is spoken")),
                ([b'0' | b'1' | b'2' | b'3' | b'5' | b'6', ..], _) => {
                    Err(OutOfPlace("an Engine.IO packet that only servers or polling clients send"))
                }
                _ => Err(Malformed("unknown Engine.IO packet type")),
            },
            (Message::Binary(bytes), Parser::Default) => Ok(ClientPacket::Attachment(bytes)),
            (Message::Binary(bytes), Parser::MsgPack) => msgpack::read(bytes, bounds).map(ClientPacket::Message),
            _ => Err(OutOfPlace("a frame that is no message")),
        }
    }

    pub fn read_server(self, message: &Message) -> ServerPacket<'_> {
        match (message, self) {
            (Message::Text(text), _) => match (text.as_bytes(), self) {
                ([b'0', ..], _) => ServerPacket::Open,
                (b"2", _) => ServerPacket::Ping,
                ([b'4', ..], Parser::Default) => text::read_server(&text[1..]),
                _ => ServerPacket::Other,
            },
            (Message::Binary(bytes), Parser::MsgPack) => msgpack::read_server(bytes),
            _ => ServerPacket::Other,
        }
    }

    /// whether an unreadable message may hold a token
    pub fn may_be_connect(self, message: &Message) -> bool {
        match (message, self) {
            (Message::Text(text), _) => text.starts_with("40"),
            (Message::Binary(bytes), Parser::MsgPack) => msgpack::may_be_connect(bytes),
            _ => false,
        }
    }

    /// CONNECT_ERROR
    pub fn connect_error(self, namespace: &str, message: &str, data: Value) -> Message {
        let data = json!({ "message": message, "data": data });
        match self {
            Parser::Default => text::write("4", namespace, None, &data),
            Parser::MsgPack => msgpack::write(json!({ "type": 4, "nsp": namespace, "data": data })),
        }
    }

    /// an event with one argument
    pub fn event(self, namespace: &str, name: &str, argument: &Value) -> Message {
        let data = json!([name, argument]);
        match self {
            Parser::Default => text::write("2", namespace, None, &data),
            Parser::MsgPack => msgpack::write(json!({ "type": 2, "nsp": namespace, "data": data })),
        }
    }

    /// the answer to an event that asked for one
    pub fn ack(self, namespace: &str, id: u64, argument: &Value) -> Message {
        let data = json!([argument]);
        match self {
            Parser::Default => text::write("3", namespace, Some(id), &data),
            Parser::MsgPack => msgpack::write(json!({ "type": 3, "nsp": namespace, "data": data, "id": id })),
        }
    }
}

fn check_namespace(name: &str, bytes_max: usize) -> Result<(), PacketError> {
    if !name.starts_with('/') {
        return Err(Malformed("namespace without a slash"));
    }
    if name.len() > bytes_max {
        return Err(Malformed("namespace too long"));
    }
    if name.contains([',', '?', '#', '"', '{', '[', '\\']) || name.chars().any(|c| c.is_control() || c.is_whitespace())
    {
        return Err(Malformed("namespace with characters that no namespace has"));
    }
    Ok(())
}

fn check_is_array(json: &str) -> Result<(), PacketError> {
    if json.starts_with('[') { Ok(()) } else { Err(Malformed("payload is not an array")) }
}

/// the name of an event, which no parser's own events have
fn name<'a>(json: &'a str, bounds: &PacketBounds) -> Result<NamedAt<'a>, PacketError> {
    check_is_array(json)?;
    let named = locate_first(json).map_err(Malformed)?;
    if named.name.len() > bounds.name_bytes_max {
        return Err(Malformed("event name too long"));
    }
    if RESERVED.contains(&named.name.as_ref()) {
        return Err(Malformed("reserved event name"));
    }
    Ok(named)
}
