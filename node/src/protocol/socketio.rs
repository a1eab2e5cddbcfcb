//! Engine.IO 4 over WebSocket and Socket.IO 5: a strict reading of what clients send, and the packets that Picket sends.
//!
//! Grammar: socket.io-protocol v5, `<type>[<attachments>-][<namespace>,][<ack id>][JSON]` behind Engine.IO's message type `4`.
//! What is not fully understood is an error, never passed on: parsers that differ here were CVE-2022-2421, CVE-2023-32695
//! and their kin.

use serde_json::{Value, json};
use std::borrow::Cow;

use super::{NamedAt, locate_first};

/// the largest ack id that every JavaScript client can hold, 2^53 − 1
const ACK_ID_MAX: u64 = (1 << 53) - 1;
/// event names that clients and servers keep for themselves (socket.io-parser `RESERVED_EVENTS`, and Node's emitter)
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// an Engine.IO packet that a client may send over a WebSocket
#[derive(Debug, PartialEq, Eq)]
pub enum ClientPacket<'a> {
    Close,
    Pong,
    Message(Packet<'a>),
}

/// a Socket.IO packet of a client
#[derive(Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub namespace: &'a str,
    pub kind: Kind<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// the `auth` object as JSON, if there is one
    Connect(Option<&'a str>),
    Disconnect,
    Event(Call<'a>),
    Ack(Reply<'a>),
}

/// an event: `["name", …]`
#[derive(Debug, PartialEq, Eq)]
pub struct Call<'a> {
    pub json: &'a str,
    pub named: NamedAt<'a>,
    pub ack: Option<u64>,
    /// binary messages that follow
    pub attachments: usize,
}

/// the answer to an event of the server
#[derive(Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    pub json: &'a str,
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

pub fn read<'a>(text: &'a str, bounds: &PacketBounds) -> Result<ClientPacket<'a>, PacketError> {
    match text.as_bytes() {
        [] => Err(Malformed("empty packet")),
        b"1" => Ok(ClientPacket::Close),
        b"3" => Ok(ClientPacket::Pong),
        [b'4', ..] => packet(&text[1..], bounds).map(ClientPacket::Message),
        [b'0' | b'1' | b'2' | b'3' | b'5' | b'6', ..] => {
            Err(OutOfPlace("an Engine.IO packet that only servers or polling clients send"))
        }
        _ => Err(Malformed("unknown Engine.IO packet type")),
    }
}

fn packet<'a>(text: &'a str, bounds: &PacketBounds) -> Result<Packet<'a>, PacketError> {
    let kind = *text.as_bytes().first().ok_or(Malformed("empty Socket.IO packet"))?;
    let rest = text.get(1..).ok_or(Malformed("unknown Socket.IO packet type"))?;
    let (attachments, rest) = match kind {
        b'5' | b'6' => attachments(rest, bounds.attachments_max)?,
        _ => (0, rest),
    };
    let (namespace, rest) = namespace(rest, bounds.name_bytes_max)?;
    let (ack, json) = ack_id(rest)?;
    let kind = match (kind, ack) {
        (b'0', None) => Kind::Connect(auth(json)?),
        (b'1', None) if json.is_empty() => Kind::Disconnect,
        (b'2' | b'5', ack) => Kind::Event(call(json, ack, attachments, bounds)?),
        (b'3' | b'6', Some(_)) => Kind::Ack(reply(json, attachments)?),
        (b'0' | b'1' | b'3' | b'6', _) => return Err(Malformed("ack id or payload out of place")),
        (b'4', _) => return Err(OutOfPlace("CONNECT_ERROR is the server's")),
        _ => return Err(Malformed("unknown Socket.IO packet type")),
    };
    Ok(Packet { namespace, kind })
}

/// `<digits>-`: no sign, no leading zero, at least one and at most the bound
fn attachments(text: &str, max: usize) -> Result<(usize, &str), PacketError> {
    let (digits, rest) = text.split_once('-').ok_or(Malformed("no number of attachments"))?;
    let number = plain_number(digits).ok_or(Malformed("attachments are not a number"))?;
    match usize::try_from(number) {
        Ok(0) => Err(Malformed("a binary packet without attachments")),
        Ok(number) if number <= max => Ok((number, rest)),
        _ => Err(Malformed("too many attachments")),
    }
}

fn plain_number(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty()
        && digits.len() <= 16
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    plain.then(|| digits.parse().ok()).flatten()
}

/// `/name,` or nothing; a namespace alone may end the packet
fn namespace(text: &str, bytes_max: usize) -> Result<(&str, &str), PacketError> {
    if !text.starts_with('/') {
        return Ok(("/", text));
    }
    let (name, rest) = text.split_once(',').unwrap_or((text, ""));
    if name.len() > bytes_max {
        return Err(Malformed("namespace too long"));
    }
    if name.contains(['?', '#', '"', '{', '[', '\\']) || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Malformed("namespace with characters that no namespace has"));
    }
    Ok((name, rest))
}

