//! The application's own session endpoint: it says whose an opaque token is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::http::read_head;

pub struct SessionServer {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl SessionServer {
    /// Knows `session-of-NAME` for any name, answers `nobody` with 200 and null, and everything else with 401.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, counter.clone()));
            }
        });
        Self { address, asked, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}/me", self.address)
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for SessionServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(mut stream: TcpStream, asked: Arc<AtomicUsize>) {
    let mut buffer = Vec::new();
    while let Ok(Some(head)) = read_head(&mut stream, &mut buffer).await {
        asked.fetch_add(1, Ordering::SeqCst);
        let token = head.first("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let (status, body) = match token.strip_prefix("session-of-") {
            Some(name) => ("200 OK", json!({ "user": { "id": name, "role": "member" } })),
            None if token == "nobody" => ("200 OK", Value::Null),
            None => ("401 Unauthorized", json!({ "error": "no such session" })),
        };
        let body = body.to_string();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
