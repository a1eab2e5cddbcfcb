//! Receivers of webhooks that take what comes and hold on to whoever brings it: one never answers, one takes half a minute for a line.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const PACE: Duration = Duration::from_secs(1);

pub struct SlowPager {
    address: SocketAddr,
    held: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl SlowPager {
    pub async fn that_never_answers() -> Self {
        Self::that_says(b"").await
    }

    pub async fn that_answers_a_byte_a_second() -> Self {
        Self::that_says(ANSWER).await
    }

    async fn that_says(answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, held) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let holds = held.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(hold(stream, answer, holds.clone()));
            }
        });
        Self { address, held, server }
    }

    /// its entry in `policy.monitoring.notifications`
    pub fn entry(&self) -> Value {
        json!({ "kind": "webhook", "url": format!("http://{}/slow", self.address), "minSeverity": "high" })
    }

    /// how many wait for an answer
    pub fn holds(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }
}

impl Drop for SlowPager {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// until whoever asked has gone
async fn hold(mut stream: TcpStream, answer: &'static [u8], held: Arc<AtomicUsize>) {
    let (mut reader, mut writer) = stream.split();
    let mut chunk = [0; 4096];
    if !matches!(reader.read(&mut chunk).await, Ok(1..)) {
        return;
    }
    held.fetch_add(1, Ordering::SeqCst);
    let dribbles = async {
        for byte in answer {
            tokio::time::sleep(PACE).await;
            if writer.write_all(std::slice::from_ref(byte)).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    };
    let leaves = async { while matches!(reader.read(&mut chunk).await, Ok(1..)) {} };
    tokio::select! {
        () = dribbles => {}
        () = leaves => {}
    }
    held.fetch_sub(1, Ordering::SeqCst);
}
