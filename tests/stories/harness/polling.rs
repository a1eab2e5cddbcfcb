//! A Socket.IO client that polls, request by request over raw HTTP: it adds nothing of its own.

use std::collections::VecDeque;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::HOME;
use super::caller::Caller;
use super::client::holds;
use super::http::Head;
use super::patience::{eventually, within};
use super::wire::{Response, Wire};

/// Engine.IO's packets in one body.
pub const SEPARATOR: char = '\u{1e}';

/// Who polls, and with what headers; every request is one of its own connection unless the story keeps one.
#[derive(Clone)]
pub struct Polls {
    gateway: SocketAddr,
    origin: Option<String>,
    headers: Vec<(String, String)>,
}

/// An open session.
pub struct Poller {
    pub polls: Polls,
    pub sid: String,
    pub open: Value,
    pub handshake: Option<Head>,
    inbox: VecDeque<String>,
}

impl Polls {
    pub fn new(gateway: SocketAddr, address: &str) -> Self {
        let headers = vec![("X-Forwarded-For".to_owned(), address.to_owned())];
        Self { gateway, origin: Some(HOME.to_owned()), headers }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(own, _)| own != name);
        self
    }

    pub fn origin(mut self, origin: &str) -> Self {
        self.origin = Some(origin.to_owned());
        self
    }

    pub fn without_origin(mut self) -> Self {
        self.origin = None;
        self
    }

    pub fn head(&self, method: &str, query: &str, more: &[&str]) -> String {
        let mut head = format!("{method} /socket.io/?{query} HTTP/1.1\r\nHost: {}\r\n", self.gateway);
        let origin = self.origin.iter().map(|origin| ("Origin", origin.as_str()));
        for (name, value) in origin.chain(self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        for line in more {
            head.push_str(line);
            head.push_str("\r\n");
        }
        head + "\r\n"
    }

    /// A request that has been sent, on a connection of its own.
    pub async fn asks(&self, method: &str, query: &str, more: &[&str], body: &[u8]) -> Wire {
        let mut wire = Wire::to(self.gateway).await;
        let request = [self.head(method, query, more).as_bytes(), body].concat();
        wire.writes(request).await;
        wire
    }

    pub async fn gets(&self, query: &str) -> Response {
        self.asks("GET", query, &[], b"").await.response().await
    }

    pub async fn posts(&self, query: &str, body: &str) -> Response {
        let length = format!("Content-Length: {}", body.len());
        let lines = ["Content-Type: text/plain;charset=UTF-8", length.as_str()];
        self.asks("POST", query, &lines, body.as_bytes()).await.response().await
    }

    /// Past Engine.IO's open packet, before CONNECT.
    pub async fn open(self) -> Poller {
        let handshake = self.gets("EIO=4&transport=polling").await;
        self.opened_by(handshake)
    }

    /// Asks again until there is a place.
    pub async fn opens_eventually(self) -> Poller {
        let handshake = eventually("a polling session", async || {
            let answer = self.gets("EIO=4&transport=polling").await;
            (answer.head.status() == 200).then_some(answer)
        })
        .await;
        self.opened_by(handshake)
    }

    fn opened_by(self, handshake: Response) -> Poller {
        let body = body(&handshake);
        assert_eq!(handshake.head.status(), 200, "{:?} {body}", handshake.head);
        let mut packets = body.split(SEPARATOR).map(str::to_owned);
        let open = packets.next().expect("an open packet");
        let open: Value = serde_json::from_str(open.strip_prefix('0').expect("an open packet")).expect("its JSON");
        let sid = open["sid"].as_str().expect("a session id").to_owned();
        Poller { polls: self, sid, open, handshake: Some(handshake.head), inbox: packets.collect() }
    }

    /// Joined the default namespace with this CONNECT.
    pub async fn connected_with(self, connect: &str) -> Poller {
        let mut poller = self.open().await;
        poller.says(connect).await;
        poller.hears("40").await;
        poller
    }

    pub async fn connected(self) -> Poller {
        self.connected_with("40").await
    }
}

impl Poller {
    /// The same session, asked for by someone else.
    pub fn asked_by(&self, polls: Polls) -> Poller {
        Poller { polls, sid: self.sid.clone(), open: self.open.clone(), handshake: None, inbox: VecDeque::new() }
    }

    pub fn query(&self) -> String {
        format!("EIO=4&transport=polling&sid={}", self.sid)
    }

    pub async fn posts(&self, body: &str) -> Response {
        self.polls.posts(&self.query(), body).await
    }

    /// One post that is taken.
    pub async fn says(&self, packets: &str) {
        let answer = self.posts(packets).await;
        assert_eq!((answer.head.status(), body(&answer).as_str()), (200, "ok"), "{packets}: {:?}", answer.head);
    }

    pub async fn polls(&self) -> Response {
        self.polls.gets(&self.query()).await
    }

    /// A poll that is left open.
    pub async fn starts_a_poll(&self) -> Wire {
        self.starts("GET", &[], b"").await
    }

    /// A request that the gateway has begun to serve, as far as one can know from outside: later ones were answered.
    pub async fn starts(&self, method: &str, more: &[&str], body: &[u8]) -> Wire {
        let wire = self.polls.asks(method, &self.query(), more, body).await;
        for _ in 0..3 {
            is_unknown(&self.polls.gets("EIO=4&transport=polling&sid=nobody").await);
        }
        wire
    }

    /// The next packet that begins so; those before it are passed over.
    pub async fn hears(&mut self, beginning: &str) -> String {
        within(&format!("a packet {beginning:?}"), async {
            loop {
                while let Some(packet) = self.inbox.pop_front() {
                    if packet.starts_with(beginning) {
                        return packet;
                    }
                }
                let answer = self.polls().await;
                let body = body(&answer);
                assert_eq!(answer.head.status(), 200, "waiting for {beginning:?}: {body}");
                self.inbox.extend(body.split(SEPARATOR).map(str::to_owned));
            }
        })
        .await
    }

    /// The next packet of `socket.io-msgpack-parser` that has at least these fields.
    pub async fn hears_packed(&mut self, fields: Value) -> Value {
        loop {
            let encoded = self.hears("b").await;
            let packet: Value = rmp_serde::from_slice(&STANDARD.decode(&encoded[1..]).unwrap()).unwrap();
            if holds(&packet, &fields) {
                return packet;
            }
        }
    }

    /// Told that it is over, and so it is.
    pub async fn is_closed(&mut self) {
        self.hears("1").await;
        self.is_unknown().await;
    }

    pub async fn is_unknown(&self) {
        is_unknown(&self.polls().await);
        is_unknown(&self.posts("3").await);
    }

    /// A WebSocket with this session's id.
    pub fn websocket(&self) -> Caller {
        let path = format!("/socket.io/?EIO=4&transport=websocket&sid={}", self.sid);
        let caller = Caller::new(self.polls.gateway, &path, "198.51.100.99");
        self.polls
            .headers
            .iter()
            .filter(|(name, _)| name != "X-Forwarded-For")
            .fold(caller, |caller, (name, value)| caller.header(name, value))
    }
}

/// The protocol's own answer to a session that is not there.
pub fn is_unknown(answer: &Response) {
    let body: Value = serde_json::from_slice(&answer.body).expect("Engine.IO's error");
    assert_eq!((answer.head.status(), &body["code"]), (400, &Value::from(1)), "{body}");
    assert_eq!(body["message"], "Session ID unknown");
}

pub fn body(answer: &Response) -> String {
    String::from_utf8(answer.body.clone()).expect("UTF-8")
}
