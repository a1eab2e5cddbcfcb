//! The default parser of Socket.IO, `<type>[<attachments>-][<namespace>,][<ack id>][JSON]` (socket.io-protocol v5), behind
//! Engine.IO's message type.

use serde_json::Value;
use std::borrow::Cow;
use tokio_tungstenite::tungstenite::Message;

use super::PacketError::{self, Malformed, OutOfPlace};
use super::{
    ACK_ID_MAX, Call, Kind, Packet, PacketBounds, Payload, Reply, ServerPacket, check_is_array, check_namespace, name,
};

pub fn read<'a>(text: &'a str, bounds: &PacketBounds) -> Result<Packet<'a>, PacketError> {
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
    Ok(Packet { namespace: Cow::Borrowed(namespace), kind })
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
    check_namespace(name, bytes_max)?;
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
fn auth(json: &str) -> Result<Option<Payload<'_>>, PacketError> {
    match json.as_bytes().first() {
        None => Ok(None),
        Some(b'{') => Ok(Some(payload(json))),
        Some(_) => Err(Malformed("CONNECT payload is not an object")),
    }
}

fn call<'a>(
    json: &'a str,
    ack: Option<u64>,
    attachments: usize,
    bounds: &PacketBounds,
) -> Result<Call<'a>, PacketError> {
    let named = name(json, bounds)?;
    check_placeholders(json, attachments)?;
    Ok(Call { payload: payload(json), named, ack, attachments })
}

fn reply(json: &str, attachments: usize) -> Result<Reply<'_>, PacketError> {
    check_is_array(json)?;
    check_placeholders(json, attachments)?;
    Ok(Reply { payload: payload(json), attachments })
}

fn payload(json: &str) -> Payload<'_> {
    Payload { json: Cow::Borrowed(json), packed_at: None }
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

pub fn read_server(text: &str) -> ServerPacket<'_> {
    match text.as_bytes() {
        [b'0', ..] => ServerPacket::Connected(server_namespace(&text[1..])),
        [b'1', ..] => ServerPacket::Disconnected(server_namespace(&text[1..])),
        [b'4', ..] => ServerPacket::ConnectError(server_namespace(&text[1..])),
        _ => ServerPacket::Other,
    }
}

fn server_namespace(rest: &str) -> Cow<'_, str> {
    Cow::Borrowed(match rest.starts_with('/') {
        true => rest.split_once(',').map_or(rest, |(name, _)| name),
        false => "/",
    })
}

/// a packet without attachments
pub fn write(kind: &str, namespace: &str, ack: Option<u64>, data: &Value) -> Message {
    let namespace = if namespace == "/" { String::new() } else { format!("{namespace},") };
    let ack = ack.map(|id| id.to_string()).unwrap_or_default();
    Message::text(format!("4{kind}{namespace}{ack}{data}"))
}

#[cfg(test)]
mod tests {
    use super::super::ClientPacket;
    use super::*;
    use crate::config::Parser;
    use serde_json::json;

    const BOUNDS: PacketBounds = PacketBounds { attachments_max: 10, name_bytes_max: 256 };

    fn read_event(text: &str) -> (String, String, Option<u64>, usize) {
        match Parser::Default.read(&Message::text(text), &BOUNDS) {
            Ok(ClientPacket::Message(Packet { namespace, kind: Kind::Event(call) })) => {
                (namespace.into_owned(), call.named.name.into_owned(), call.ack, call.attachments)
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
        let connect =
            |namespace: &'static str, auth| Ok(Packet { namespace: namespace.into(), kind: Kind::Connect(auth) });
        assert_eq!(read("0", &BOUNDS), connect("/", None));
        assert_eq!(read("0/chat,", &BOUNDS), connect("/chat", None));
        assert_eq!(read(r#"0{"token":"x"}"#, &BOUNDS), connect("/", Some(payload(r#"{"token":"x"}"#))));
        assert_eq!(read("1/chat,", &BOUNDS), Ok(Packet { namespace: "/chat".into(), kind: Kind::Disconnect }));
        assert!(matches!(read("30[1]", &BOUNDS), Ok(Packet { kind: Kind::Ack(_), .. })));
        assert_eq!(Parser::Default.read(&Message::text("3"), &BOUNDS), Ok(ClientPacket::Pong));
        assert_eq!(Parser::Default.read(&Message::text("1"), &BOUNDS), Ok(ClientPacket::Close));
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
            assert!(Parser::Default.read(&Message::text(text), &BOUNDS).is_err(), "{text}");
        }
    }

    #[test]
    fn what_the_server_says_of_its_namespaces_is_seen() {
        let read = |text: &str| format!("{:?}", Parser::Default.read_server(&Message::text(text)));
        assert_eq!(read(r#"40{"sid":"a"}"#), r#"Connected("/")"#);
        assert_eq!(read(r#"40/chat,{"sid":"a"}"#), r#"Connected("/chat")"#);
        assert_eq!(read("41/chat,"), r#"Disconnected("/chat")"#);
        assert_eq!(read(r#"44{"message":"no"}"#), r#"ConnectError("/")"#);
        assert_eq!(read(r#"42["x"]"#), "Other");
        assert_eq!(read("2"), "Ping");
        assert_eq!(read(r#"0{"sid":"x"}"#), "Open");
    }

    #[test]
    fn answers_have_the_form_that_clients_read() {
        let parser = Parser::Default;
        let refused = parser.connect_error("/", "no", json!({"reason": "x"}));
        assert_eq!(refused, Message::text(r#"44{"data":{"reason":"x"},"message":"no"}"#));
        assert_eq!(parser.event("/chat", "error", &json!(1)), Message::text(r#"42/chat,["error",1]"#));
        assert_eq!(parser.ack("/chat", 7, &json!(1)), Message::text(r#"43/chat,7[1]"#));
    }
}
