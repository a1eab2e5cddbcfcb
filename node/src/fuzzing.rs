//! What holds of whatever bytes come from outside: one law per door, for `cargo fuzz` and for the committed corpora.
//!
//! Not part of the node: compiled for tests, and under `cfg(fuzzing)` for the targets in `fuzz/`.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use picket_shared::clock::Timestamp;
use picket_shared::window::Quota;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::cell::Cell;
use std::convert::Infallible;
use std::io::{Cursor, Read, Write};
use std::net::IpAddr;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};

use crate::attempt::{Attempt, ClaimedOrigin};
use crate::config::{Limits, RouteConfig};
use crate::content::{self, Bounds};
use crate::forwarded;
use crate::framing::{Framing, Watched};
use crate::handshake::{self, Wish};
use crate::protocol::frames::{FrameBounds, FrameScanner};
use crate::protocol::socketio::{ClientPacket, Kind, PacketBounds};
use crate::protocol::{msgpack, payload, socketio};
use crate::proxy_protocol::{self, HEADER_BYTES_MAX, Named, Opening};
use crate::route::{Route, is_ambiguous};

type Law = fn(&[u8]);

/// every law by the name of its corpus
pub const LAWS: [(&str, Law); 8] = [
    ("handshake", handshake),
    ("frames", frames),
    ("engine_io", engine_io),
    ("socket_io", socket_io),
    ("json", json),
    ("msgpack", msgpack),
    ("forwarded", forwarded),
    ("proxy_header", proxy_header),
];

const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);
const ROOMY: Bounds = Bounds { max_depth: usize::MAX, max_keys: usize::MAX, max_text_chars: usize::MAX };

/// bytes as HTTP/1: what comes through as a WebSocket's handshake is one, and no request has two lengths
pub fn handshake(bytes: &[u8]) {
    let framing = Framing::default();
    let seen = Cell::new(0);
    let service = service_fn(|request: Request<Incoming>| {
        let (head, _) = request.into_parts();
        if !framing.is_ambiguous() {
            assert!(seen.get() > 0 || !has_two_lengths(bytes), "two lengths came through");
            judged_as_it_stands(&head);
        }
        seen.set(seen.get() + 1);
        async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) }
    });
    let io = tokio::io::join(bytes, tokio::io::sink());
    let limits = Limits::default();
    let connection = hyper::server::conn::http1::Builder::new()
        .max_headers(limits.headers_max)
        .max_buf_size(limits.header_bytes_max)
        .serve_connection(TokioIo::new(Watched::new(io, framing.clone())), service);
    let ended = futures_util::FutureExt::now_or_never(connection);
    assert!(ended.is_some(), "a connection waits for bytes behind its end");
}

fn judged_as_it_stands(head: &http::request::Parts) {
    let judged = handshake::judge(head);
    if let Ok(Wish::WebSocket { key }) = &judged {
        assert_eq!((&head.method, head.version), (&http::Method::GET, http::Version::HTTP_11));
        assert_eq!(head.headers.get_all("sec-websocket-key").iter().collect::<Vec<_>>(), [key]);
        assert_eq!(head.headers.get_all("host").iter().count(), 1);
    }
    if judged.is_ok() {
        assert!(!is_ambiguous(head.uri.path()), "{}", head.uri);
        let mut headers = head.headers.clone();
        forwarded::remove_hop_by_hop(&mut headers);
        assert!(!headers.contains_key("connection") && !headers.contains_key("transfer-encoding"));
    }
    handshake::origin(&head.headers);
    handshake::host(&head.uri, &head.headers);
    handshake::polled_session(head);
    if let Ok(asked) = handshake::engine_io(head, &socket_io_route()) {
        assert!(head.uri.query().is_some_and(|query| query.contains("EIO=") || query.contains('%')), "{asked:?}");
    }
}

fn socket_io_route() -> Route {
    let config = json!({ "path": "/socket.io/", "upstream": "http://127.0.0.1:1", "protocol": "socketio" });
    let route = serde_json::from_value::<RouteConfig>(config).ok().and_then(|config| Route::new(&config).ok());
    #[expect(clippy::unwrap_used, reason = "it is the law's own route")]
    route.unwrap()
}

/// the first head, line by line
fn has_two_lengths(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let lines = text.trim_start_matches(['\r', '\n']).split('\n').map(|line| line.trim_end_matches('\r'));
    let head = lines.skip(1).take_while(|line| !line.is_empty());
    head.filter(|line| line.starts_with("content-length:") || line.starts_with("transfer-encoding:")).count() > 1
}

