//! `socket.io-msgpack-parser`: a packet is a MessagePack map `{type, nsp, data, id}` in one binary message, attachments included.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::ops::Range;
use tokio_tungstenite::tungstenite::Message;

use super::PacketError::{self, Malformed, OutOfPlace};
use super::{
    ACK_ID_MAX, Call, Kind, NamedAt, Packet, PacketBounds, Payload, Reply, ServerPacket, check_is_array,
    check_namespace, name,
};
use crate::protocol::msgpack::{Unreadable, split, to_json_with};

/// `undefined`, as notepack writes it: an extension of type 0
const UNDEFINED: &[u8] = &[0xd4, 0, 0];
const NIL: &[u8] = &[0xc0];

/// a packet, apart from its data
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    #[serde(rename = "type")]
    kind: u8,
    nsp: String,
    id: Option<u64>,
    /// the JavaScript client's own, of no meaning to its server
    #[serde(rename = "options")]
    _options: Option<Options>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(rename = "compress")]
    _compress: Option<bool>,
}

pub fn read(bytes: &[u8], bounds: &PacketBounds) -> Result<Packet<'static>, PacketError> {
    let split = split(bytes, "data").map_err(|Unreadable(flaw)| Malformed(flaw))?;
    let head: Head = serde_json::from_str(&split.rest).map_err(|_| Malformed("not the fields of a packet"))?;
    check_namespace(&head.nsp, bounds.name_bytes_max)?;
    if head.id.is_some_and(|id| id > ACK_ID_MAX) {
        return Err(Malformed("ack id out of range"));
    }
    let data = split.field.filter(|data| ![UNDEFINED, NIL].contains(data));
    let data = data.map(|data| payload(bytes, data, bounds)).transpose()?;
    let kind = match (head.kind, head.id, data) {
        (0, None, None) => Kind::Connect(None),
        (0, None, Some(auth)) if auth.json.starts_with('{') => Kind::Connect(Some(auth)),
        (1, None, None) => Kind::Disconnect,
        (2, ack, Some(payload)) => Kind::Event(call(payload, ack, bounds)?),
        (3, Some(_), Some(payload)) => Kind::Ack(reply(payload)?),
        (0..=3, ..) => return Err(Malformed("ack id or payload out of place")),
        (4, ..) => return Err(OutOfPlace("CONNECT_ERROR is the server's")),
        _ => return Err(Malformed("unknown Socket.IO packet type")),
    };
    Ok(Packet { namespace: Cow::Owned(head.nsp), kind })
}

