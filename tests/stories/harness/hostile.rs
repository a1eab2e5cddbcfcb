//! An upstream that answers every upgrade with bytes of the story's own making.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::http::read_head;

pub struct HostileUpstream {
    address: SocketAddr,
    after_heads: Arc<Mutex<Vec<u8>>>,
    server: JoinHandle<()>,
}

impl HostileUpstream {
    /// `answer` gets the right `Sec-WebSocket-Accept` for the request, to use or not.
    pub async fn answering<B: AsRef<[u8]> + Send>(answer: impl Fn(&str) -> B + Send + Sync + 'static) -> Self {
        Self::starting(answer, true).await
    }

    /// Accepts every upgrade, and reads nothing of what follows.
    pub async fn deaf() -> Self {
        let answer = |accept: &str| {
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            )
        };
        Self::starting(answer, false).await
    }

    async fn starting<B: AsRef<[u8]> + Send>(
        answer: impl Fn(&str) -> B + Send + Sync + 'static,
        listens: bool,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        let after_heads = Arc::new(Mutex::new(Vec::new()));
        let received = after_heads.clone();
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, received) = (answer.clone(), received.clone());
                tokio::spawn(async move {
                    let mut buffer = Vec::new();
                    let Ok(Some(head)) = read_head(&mut stream, &mut buffer).await else { return };
                    let accept = derive_accept_key(head.first("sec-websocket-key").unwrap_or_default().as_bytes());
                    if stream.write_all(answer(&accept).as_ref()).await.is_ok() {
                        while listens && stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {}
                        if !listens {
                            std::future::pending::<()>().await;
                        }
                    }
                    received.lock().unwrap().extend(buffer);
                });
            }
        });
        Self { address, after_heads, server }
    }

    /// What followed the requests' heads on the connections that have ended.
    pub fn received(&self) -> Vec<u8> {
        self.after_heads.lock().unwrap().clone()
    }

    pub fn websocket_url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }
}

impl Drop for HostileUpstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}