/// a stream of frames, read in pieces as long as its first byte says: what the guard lets through is WebSocket to tungstenite
pub fn frames(bytes: &[u8]) {
    let Some((&piece, stream)) = bytes.split_first() else {
        return;
    };
    let scanner = || {
        FrameScanner::new(FrameBounds {
            message_bytes_max: 4096,
            fragments_max: 8,
            control_frames: Quota::new(8, 1000),
        })
    };
    let (mut in_pieces, mut sound, mut violation) = (scanner(), Vec::new(), None);
    for piece in stream.chunks(usize::from(piece) + 1) {
        match in_pieces.scan(piece, NOW) {
            Ok(()) => sound.extend_from_slice(piece),
            Err((bytes, found)) => {
                sound.extend_from_slice(&piece[..bytes]);
                violation = Some(found);
                break;
            }
        }
    }
    assert_eq!(scanner().scan(stream, NOW).err().map(|(_, found)| found), violation, "pieces and the whole differ");
    let mut socket = WebSocket::from_raw_socket(Recorded(Cursor::new(sound)), Role::Server, None);
    loop {
        match socket.read() {
            Ok(_) => {}
            // What the guard leaves to tungstenite: UTF-8, the end of the stream, and what follows a goodbye.
            Err(Error::Utf8(_) | Error::ConnectionClosed | Error::AlreadyClosed) => return,
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::ReceivedAfterClosing)) => {
                return;
            }
            Err(error) => panic_with(&format!("the guard let through what is no WebSocket: {error:?}")),
        }
    }
}

fn panic_with(text: &str) {
    assert!(text.is_empty(), "{text}");
}

/// a peer that has said all it will say
struct Recorded(Cursor<Vec<u8>>);

impl Read for Recorded {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Recorded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// the body of a polling client: its packets are bounded, and written again they are the same
pub fn engine_io(bytes: &[u8]) {
    const PACKETS_MAX: usize = 16;
    let Ok(body) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(packets) = payload::read(body, PACKETS_MAX) else {
        return;
    };
    assert!((1..=PACKETS_MAX).contains(&packets.len()));
    let written = payload::write(&packets);
    assert_eq!(written.len() + 1, packets.iter().map(payload::written_len).sum::<usize>());
    let again = std::str::from_utf8(&written).ok().and_then(|body| payload::read(body, PACKETS_MAX).ok());
    assert_eq!(again.as_ref(), Some(&packets));
}

/// a packet of a Socket.IO client: its event has the name that any JSON parser sees, and keeps it when it is sanitised
pub fn socket_io(bytes: &[u8]) {
    const BOUNDS: PacketBounds = PacketBounds { attachments_max: 4, name_bytes_max: 64 };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(ClientPacket::Message(packet)) = socketio::read(text, &BOUNDS) else {
        return;
    };
    assert!(packet.namespace.len() <= BOUNDS.name_bytes_max);
    let Kind::Event(call) = packet.kind else {
        return;
    };
    assert!(call.named.name.len() <= BOUNDS.name_bytes_max && call.attachments <= BOUNDS.attachments_max);
    let name_at = Some(call.named.at.clone());
    if content::scan(call.json, &Bounds { max_depth: 64, ..ROOMY }, name_at.clone()).is_err() {
        return;
    }
    if let Ok(parsed) = serde_json::from_str::<Value>(call.json) {
        assert_eq!(parsed[0].as_str(), Some(&*call.named.name));
    }
    let head = text.strip_suffix(call.json);
    let clean = format!("{}{}", head.unwrap_or_default(), content::sanitize_json(call.json, name_at));
    let again = socketio::read(&clean, &BOUNDS);
    let Ok(ClientPacket::Message(socketio::Packet { namespace, kind: Kind::Event(kept) })) = again else {
        return panic_with(&format!("sanitised it is no event any more: {again:?}"));
    };
    assert_eq!((namespace, kept.ack, kept.attachments), (packet.namespace, call.ack, call.attachments));
    assert_eq!(kept.named.name, call.named.name);
}

/// a payload: what the strict pass accepts is JSON; what is sanitised is clean, stable, and otherwise as it came
pub fn json(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let bounds = Bounds { max_depth: 64, max_keys: 1000, max_text_chars: 10_000 };
    let Ok(scanned) = content::scan(text, &bounds, None) else {
        return;
    };
    assert!(serde_json::from_str::<&RawValue>(text).is_ok(), "serde_json refuses it");
    assert!(scanned.depth <= bounds.max_depth && scanned.keys <= bounds.max_keys);
    let is_active = content::any_active(text, None);
    assert!(scanned.may_act || !is_active, "an active text was not announced");
    let clean = content::sanitize_json(text, None);
    assert_eq!(clean != text, is_active, "bytes differ only where something was active");
    assert!(!content::any_active(&clean, None), "active after it was sanitised: {clean}");
    assert_eq!(content::sanitize_json(&clean, None), clean);
    assert_eq!(content::sanitize_json(text, None), clean, "the same question has the same answer");
    let rescanned = content::scan(&clean, &ROOMY, None);
    assert_eq!(rescanned.map(|scan| (scan.keys, scan.depth)), Ok((scanned.keys, scanned.depth)));
}

/// a value of the check API or a route: as JSON it is JSON, and with its own texts it is itself
pub fn msgpack(bytes: &[u8]) {
    if let Ok(split) = msgpack::split(bytes, "payload") {
        assert!(serde_json::from_str::<&RawValue>(&split.rest).is_ok(), "{}", split.rest);
        if let Some(field) = split.field {
            assert!(bytes.windows(field.len()).any(|window| window == field));
        }
    }
    let Ok(json) = msgpack::to_json(bytes) else {
        return;
    };
    assert!(json.len() > 10_000 || serde_json::from_str::<&RawValue>(&json).is_ok(), "{json}");
    let own = msgpack::with_texts(bytes, content::texts(&json));
    // What follows the value is its callers' to refuse.
    assert!(own.is_ok_and(|own| bytes.starts_with(&own)), "a text of its own has changed it");
    if content::scan(&json, &Bounds { max_depth: 64, ..ROOMY }, None).is_ok() {
        let clean = content::sanitize_json(&json, None);
        let rewritten = msgpack::with_texts(bytes, content::texts(&clean));
        assert_eq!(rewritten.and_then(|bytes| msgpack::to_json(&bytes)).as_deref(), Ok(&*clean));
    }
}

/// headers, a line each, that a trusted proxy passes on: whom the proxy itself names last is the client, whatever stands before
pub fn forwarded(bytes: &[u8]) {
    const CLIENT: &str = "203.0.113.9";
    let (proxy, client) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([203, 0, 113, 9]));
    let trusted: Vec<IpNet> = "10.0.0.0/8".parse().into_iter().collect();
    let mut headers = headers_in(bytes);
    assert_eq!(forwarded::client_address(client, &headers, &trusted).ok(), Some(client), "a stranger is believed");
    let named = forwarded::client_address(proxy, &headers, &trusted).ok();
    assert_eq!(forwarded::client_address(proxy, &headers, &trusted).ok(), named);
    let (scheme, _) = forwarded::claimed(&headers);
    assert!(matches!(scheme, None | Some("http" | "https")));