/// the data as the default parser would write it: binary is a numbered placeholder, so that rules and schemas mean the same
fn payload(packet: &[u8], data: &[u8], bounds: &PacketBounds) -> Result<Payload<'static>, PacketError> {
    let mut number = 0;
    let json = to_json_with(data, |json| {
        if number == bounds.attachments_max {
            return Err(Unreadable("too many attachments"));
        }
        json.push_str(&format!(r#"{{"_placeholder":true,"num":{number}}}"#));
        number += 1;
        Ok(())
    });
    let json = json.map_err(|Unreadable(flaw)| Malformed(flaw))?;
    Ok(Payload { json: Cow::Owned(json), packed_at: Some(place(packet, data)) })
}

fn place(packet: &[u8], data: &[u8]) -> Range<usize> {
    let start = data.as_ptr() as usize - packet.as_ptr() as usize;
    start..start + data.len()
}

fn call(payload: Payload<'static>, ack: Option<u64>, bounds: &PacketBounds) -> Result<Call<'static>, PacketError> {
    let NamedAt { name, at } = name(&payload.json, bounds)?;
    let named = NamedAt { name: Cow::Owned(name.into_owned()), at };
    Ok(Call { payload, named, ack, attachments: 0 })
}

fn reply(payload: Payload<'static>) -> Result<Reply<'static>, PacketError> {
    check_is_array(&payload.json)?;
    Ok(Reply { payload, attachments: 0 })
}

/// of the server's packets, which may have more fields
#[derive(Deserialize)]
struct ServerHead {
    #[serde(rename = "type")]
    kind: u8,
    nsp: String,
}

fn head_of(bytes: &[u8]) -> Option<ServerHead> {
    serde_json::from_str(&split(bytes, "data").ok()?.rest).ok()
}

pub fn read_server(bytes: &[u8]) -> ServerPacket<'static> {
    match head_of(bytes) {
        Some(ServerHead { kind: 0, nsp }) => ServerPacket::Connected(Cow::Owned(nsp)),
        Some(ServerHead { kind: 1, nsp }) => ServerPacket::Disconnected(Cow::Owned(nsp)),
        Some(ServerHead { kind: 4, nsp }) => ServerPacket::ConnectError(Cow::Owned(nsp)),
        Some(_) | None => ServerPacket::Other,
    }
}

/// an unreadable packet is one unless it surely is another
pub fn may_be_connect(bytes: &[u8]) -> bool {
    head_of(bytes).is_none_or(|head| head.kind == 0)
}

pub fn write(packet: Value) -> Message {
    // Strings, numbers, lists and maps of them: nothing that could fail.
    Message::Binary(Bytes::from(rmp_serde::to_vec_named(&packet).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Parser;
    use crate::protocol::msgpack::to_json;
    use crate::protocol::socketio::ClientPacket;
    use serde_json::json;

    const BOUNDS: PacketBounds = PacketBounds { attachments_max: 10, name_bytes_max: 256 };

    fn packed(packet: &Value) -> Vec<u8> {
        rmp_serde::to_vec_named(packet).unwrap()
    }

    fn read_json(packet: &Value) -> Result<Packet<'static>, PacketError> {
        read(&packed(packet), &BOUNDS)
    }

    /// a packet of these fields, each as MessagePack
    fn fields(fields: &[(&str, &[u8])]) -> Vec<u8> {
        let mut packet = vec![0x80 | u8::try_from(fields.len()).unwrap()];
        for (key, value) in fields {
            packet.extend(packed(&json!(key)));
            packet.extend_from_slice(value);
        }
        packet
    }

    #[test]
    fn legal_packets_are_understood() {
        let options = json!({ "compress": true });
        let event = json!({ "type": 2, "data": ["chat", { "n": 1 }], "options": options, "id": 17, "nsp": "/chat" });
        let bytes = packed(&event);
        let Packet { namespace, kind: Kind::Event(call) } = read(&bytes, &BOUNDS).unwrap() else { panic!("no event") };
        assert_eq!((namespace.as_ref(), call.named.name.as_ref(), call.ack), ("/chat", "chat", Some(17)));
        assert_eq!(call.payload.json, r#"["chat",{"n":1}]"#);
        assert_eq!(bytes[call.payload.packed_at.unwrap()], packed(&event["data"]));

        let connect = |auth| read(&fields(&[("type", &[0]), ("nsp", &packed(&json!("/"))), ("data", auth)]), &BOUNDS);
        for nothing in [UNDEFINED, NIL] {
            assert_eq!(connect(nothing).map(|packet| packet.kind), Ok(Kind::Connect(None)));
        }
        assert!(matches!(connect(&packed(&json!({ "token": "x" }))).unwrap().kind, Kind::Connect(Some(_))));
        assert_eq!(read_json(&json!({ "type": 1, "nsp": "/" })).map(|packet| packet.kind), Ok(Kind::Disconnect));
        assert!(matches!(
            read_json(&json!({ "type": 3, "nsp": "/", "data": [], "id": 0 })).unwrap().kind,
            Kind::Ack(_)
        ));
    }

    #[test]
    fn binary_is_a_placeholder_as_with_the_default_parser_and_bounded_like_one() {
        let event = |binaries: usize| {
            let data =
                [&[0xdc, 0, 1 + u8::try_from(binaries).unwrap(), 0xa1, b'b'][..], &[0xc4, 1, 7].repeat(binaries)];
            read(&fields(&[("type", &[2]), ("nsp", &[0xa1, b'/']), ("data", &data.concat())]), &BOUNDS)
        };
        let Ok(Packet { kind: Kind::Event(call), .. }) = event(2) else { panic!("no event") };
        assert_eq!(call.payload.json, r#"["b",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#);
        assert_eq!(call.attachments, 0, "nothing follows");
        assert!(event(10).is_ok());
        assert_eq!(event(11), Err(Malformed("too many attachments")));
    }

    #[test]
    fn s03_s05_s06_s07_s14_everything_else_is_refused() {
        for packet in [
            json!([2, "/", ["chat"]]),
            json!({}),
            json!({ "type": 2, "nsp": "/" }),
            json!({ "type": 2, "data": ["chat"] }),
            json!({ "nsp": "/", "data": ["chat"] }),
            json!({ "type": "2", "nsp": "/", "data": ["chat"] }),
            json!({ "type": 2.0, "nsp": "/", "data": ["chat"] }),
            json!({ "type": -1, "nsp": "/", "data": ["chat"] }),
            json!({ "type": 5, "nsp": "/", "data": ["chat"], "attachments": 1 }),
            json!({ "type": 5, "nsp": "/", "data": ["chat"] }),
            json!({ "type": 2, "nsp": "/", "data": [] }),
            json!({ "type": 2, "nsp": "/", "data": [1] }),
            json!({ "type": 2, "nsp": "/", "data": [null] }),
            json!({ "type": 2, "nsp": "/", "data": [["chat"]] }),
            json!({ "type": 2, "nsp": "/", "data": "chat" }),
            json!({ "type": 2, "nsp": "/", "data": { "0": "chat", "length": 1 } }),
            json!({ "type": 2, "nsp": "/", "data": ["disconnect"] }),
            json!({ "type": 2, "nsp": "/", "data": ["newListener"] }),
            json!({ "type": 2, "nsp": "/", "data": ["chat"], "id": -1 }),
            json!({ "type": 2, "nsp": "/", "data": ["chat"], "id": 1.5 }),
            json!({ "type": 2, "nsp": "/", "data": ["chat"], "id": "1" }),
            json!({ "type": 2, "nsp": "/", "data": ["chat"], "id": 9_007_199_254_740_992_u64 }),
            json!({ "type": 2, "nsp": "/", "data": ["chat"], "extra": 1 }),
            json!({ "type": 2, "nsp": "/", "data": ["chat"], "options": { "toString": 1 } }),
            json!({ "type": 2, "nsp": "chat", "data": ["chat"] }),
            json!({ "type": 2, "nsp": "/a b", "data": ["chat"] }),
            json!({ "type": 2, "nsp": "/a,b", "data": ["chat"] }),
            json!({ "type": 2, "nsp": null, "data": ["chat"] }),
            json!({ "type": 0, "nsp": "/", "data": [] }),
            json!({ "type": 0, "nsp": "/", "data": "x" }),
            json!({ "type": 0, "nsp": "/", "data": {}, "id": 1 }),
            json!({ "type": 1, "nsp": "/", "data": {} }),
            json!({ "type": 3, "nsp": "/", "data": [1] }),
            json!({ "type": 3, "nsp": "/", "data": {}, "id": 1 }),
            json!({ "type": 4, "nsp": "/", "data": { "message": "x" } }),
        ] {
            assert!(read_json(&packet).is_err(), "{packet}");
        }
        let (event, root, data) = (&[2][..], &[0xa1, b'/'][..], &[0x91, 0xa1, b'a'][..]);
        for twice in [("type", &[0][..]), ("nsp", root), ("data", data)] {
            let packet = fields(&[("type", event), ("nsp", root), ("data", data), twice]);
            assert!(read(&packet, &BOUNDS).is_err(), "{twice:?} stands twice");
        }
        let list_as_key =
            [&[0x84, 0x91][..], &packed(&json!("type")), &[2], &fields(&[("nsp", root), ("data", data)])[1..]];
        assert!(read(&list_as_key.concat(), &BOUNDS).is_err(), "JavaScript would make a text of it");
        let whole = fields(&[("type", event), ("nsp", root), ("data", data)]);
        assert!(read(&whole, &BOUNDS).is_ok());
        assert!(read(&[&whole[..], &[0]].concat(), &BOUNDS).is_err(), "bytes behind the packet");
        let text = Message::text(r#"42["chat"]"#);
        assert!(Parser::MsgPack.read(&text, &BOUNDS).is_err(), "the default parser's packet");
        assert_eq!(Parser::MsgPack.read(&Message::text("3"), &BOUNDS), Ok(ClientPacket::Pong), "Engine.IO's own stay");
    }

    #[test]
    fn what_the_server_says_of_its_namespaces_is_seen() {
        let read = |packet: Value| format!("{:?}", read_server(&packed(&packet)));
        assert_eq!(read(json!({ "type": 0, "data": { "sid": "a" }, "nsp": "/chat" })), r#"Connected("/chat")"#);
        assert_eq!(read(json!({ "type": 1, "nsp": "/", "more": 1 })), r#"Disconnected("/")"#);
        assert_eq!(read(json!({ "type": 4, "nsp": "/", "data": { "message": "no" } })), r#"ConnectError("/")"#);
        assert_eq!(read(json!({ "type": 2, "nsp": "/", "data": ["x"] })), "Other");
        assert_eq!(read(json!(7)), "Other");
    }

    #[test]
    fn answers_have_the_form_that_clients_read() {
        let json = |message: Message| to_json(&message.into_data()).unwrap();
        let parser = Parser::MsgPack;
        assert_eq!(json(parser.event("/", "error", &json!(1))), r#"{"data":["error",1],"nsp":"/","type":2}"#);
        assert_eq!(json(parser.ack("/chat", 7, &json!(1))), r#"{"data":[1],"id":7,"nsp":"/chat","type":3}"#);
        let refused = json(parser.connect_error("/", "no", json!({ "reason": "x" })));
        assert_eq!(refused, r#"{"data":{"data":{"reason":"x"},"message":"no"},"nsp":"/","type":4}"#);
    }

    #[test]
    fn r15_only_what_surely_is_no_connect_is_kept() {
        let may_be = |bytes: &[u8]| Parser::MsgPack.may_be_connect(&Message::binary(bytes.to_vec()));
        assert!(may_be(&packed(&json!({ "type": 0, "nsp": "/", "data": "token" }))));
        assert!(may_be(&packed(&json!({ "nsp": "/", "data": { "token": "x" } }))));
        assert!(may_be(b"token") && may_be(&[]));
        assert!(!may_be(&packed(&json!({ "type": 2, "nsp": "/", "data": [] }))));
    }
}
