//! An issuer's published keys, over HTTP: they can be rotated, and it can be away.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::http::read_head;
use super::tokens::Holder;

pub struct KeyServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    fetched: AtomicUsize,
    holder: Holder,
    /// `None`: it answers 500
    document: Mutex<Option<Value>>,
}

impl KeyServer {
    /// Publishes the key of the stories' tokens under this name.
    pub async fn publishing(kid: &str) -> Self {
        Self::of(Holder::Issuer, kid).await
    }

    /// Publishes a key of this holder's under this name.
    pub async fn of(holder: Holder, kid: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let document = Mutex::new(Some(document(holder, kid)));
        let shared = Arc::new(Shared { fetched: AtomicUsize::new(0), holder, document });
        let served = shared.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, served.clone()));
            }
        });
        Self { address, shared, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}/jwks", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn fetched(&self) -> usize {
        self.shared.fetched.load(Ordering::SeqCst)
    }

    pub fn publishes(&self, kid: &str) {
        *self.shared.document.lock().unwrap() = Some(document(self.shared.holder, kid));
    }

    pub fn fails(&self) {
        *self.shared.document.lock().unwrap() = None;
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn document(holder: Holder, kid: &str) -> Value {
    let mut key = holder.public_jwk();
    key["kid"] = kid.into();
    json!({ "keys": [key] })
}

async fn answer(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut buffer = Vec::new();
    while let Ok(Some(_)) = read_head(&mut stream, &mut buffer).await {
        shared.fetched.fetch_add(1, Ordering::SeqCst);
        let document = shared.document.lock().unwrap().clone();
        let (status, body) = match document {
            Some(document) => ("200 OK", document.to_string()),
            None => ("500 Internal Server Error", String::new()),
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