    let has_elements = headers.contains_key("forwarded");
    headers.append("x-forwarded-for", HeaderValue::from_static(CLIENT));
    match forwarded::client_address(proxy, &headers, &trusted) {
        Ok(address) => assert_eq!(address, client),
        Err(_) => assert!(has_elements, "refused without Forwarded"),
    }

    forwarded::remove_claims(&mut headers);
    let attempt = Attempt {
        id: "law".into(),
        address: client,
        origin: ClaimedOrigin::Missing,
        token: None,
        route: "/".into(),
        trace: None,
    };
    forwarded::add_claims(&mut headers, &attempt, None, "https", None);
    for (name, value) in &headers {
        let folded = name.as_str().replace('_', "-");
        let is_own = matches!(
            (folded.as_str(), value.as_bytes()),
            ("x-forwarded-for" | "x-picket-client", b"203.0.113.9")
                | ("x-forwarded-proto", b"https")
                | ("x-picket-connection", b"law")
        );
        let is_claim = folded.starts_with("x-forwarded-") || folded.starts_with("x-picket-") || folded == "forwarded";
        assert!(is_own || !is_claim, "{name}: {value:?}");
    }
}

fn headers_in(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(100) {
        let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (&line[..at], line.get(at + 1..).unwrap_or_default());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii())) {
            headers.append(name, value);
        }
    }
    headers
}

/// the first bytes of a connection: a PROXY header is one however it arrives and whatever follows, and is bounded
pub fn proxy_header(bytes: &[u8]) {
    let Ok(Opening::Header { bytes: length, from }) = proxy_protocol::read(bytes) else {
        return;
    };
    assert!(length <= bytes.len() && length <= HEADER_BYTES_MAX);
    let header = &bytes[..length];
    for cut in (0..length).take(64).chain(length.saturating_sub(8)..length) {
        assert_eq!(proxy_protocol::read(&header[..cut]), Ok(Opening::Incomplete), "{cut} bytes of {length}");
    }
    let followed = [header, b"PROXY GET / HTTP/1.1\r\n\r\n"].concat();
    assert_eq!(proxy_protocol::read(&followed), Ok(Opening::Header { bytes: length, from }));
    if let Named::Client(address) = from {
        assert!(length >= 16, "{address} from {length} bytes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_law_holds_of_its_corpus() {
        for (name, law) in LAWS {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
            let mut seeds = 0;
            for seed in std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display())) {
                let path = seed.unwrap().path();
                println!("{}", path.display());
                law(&std::fs::read(&path).unwrap());
                seeds += 1;
            }
            assert!(seeds >= 12, "{name} has {seeds} seeds");
        }
    }
}
