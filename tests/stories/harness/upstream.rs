//! The application behind the gateway: it records everything that reaches it, and answers in the manner a story asks for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::engine_io;
use super::http::{Head, read_head};
use super::patience::eventually;

#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    Text(String),
    Binary(Vec<u8>),
}

#[derive(Clone, Copy)]
enum Manner {
    Echo,
    EngineIo,
    GraphQl,
}

#[derive(Clone)]
enum Command {
    Say(String),
    Close(u16, &'static str),
    Flood,
    Die,
}

struct Ledger {
    manner: Manner,
    broken: Mutex<bool>,
    requests: Mutex<Vec<Head>>,
    messages: Mutex<Vec<Seen>>,
    ends: Mutex<Vec<Option<u16>>>,
    flooded_bytes: AtomicU64,
    commands: broadcast::Sender<Command>,
}

pub struct Upstream {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    server: JoinHandle<()>,
}

impl Upstream {
    pub async fn echo() -> Self {
        Self::start(Manner::Echo).await
    }

    /// Speaks enough Engine.IO 4 and Socket.IO 5 for a client to connect, join namespaces and get its acks.
    pub async fn engine_io() -> Self {
        Self::start(Manner::EngineIo).await
    }

    /// Grants a connection, answers each subscription with one result and its end, and a ping with a pong.
    pub async fn graphql() -> Self {
        Self::start(Manner::GraphQl).await
    }

    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ledger = Arc::new(Ledger {
            manner,
            broken: Mutex::default(),
            requests: Mutex::default(),
            messages: Mutex::default(),
            ends: Mutex::default(),
            flooded_bytes: AtomicU64::default(),
            commands: broadcast::channel(16).0,
        });
        let server = tokio::spawn(serve(listener, ledger.clone()));
        Self { address, ledger, server }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn websocket_url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    pub fn http_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next upgrades are answered with nothing but the end of the connection.
    pub fn breaks(&self) {
        *self.ledger.broken.lock().unwrap() = true;
    }

    pub fn recovers(&self) {
        *self.ledger.broken.lock().unwrap() = false;
    }

    pub fn requests(&self) -> Vec<Head> {
        self.ledger.requests.lock().unwrap().clone()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.ledger.messages.lock().unwrap().clone()
    }

    pub fn texts(&self) -> Vec<String> {
        self.seen()
            .into_iter()
            .filter_map(|message| match message {
                Seen::Text(text) => Some(text),
                Seen::Binary(_) => None,
            })
            .collect()
    }

    pub fn binaries(&self) -> Vec<Vec<u8>> {
        self.seen()
            .into_iter()
            .filter_map(|message| match message {
                Seen::Binary(bytes) => Some(bytes),
                Seen::Text(_) => None,
            })
            .collect()
    }

    /// The messages, once there are at least as many.
    pub async fn receives(&self, count: usize) -> Vec<Seen> {
        eventually(&format!("{count} messages at the upstream"), async || {
            let seen = self.seen();
            (seen.len() >= count).then_some(seen)
        })
        .await
    }

    pub async fn receives_text(&self, text: &str) {
        eventually(&format!("{text:?} at the upstream"), async || {
            self.texts().iter().any(|seen| seen == text).then_some(())
        })
        .await;
    }

    /// How its first connections ended, once as many did: the close code it was told, if any.
    pub async fn loses(&self, count: usize) -> Vec<Option<u16>> {
        eventually(&format!("{count} ended connections at the upstream"), async || {
            let ends = self.ledger.ends.lock().unwrap().clone();
            (ends.len() >= count).then_some(ends)
        })
        .await
    }

    pub fn saw_no_request(&self) {
        let requests = self.requests();
        assert!(requests.is_empty(), "the upstream was reached: {requests:?}");
        self.saw_no_message();
    }

    pub fn saw_no_message(&self) {
        let seen = self.seen();
        assert!(seen.is_empty(), "the upstream was told: {seen:?}");
    }

    pub fn flooded_bytes(&self) -> u64 {
        self.ledger.flooded_bytes.load(Ordering::Relaxed)
    }

    pub fn says(&self, text: &str) {
        self.command(Command::Say(text.to_owned()));
    }

    pub fn closes(&self, code: u16, reason: &'static str) {
        self.command(Command::Close(code, reason));
    }

    /// Sends as fast as the other side takes it, up to `FLOOD_BYTES`.
    pub fn floods(&self) {
        self.command(Command::Flood);
    }

    /// Every open connection ends without a goodbye, as when the process is killed.
    pub fn dies(&self) {
        self.command(Command::Die);
    }

    /// Whether a connection listens to what it is told to do.
    pub fn is_held(&self) -> bool {
        self.ledger.commands.receiver_count() > 0
    }

