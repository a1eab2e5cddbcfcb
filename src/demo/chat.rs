//! The application that the demo protects: whoever says something is heard by all. Everything is bounded.

use futures_util::{SinkExt, StreamExt};
use picket_shared::tasks::Tasks;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

const GUESTS_MAX: usize = 64;
const MESSAGE_BYTES_MAX: usize = 65_536;
/// messages that wait for a slow guest, who misses the older ones
const BACKLOG_MAX: usize = 64;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// after a failed accept: the reason, such as too many open files, is unlikely to have gone at once
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

#[derive(Deserialize)]
struct Said {
    #[serde(rename = "type")]
    kind: String,
    text: String,
}

#[derive(Serialize)]
struct Heard<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    from: &'a str,
    text: &'a str,
}

/// listens on a loopback port of the system's choice
pub async fn start(tasks: &Tasks) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tasks.spawn("demo chat", welcome(listener, tasks.clone()));
    Ok(address)
}

async fn welcome(listener: TcpListener, tasks: Tasks) {
    let seats = Arc::new(Semaphore::new(GUESTS_MAX));
    let room = broadcast::Sender::new(BACKLOG_MAX);
    let stopped = tasks.stopped();
    tokio::pin!(stopped);
    for number in 1u64.. {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopped => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "demo chat: connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(seat) = seats.clone().try_acquire_owned() else {
            continue;
        };
        let (room, until) = (room.clone(), tasks.stopped());
        tasks.spawn("demo guest", async move {
            tokio::select! {
                () = converse(stream, room, format!("guest {number}")) => {}
                () = until => {}
            }
            drop(seat);
        });
    }
}

async fn converse(stream: TcpStream, room: broadcast::Sender<Utf8Bytes>, name: String) {
    let config =
        WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES_MAX)).max_frame_size(Some(MESSAGE_BYTES_MAX));
    let Ok(Ok(socket)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, accept_async_with_config(stream, Some(config))).await
    else {
        return;
    };
    let (mut to_guest, mut from_guest) = socket.split();
    let mut heard = room.subscribe();
    loop {
        tokio::select! {
            message = from_guest.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    // Nobody else in the room is no failure; the speaker is in it.
                    if let Some(line) = line(&text, &name) && room.send(line).is_err() {
                        return;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
            line = heard.recv() => match line {
                Ok(line) => if to_guest.send(Message::Text(line)).await.is_err() { return },
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
        }
    }
}

fn line(text: &str, from: &str) -> Option<Utf8Bytes> {
    let said: Said = serde_json::from_str(text).ok()?;
    let heard = Heard { kind: "chat:message", from, text: &said.text };
    (said.kind == "chat:message").then(|| serde_json::to_string(&heard).ok().map(Utf8Bytes::from))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_one_guest_says_all_hear() {
        let tasks = Tasks::default();
        let address = start(&tasks).await.unwrap();
        let (mut alice, _) =
            tokio_tungstenite::client_async(format!("ws://{address}/"), TcpStream::connect(address).await.unwrap())
                .await
                .unwrap();
        let (mut bob, _) =
            tokio_tungstenite::client_async(format!("ws://{address}/"), TcpStream::connect(address).await.unwrap())
                .await
                .unwrap();
        bob.send(Message::text("not JSON")).await.unwrap();
        bob.send(Message::text(r#"{"type":"chat:message","text":"hello"}"#)).await.unwrap();
        for guest in [&mut alice, &mut bob] {
            let heard = guest.next().await.unwrap().unwrap();
            assert_eq!(heard.to_text().unwrap(), r#"{"type":"chat:message","from":"guest 2","text":"hello"}"#);
        }
        assert!(tasks.stop(Duration::from_secs(5)).await, "every guest leaves");
    }
}