fn ack_id(text: &str) -> Result<(Option<u64>, &str), PacketError> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    if end == 0 {
        return Ok((None, text));
    }
    let id = plain_number(&text[..end]).filter(|id| *id <= ACK_ID_MAX).ok_or(Malformed("ack id out of range"))?;
    Ok((Some(id), &text[end..]))
}

/// nothing or an object; its inside is read by whoever looks for the token
fn auth(json: &str) -> Result<Option<&str>, PacketError> {
    match json.as_bytes().first() {
        None => Ok(None),
        Some(b'{') => Ok(Some(json)),
        Some(_) => Err(Malformed("CONNECT payload is not an object")),
    }
}

fn call<'a>(
    json: &'a str,
    ack: Option<u64>,
    attachments: usize,
    bounds: &PacketBounds,
) -> Result<Call<'a>, PacketError> {
    if !json.starts_with('[') {
        return Err(Malformed("payload is not an array"));
    }
    let named = locate_first(json).map_err(Malformed)?;
    if named.name.len() > bounds.name_bytes_max {
        return Err(Malformed("event name too long"));
    }
    if RESERVED.contains(&named.name.as_ref()) {
        return Err(Malformed("reserved event name"));
    }
    check_placeholders(json, attachments)?;
    Ok(Call { json, named, ack, attachments })
}

fn reply(json: &str, attachments: usize) -> Result<Reply<'_>, PacketError> {
    if !json.starts_with('[') {
        return Err(Malformed("payload is not an array"));
    }
    check_placeholders(json, attachments)?;
    Ok(Reply { json, attachments })
}

/// every attachment has exactly one placeholder, numbered within the attachments (CVE-2022-2421)
fn check_placeholders(json: &str, attachments: usize) -> Result<(), PacketError> {
    if attachments == 0 {
        return Ok(());
    }
    let value: Value = serde_json::from_str(json).map_err(|_| Malformed("payload is not JSON"))?;
    let mut seen = vec![false; attachments];
    let mut open = vec![&value];
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(members) if members.get("_placeholder") == Some(&Value::Bool(true)) => {
                let number = members.get("num").and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
                let place = number
                    .and_then(|number| seen.get_mut(number))
                    .ok_or(Malformed("placeholder without attachment"))?;
                if members.len() != 2 || std::mem::replace(place, true) {
                    return Err(Malformed("placeholder with more than a number, or twice"));
                }
            }
            Value::Object(members) => open.extend(members.values()),
            _ => {}
        }
    }
    if seen.into_iter().all(|seen| seen) { Ok(()) } else { Err(Malformed("attachment without placeholder")) }
}

/// what the upstream's packets change for Picket; all others are passed on unread
#[derive(Debug, PartialEq, Eq)]
pub enum ServerPacket<'a> {
    /// Engine.IO's handshake: from here on it is the client's turn
    Open,
    /// Engine.IO's heartbeat, to be answered once
    Ping,
    Connected(&'a str),
    Disconnected(&'a str),
    ConnectError(&'a str),
    Other,
}

pub fn read_server(text: &str) -> ServerPacket<'_> {
    match text.as_bytes() {
        [b'0', ..] => ServerPacket::Open,
        b"2" => ServerPacket::Ping,
        [b'4', b'0', ..] => ServerPacket::Connected(server_namespace(&text[2..])),
        [b'4', b'1', ..] => ServerPacket::Disconnected(server_namespace(&text[2..])),
        [b'4', b'4', ..] => ServerPacket::ConnectError(server_namespace(&text[2..])),
        _ => ServerPacket::Other,
    }
}

fn server_namespace(rest: &str) -> &str {
    match rest.starts_with('/') {
        true => rest.split_once(',').map_or(rest, |(name, _)| name),
        false => "/",
    }
}

fn prefix(namespace: &str) -> Cow<'static, str> {
    match namespace {
        "/" => Cow::Borrowed(""),
        other => Cow::Owned(format!("{other},")),
    }
}

/// CONNECT_ERROR
pub fn connect_error(namespace: &str, message: &str, data: Value) -> String {
    format!("44{}{}", prefix(namespace), json!({ "message": message, "data": data }))
}

/// an event with one argument
pub fn event(namespace: &str, name: &str, argument: &Value) -> String {
    format!("42{}{}", prefix(namespace), json!([name, argument]))
}

