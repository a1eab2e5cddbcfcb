//! The codecs beside an independent implementation (socketioxide): what Picket passes on, a server understands as Picket did.
//! Picket may refuse what the other takes, never the other way round.

use bytes::Bytes;
use engineioxide_core::payload::decoder;
use engineioxide_core::{Packet as EnginePacket, ProtocolVersion};
use futures_util::{FutureExt, StreamExt};
use http_body_util::Full;
use proptest::prelude::*;
use serde_json::{Value, json};
use socketioxide_core::packet::{Packet as OtherPacket, PacketData};
use socketioxide_core::parser::{Parse, ParseConfig, ParseError, ParserState};
use socketioxide_core::{Str, Value as OtherValue};
use socketioxide_parser_common::CommonParser;
use socketioxide_parser_msgpack::MsgPackParser;
use tokio_tungstenite::tungstenite::Message;

use super::payload;
use super::socketio::{ClientPacket, Kind, PacketBounds};
use crate::config::Parser;
use crate::content::{Bounds, scan};

const BOUNDS: PacketBounds = PacketBounds { attachments_max: 10, name_bytes_max: 256 };

/// a packet in words that both have
#[derive(Debug, PartialEq)]
struct Understood {
    kind: &'static str,
    namespace: String,
    name: Option<String>,
    ack: Option<u64>,
    attachments: usize,
    data: Option<Vec<u8>>,
}

/// what Picket would pass on
fn ours(parser: Parser, message: &Message) -> Option<Understood> {
    let Ok(ClientPacket::Message(packet)) = parser.read(message, &BOUNDS) else { return None };
    let (kind, name, ack, attachments, data) = match packet.kind {
        Kind::Connect(auth) => ("connect", None, None, 0, auth),
        Kind::Disconnect => ("disconnect", None, None, 0, None),
        Kind::Event(call) => {
            ("event", Some(call.named.name.into_owned()), call.ack, call.attachments, Some(call.payload))
        }
        // Whom it answers is not read: that is between client and server.
        Kind::Ack(reply) => ("ack", None, None, reply.attachments, Some(reply.payload)),
    };
    let bounds = Bounds { max_depth: 64, max_keys: 10_000, max_text_chars: 10_000 };
    // The codec leaves the strict reading of the JSON to the payload check.
    if data.as_ref().is_some_and(|payload| scan(&payload.json, &bounds, None).is_err()) {
        return None;
    }
    let data = data.map(|payload| match (payload.packed_at, message) {
        (Some(at), Message::Binary(frame)) => frame[at].to_vec(),
        _ => payload.json.into_owned().into_bytes(),
    });
    Some(Understood { kind, namespace: packet.namespace.into_owned(), name, ack, attachments, data })
}

/// the same message as the other server reads it
fn theirs(message: &Message) -> Result<Understood, String> {
    let (config, state) = (ParseConfig::default(), ParserState::default());
    match message {
        Message::Text(text) => match EnginePacket::parse(ProtocolVersion::V4, Str::from(text.as_str().to_owned())) {
            Ok(EnginePacket::Message(text)) => {
                let packet = match CommonParser.decode_str(&config, &state, text) {
                    Err(ParseError::NeedsMoreBinaryData) => {
                        state.partial_bin_packet.lock().unwrap().take().ok_or("no packet is kept")?.packet
                    }
                    other => other.map_err(|error| error.to_string())?,
                };
                let attachments = state.incoming_binary_cnt.into_inner();
                Ok(in_our_words(packet, attachments, |value| event_name(CommonParser, value)))
            }
            other => Err(format!("{other:?}")),
        },
        Message::Binary(bytes) => {
            let packet = MsgPackParser.decode_bin(&config, &state, bytes.clone()).map_err(|error| error.to_string())?;
            Ok(in_our_words(packet, 0, |value| event_name(MsgPackParser, value)))
        }
        _ => Err("no message".into()),
    }
}

fn event_name(parser: impl Parse, value: &OtherValue) -> Option<String> {
    // It borrows names, and so does not read those with escapes.
    parser.read_event(value).ok().map(str::to_owned)
}

