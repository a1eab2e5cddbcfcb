//! Someone who asks to come in: from an address, with an origin, a token and headers of their own.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::HOME;
use super::client::Client;
use super::http::Head;
use super::patience::{eventually, soon};
use super::wire::Wire;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

#[derive(Clone)]
pub struct Caller {
    gateway: SocketAddr,
    path: String,
    origin: Option<String>,
    headers: Vec<(String, String)>,
}

pub enum Outcome {
    Admitted(Box<Client>),
    Refused(Refusal),
}

#[derive(Debug)]
pub struct Refusal {
    pub head: Head,
    pub body: String,
}

impl Caller {
    pub fn new(gateway: SocketAddr, path: &str, address: &str) -> Self {
        Self {
            gateway,
            path: path.to_owned(),
            origin: Some(HOME.to_owned()),
            headers: vec![("X-Forwarded-For".to_owned(), address.to_owned())],
        }
    }

    pub fn path(mut self, path: &str) -> Self {
        self.path = path.to_owned();
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

    pub fn bearing(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub async fn connects(self) -> Outcome {
        let mut wire = Wire::to(self.gateway).await;
        wire.writes(self.request()).await;
        let response = wire.response().await;
        if response.head.status() != 101 {
            return Outcome::Refused(Refusal {
                head: response.head,
                body: String::from_utf8_lossy(&response.body).into_owned(),
            });
        }
        assert_eq!(
            response.head.first("sec-websocket-accept"),
            Some(derive_accept_key(KEY.as_bytes()).as_str()),
            "{:?}",
            response.head
        );
        Outcome::Admitted(Box::new(Client::over(wire, response.head).await))
    }

    pub async fn comes_in(self) -> Client {
        self.connects().await.admitted()
    }

    /// Asks again until it comes in: for places and blocks that end a moment after what ended them.
    pub async fn comes_in_eventually(self) -> Client {
        eventually("a caller who comes in", async || match self.clone().connects().await {
            Outcome::Admitted(client) => Some(*client),
            Outcome::Refused(_) => None,
        })
        .await
    }

    /// Asks again until it comes in, as promised; and how long that took.
    pub async fn comes_in_within(self, promised: Duration) -> (Client, Duration) {
        soon("a caller who comes in", promised, async || match self.clone().connects().await {
            Outcome::Admitted(client) => Some(*client),
            Outcome::Refused(_) => None,
        })
        .await
    }

    /// Asks again until it is refused.
    pub async fn gets_refused_eventually(self) -> Refusal {
        eventually("a caller who is refused", async || match self.clone().connects().await {
            Outcome::Admitted(_) => None,
            Outcome::Refused(refusal) => Some(refusal),
        })
        .await
    }

    fn request(&self) -> String {
        let mut request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n",
            self.path, self.gateway
        );
        let origin = self.origin.iter().map(|origin| ("Origin", origin.as_str()));
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in origin.chain(headers) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request + "\r\n"
    }
}

impl Outcome {
    pub fn admitted(self) -> Client {
        match self {
            Self::Admitted(client) => *client,
            Self::Refused(refusal) => panic!("expected to come in, but: {refusal:?}"),
        }
    }

    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    pub fn refused(self) -> Refusal {
        match self {
            Self::Admitted(client) => panic!("expected to be refused, but came in: {:?}", client.answer),
            Self::Refused(refusal) => refusal,
        }
    }

    /// Refused with the contract's body.
    pub fn refused_with(self, status: u16, reason: &str) -> Refusal {
        let refusal = self.refused();
        assert_eq!(refusal.head.status(), status, "{refusal:?}");
        let body: Value =
            serde_json::from_str(&refusal.body).unwrap_or_else(|error| panic!("no JSON body ({error}): {refusal:?}"));
        assert_eq!(body["reason"], reason, "{refusal:?}");
        assert!(body["code"].is_i64() && body["message"].is_string(), "{refusal:?}");
        refusal
    }
}

impl Refusal {
    pub fn may_be_retried(&self) {
        let seconds = self.head.first("retry-after").and_then(|value| value.parse::<u64>().ok());
        assert!(seconds.is_some(), "no Retry-After in seconds: {self:?}");
    }
}