/// the answer to an event that asked for one
pub fn ack(namespace: &str, id: u64, argument: &Value) -> String {
    format!("43{}{id}{}", prefix(namespace), json!([argument]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: PacketBounds = PacketBounds { attachments_max: 10, name_bytes_max: 256 };

    fn read_event(text: &str) -> (String, String, Option<u64>, usize) {
        match read(text, &BOUNDS) {
            Ok(ClientPacket::Message(Packet { namespace, kind: Kind::Event(call) })) => {
                (namespace.to_owned(), call.named.name.into_owned(), call.ack, call.attachments)
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn legal_packets_are_understood() {
        assert_eq!(read_event(r#"42["chat",1]"#), ("/".into(), "chat".into(), None, 0));
        assert_eq!(read_event(r#"42/chat,["chat",1]"#), ("/chat".into(), "chat".into(), None, 0));
        assert_eq!(read_event(r#"42/chat,17["chat"]"#), ("/chat".into(), "chat".into(), Some(17), 0));
        assert_eq!(read_event(r#"451-0["b",{"_placeholder":true,"num":0}]"#), ("/".into(), "b".into(), Some(0), 1));
        let connect = |text| read(text, &BOUNDS);
        assert_eq!(connect("40"), Ok(ClientPacket::Message(Packet { namespace: "/", kind: Kind::Connect(None) })));
        assert_eq!(
            connect("40/chat,"),
            Ok(ClientPacket::Message(Packet { namespace: "/chat", kind: Kind::Connect(None) }))
        );
        assert_eq!(
            connect(r#"40{"token":"x"}"#),
            Ok(ClientPacket::Message(Packet { namespace: "/", kind: Kind::Connect(Some(r#"{"token":"x"}"#)) }))
        );
        assert_eq!(
            connect("41/chat,"),
            Ok(ClientPacket::Message(Packet { namespace: "/chat", kind: Kind::Disconnect }))
        );
        assert!(matches!(connect("430[1]"), Ok(ClientPacket::Message(Packet { kind: Kind::Ack(_), .. }))));
        assert_eq!(connect("3"), Ok(ClientPacket::Pong));
        assert_eq!(connect("1"), Ok(ClientPacket::Close));
    }

    #[test]
    fn s03_s04_s05_s06_s07_s14_everything_else_is_refused() {
        for text in [
            "",
            "4",
            "4é",
            "4😀[]",
            "7",
            "x",
            "47",
            "49[]",
            "42",
            "42{}",
            "42[]",
            "42[1]",
            "42[null,1]",
            "42[{\"a\":1}]",
            "42\"chat\"",
            "42[\"chat\"",
            "42[\"connect\"]",
            "42[\"disconnect\"]",
            "42[\"connect_error\"]",
            "42[\"disconnecting\"]",
            "42[\"newListener\"]",
            "42[\"removeListener\"]",
            "42[\"\\u0063onnect\"]",
            "4299999999999999999[\"a\"]",
            "429007199254740992[\"a\"]",
            "4207[\"a\"]",
            "42-1[\"a\"]",
            "42 [\"a\"]",
            "42/ns[\"a\"]",
            "42/n s,[\"a\"]",
            "42/ns?x=1,[\"a\"]",
            "40[]",
            "40\"x\"",
            "4012{}",
            "41{}",
            "43[1]",
            "430{}",
            "450-[\"b\"]",
            "4511-[\"b\"]",
            "45-[\"b\"]",
            "4501-[\"b\",{\"_placeholder\":true,\"num\":0}]",
            "451-[\"b\"]",
            "451-[\"b\",{\"_placeholder\":true,\"num\":1}]",
            "451-[\"b\",{\"_placeholder\":true,\"num\":-1}]",
            "451-[\"b\",{\"_placeholder\":true,\"num\":\"splice\"}]",
            "451-[\"b\",{\"_placeholder\":true}]",
            "452-[\"b\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":0}]",
            "44{\"message\":\"x\"}",
            "0{}",
            "2",
            "2probe",
            "3probe",
            "5",
            "6",
            "1x",
        ] {
            assert!(read(text, &BOUNDS).is_err(), "{text}");
        }
    }

    #[test]
    fn what_the_server_says_of_its_namespaces_is_seen() {
        assert_eq!(read_server(r#"40{"sid":"a"}"#), ServerPacket::Connected("/"));
        assert_eq!(read_server(r#"40/chat,{"sid":"a"}"#), ServerPacket::Connected("/chat"));
        assert_eq!(read_server("41/chat,"), ServerPacket::Disconnected("/chat"));
        assert_eq!(read_server(r#"44{"message":"no"}"#), ServerPacket::ConnectError("/"));
        assert_eq!(read_server(r#"42["x"]"#), ServerPacket::Other);
        assert_eq!(read_server("2"), ServerPacket::Ping);
        assert_eq!(read_server(r#"0{"sid":"x"}"#), ServerPacket::Open);
    }

    #[test]
    fn answers_have_the_form_that_clients_read() {
        assert_eq!(connect_error("/", "no", json!({"reason": "x"})), r#"44{"data":{"reason":"x"},"message":"no"}"#);
        assert_eq!(event("/chat", "error", &json!(1)), r#"42/chat,["error",1]"#);
        assert_eq!(ack("/chat", 7, &json!(1)), r#"43/chat,7[1]"#);
    }
}