fn in_our_words(packet: OtherPacket, attachments: usize, name: impl Fn(&OtherValue) -> Option<String>) -> Understood {
    let (kind, name, ack, data) = match packet.inner {
        PacketData::Connect(auth) => ("connect", None, None, auth),
        PacketData::Disconnect => ("disconnect", None, None, None),
        PacketData::Event(value, ack) | PacketData::BinaryEvent(value, ack) => {
            ("event", name(&value), ack, Some(value))
        }
        PacketData::EventAck(value, _) | PacketData::BinaryAck(value, _) => ("ack", None, None, Some(value)),
        PacketData::ConnectError(_) => ("connect_error", None, None, None),
    };
    let data = data.map(|value| match value {
        OtherValue::Str(text, _) => text.as_bytes().to_vec(),
        OtherValue::Bytes(bytes) => bytes.to_vec(),
    });
    // What stands for nothing in MessagePack.
    let data = data.filter(|data| kind != "connect" || data != &[0xc0]);
    let ack = ack.map(|id| u64::try_from(id).unwrap());
    Understood { kind, namespace: packet.ns.as_str().to_owned(), name, ack, attachments, data }
}

/// fails where both take the message and differ, or only the other refuses
fn agree(parser: Parser, message: &Message) -> Result<bool, TestCaseError> {
    let Some(ours) = ours(parser, message) else { return Ok(false) };
    let mut theirs =
        theirs(message).map_err(|why| TestCaseError::fail(format!("only Picket takes {message:?}: {why}")))?;
    if theirs.name.is_none() && ours.data.as_ref().is_some_and(|data| data.contains(&b'\\')) {
        theirs.name.clone_from(&ours.name);
    }
    prop_assert_eq!(ours, theirs, "{:?}", message);
    Ok(true)
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z:]{1,8}", "\\PC{0,12}", Just("connect".to_owned()), any::<String>()]
}

fn namespace() -> impl Strategy<Value = String> {
    prop_oneof![Just("/".to_owned()), "/[a-z]{1,6}", "/[a-z0-9/_-]{0,12}"]
}

fn data() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z_$\u{e9}]{0,6}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

prop_compose! {
    fn arguments()(name in name(), data in prop::collection::vec(data(), 0..3)) -> Vec<Value> {
        std::iter::once(Value::from(name)).chain(data).collect()
    }
}

fn ack() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(prop_oneof![0_u64..1000, Just((1 << 53) - 1), Just(1_u64 << 53)])
}

prop_compose! {
    /// of the default parser
    fn text()(
        kind in 0..7_u8,
        attachments in 0..4_usize,
        namespace in namespace(),
        ack in ack(),
        arguments in arguments(),
    ) -> String {
        let is_binary = kind >= 5;
        let placeholders = (0..attachments).map(|num| json!({ "_placeholder": true, "num": num }));
        let arguments: Vec<_> = arguments.into_iter().chain(placeholders.filter(|_| is_binary)).collect();
        let attachments = if is_binary { format!("{attachments}-") } else { String::new() };
        let namespace = if namespace == "/" { String::new() } else { format!("{namespace},") };
        let ack = ack.map(|id| id.to_string()).unwrap_or_default();
        match kind {
            0 => format!("40{namespace}{}", json!({ "token": arguments })),
            1 => format!("41{namespace}"),
            _ => format!("4{kind}{attachments}{namespace}{ack}{}", Value::from(arguments)),
        }
    }
}

prop_compose! {
    /// of `socket.io-msgpack-parser`
    fn packed()(
        kind in 0..6_u8,
        namespace in namespace(),
        ack in ack(),
        arguments in arguments(),
        without in prop::sample::subsequence(vec!["type", "nsp", "data", "id"], 0..2),
    ) -> Vec<u8> {
        let data = match kind {
            0 => json!({ "token": arguments }),
            1 => Value::Null,
            _ => Value::from(arguments),
        };
        let mut packet = json!({ "type": kind, "nsp": namespace, "data": data, "options": { "compress": true } });
        if let Some(ack) = ack {
            packet["id"] = ack.into();
        }
        packet.as_object_mut().unwrap().retain(|key, _| !without.contains(&key.as_str()));
        rmp_serde::to_vec_named(&packet).unwrap()
    }
}