    fn command(&self, command: Command) {
        assert!(self.ledger.commands.send(command).is_ok(), "the upstream has no open connection to do that on");
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What all connections together are sent by a flood, at most.
pub const FLOOD_BYTES: u64 = 96 * 1024 * 1024;

async fn serve(listener: TcpListener, ledger: Arc<Ledger>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let ledger = ledger.clone();
        tokio::spawn(async move {
            let end = converse(stream, &ledger).await;
            if let Some(code) = end {
                ledger.ends.lock().unwrap().push(code);
            }
        });
    }
}

/// One TCP connection; `Some` if it became a WebSocket, with the close code it ended with.
async fn converse(mut stream: TcpStream, ledger: &Ledger) -> Option<Option<u16>> {
    let mut buffer = Vec::new();
    let head = read_head(&mut stream, &mut buffer).await.ok()??;
    ledger.requests.lock().unwrap().push(head.clone());
    if *ledger.broken.lock().unwrap() {
        return None;
    }
    if !head.is_upgrade() {
        let answered =
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello").await;
        return answered.err().map(|_| None);
    }
    let commands = ledger.commands.subscribe();
    let accept = derive_accept_key(head.first("sec-websocket-key").unwrap_or_default().as_bytes());
    let protocol = head
        .first("sec-websocket-protocol")
        .and_then(|offered| offered.split(',').next())
        .map_or(String::new(), |first| format!("Sec-WebSocket-Protocol: {}\r\n", first.trim()));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
    );
    stream.write_all(answer.as_bytes()).await.ok()?;
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let socket = WebSocketStream::from_partially_read(stream, buffer, Role::Server, Some(config)).await;
    Some(hold(socket, commands, ledger).await)
}

async fn hold(
    mut socket: WebSocketStream<TcpStream>,
    mut commands: broadcast::Receiver<Command>,
    ledger: &Ledger,
) -> Option<u16> {
    if let Manner::EngineIo = ledger.manner {
        socket.send(Message::text(engine_io::OPEN)).await.ok()?;
    }
    loop {
        tokio::select! {
            command = commands.recv() => match command.ok()? {
                Command::Say(text) => socket.send(Message::text(text)).await.ok()?,
                Command::Close(code, reason) => {
                    socket.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await.ok()?;
                }
                Command::Flood => flood(&mut socket, ledger).await?,
                Command::Die => return None,
            },
            message = socket.next() => match message?.ok()? {
                Message::Text(text) => {
                    ledger.messages.lock().unwrap().push(Seen::Text(text.to_string()));
                    for answer in answers(ledger.manner, text.as_str()) {
                        socket.send(Message::text(answer)).await.ok()?;
                    }
                }
                Message::Binary(bytes) => {
                    ledger.messages.lock().unwrap().push(Seen::Binary(bytes.to_vec()));
                    let answer = match ledger.manner {
                        Manner::Echo => Some(bytes),
                        Manner::GraphQl => None,
                        Manner::EngineIo => engine_io::packed_answer(&bytes).map(Into::into),
                    };
                    if let Some(answer) = answer {
                        socket.send(Message::Binary(answer)).await.ok()?;
                    }
                }
                Message::Close(frame) => {
                    let code = frame.map(|frame| u16::from(frame.code));
                    // The answer to the close goes out while the stream is read to its end.
                    while let Some(Ok(_)) = socket.next().await {}
                    return code;
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            },
        }
    }
}

fn answers(manner: Manner, text: &str) -> Vec<String> {
    match manner {
        Manner::Echo => vec![text.to_owned()],
        Manner::EngineIo => engine_io::answers(text),
        Manner::GraphQl => graphql(text).iter().map(Value::to_string).collect(),
    }
}

fn graphql(text: &str) -> Vec<Value> {
    let message: Value = serde_json::from_str(text).unwrap();
    let id = &message["id"];
    match message["type"].as_str() {
        Some("connection_init") => vec![json!({ "type": "connection_ack" })],
        Some("subscribe") => vec![
            json!({ "type": "next", "id": id, "payload": { "data": { "news": 1 } } }),
            json!({ "type": "complete", "id": id }),
        ],
        Some("ping") => vec![json!({ "type": "pong" })],
        _ => Vec::new(),
    }
}

async fn flood(socket: &mut WebSocketStream<TcpStream>, ledger: &Ledger) -> Option<()> {
    let chunk = format!("{{\"type\":\"flood\",\"pad\":\"{}\"}}", "x".repeat(32 * 1024));
    while ledger.flooded_bytes.load(Ordering::Relaxed) < FLOOD_BYTES {
        socket.send(Message::text(chunk.clone())).await.ok()?;
        ledger.flooded_bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
    Some(())
}
