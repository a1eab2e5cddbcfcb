//! Socket.IO words: what the scripted upstream answers, and a client that speaks packets.

use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Client;

pub const OPEN: &str =
    r#"0{"sid":"upstream-sid-1","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

/// A CONNECT is granted, an event with an ack id is acknowledged with `["ok"]`, everything else is only recorded.
pub fn answers(packet: &str) -> Vec<String> {
    if let Some(rest) = packet.strip_prefix("40") {
        return vec![format!("40{}{{\"sid\":\"upstream-sid-2\"}}", namespace(rest))];
    }
    if let Some(rest) = packet.strip_prefix("42") {
        let namespace = namespace(rest);
        let id: String = rest[namespace.len()..].chars().take_while(char::is_ascii_digit).collect();
        if !id.is_empty() {
            return vec![format!("43{namespace}{id}[\"ok\"]")];
        }
    }
    Vec::new()
}

/// The same in the words of `socket.io-msgpack-parser`; binary that is no packet is an attachment.
pub fn packed_answer(bytes: &[u8]) -> Option<Vec<u8>> {
    let PackedHead { kind, nsp, id } = packed_head(bytes)?;
    let answer = match (kind, id) {
        (0, _) => json!({ "type": 0, "nsp": nsp, "data": { "sid": "upstream-sid-2" } }),
        (2, Some(id)) => json!({ "type": 3, "nsp": nsp, "data": ["ok"], "id": id }),
        _ => return None,
    };
    Some(packed(&answer))
}

/// A packet of that parser without its data, which may be binary.
#[derive(Deserialize)]
pub struct PackedHead {
    #[serde(rename = "type")]
    pub kind: u64,
    pub nsp: String,
    pub id: Option<u64>,
}

pub fn packed_head(bytes: &[u8]) -> Option<PackedHead> {
    rmp_serde::from_slice(bytes).ok()
}

pub fn packed(packet: &Value) -> Vec<u8> {
    rmp_serde::to_vec_named(packet).unwrap()
}

/// `/chat,` with its comma, or nothing for the default namespace.
fn namespace(rest: &str) -> &str {
    if !rest.starts_with('/') {
        return "";
    }
    rest.find(',').map_or("", |comma| &rest[..=comma])
}

/// A Socket.IO client as packets: it adds nothing of its own.
pub struct SocketIo {
    pub client: Client,
}

impl SocketIo {
    /// Past Engine.IO's open packet, before CONNECT.
    pub async fn opened(mut client: Client) -> Self {
        client.receives_text(|packet| packet.starts_with("0{")).await;
        Self { client }
    }

    /// Joined the default namespace without a token.
    pub async fn connected(client: Client) -> Self {
        Self::connected_with(client, "40").await
    }

    pub async fn connected_with(client: Client, connect: &str) -> Self {
        let mut socket = Self::opened(client).await;
        socket.says(connect).await;
        socket.hears("40").await;
        socket
    }

    pub async fn says(&mut self, packet: &str) {
        self.client.sends_text(packet).await;
    }

    /// The next packet that begins so.
    pub async fn hears(&mut self, beginning: &str) -> String {
        self.client.receives_text(|packet| packet.starts_with(beginning)).await
    }

    /// The object of the next `error` event of the default namespace.
    pub async fn hears_refusal(&mut self, reason: &str) -> Value {
        let packet = self.hears(r#"42["error","#).await;
        let arguments: Value = serde_json::from_str(&packet[2..]).expect("an event packet");
        assert_eq!(arguments[1]["reason"], reason, "{packet}");
        arguments[1].clone()
    }
}