/// what stands in packets, put where it does not belong
fn scrap() -> impl Strategy<Value = String> {
    const SCRAPS: &[&str] = &[
        "0", "1", "2", "5", "6", "-", "1-", ",", "/", "/a,", "?", "[", "]", "{", "}", "\"", "\\", " ", "\u{1e}", "é",
        "\0",
    ];
    prop_oneof![prop::sample::select(SCRAPS).prop_map(str::to_owned), "\\PC{0,3}"]
}

/// the text with scraps in places of pieces of it
fn spoilt(text: String, edits: &[(prop::sample::Index, usize, String)]) -> String {
    edits.iter().fold(text, |text, (at, length, scrap)| {
        let mut characters: Vec<_> = text.chars().collect();
        let at = at.index(characters.len() + 1);
        let end = (at + length).min(characters.len());
        characters.splice(at..end, scrap.chars());
        characters.into_iter().collect()
    })
}

fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, String)>> {
    prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize, scrap()), 1..4)
}

/// how Engine.IO's packets of a body are read, up to the first that cannot be
fn their_packets(body: &str) -> Vec<EnginePacket> {
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    let packets = decoder(body, None, ProtocolVersion::V4, 1_000_000).collect::<Vec<_>>();
    packets.now_or_never().expect("a body that is there").into_iter().map_while(Result::ok).collect()
}

fn same_bodies(body: &str) -> Result<(), TestCaseError> {
    let Ok(messages) = payload::read(body, 1000) else { return Ok(()) };
    let ours = messages.into_iter().map_while(|message| match message {
        Message::Text(text) => EnginePacket::parse(ProtocolVersion::V4, Str::from(text.as_str().to_owned())).ok(),
        Message::Binary(bytes) => Some(EnginePacket::Binary(bytes)),
        _ => None,
    });
    prop_assert_eq!(ours.collect::<Vec<_>>(), their_packets(body));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn s07_a_text_packet_has_one_reading(text in text(), edits in edits()) {
        agree(Parser::Default, &Message::text(text.as_str()))?;
        agree(Parser::Default, &Message::text(spoilt(text, &edits)))?;
    }

    #[test]
    fn s07_a_packed_packet_has_one_reading(packet in packed(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        agree(Parser::MsgPack, &Message::binary(packet.clone()))?;
        let mut spoilt = packet;
        for (at, byte) in edits {
            let at = at.index(spoilt.len());
            spoilt[at] = byte;
        }
        agree(Parser::MsgPack, &Message::binary(spoilt))?;
    }

    #[test]
    fn s07_s09_a_body_has_the_packets_that_a_server_finds(
        texts in prop::collection::vec(prop_oneof![text(), "b[A-Za-z0-9+/=]{0,12}", "[1-6](probe)?"], 1..6),
        edits in edits(),
    ) {
        let body = texts.join("\u{1e}");
        same_bodies(&body)?;
        same_bodies(&spoilt(body, &edits))?;
    }
}

#[test]
fn the_generators_make_packets_that_are_passed_on() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut passed = |packets: BoxedStrategy<(Parser, Message)>| {
        (0..200)
            .filter(|_| {
                packets.new_tree(&mut runner).is_ok_and(|packet| {
                    let (parser, message) = packet.current();
                    agree(parser, &message).unwrap()
                })
            })
            .count()
    };
    let texts = passed(text().prop_map(|text| (Parser::Default, Message::text(text))).boxed());
    let packed = passed(packed().prop_map(|packet| (Parser::MsgPack, Message::binary(packet))).boxed());
    assert!(texts > 30 && packed > 30, "of 200, {texts} texts and {packed} packed packets");
}
