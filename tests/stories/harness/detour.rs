//! A way to Redis that a story may cut, slow down, or make deaf: the network between one node and the state.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::redis::Redis;

#[derive(Clone, Copy, PartialEq)]
enum Road {
    Open,
    /// Connections end, and new ones end at once.
    Cut,
    /// Answers arrive so much later.
    Slow(Duration),
    /// Connections stay, and those that subscribed hear nothing more.
    Deaf,
}

pub struct Detour {
    address: SocketAddr,
    road: watch::Sender<Road>,
    server: JoinHandle<()>,
}

impl Detour {
    pub async fn to(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (road, _) = watch::channel(Road::Open);
        let server = tokio::spawn(serve(listener, redis.address(), road.clone()));
        Self { address, road, server }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub fn is_cut(&self) {
        self.road.send_replace(Road::Cut);
    }

    pub fn slows_answers(&self, by: Duration) {
        self.road.send_replace(Road::Slow(by));
    }

    pub fn swallows_hints(&self) {
        self.road.send_replace(Road::Deaf);
    }

    pub fn heals(&self) {
        self.road.send_replace(Road::Open);
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, redis: SocketAddr, road: watch::Sender<Road>) {
    while let Ok((client, _)) = listener.accept().await {
        let mut changes = road.subscribe();
        tokio::spawn(async move {
            if *changes.borrow() == Road::Cut {
                return;
            }
            let Ok(server) = TcpStream::connect(redis).await else { return };
            let is_subscriber = Arc::new(AtomicBool::new(false));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let (late_sender, late) = mpsc::unbounded_channel();
            tokio::select! {
                () = asks(from_client, to_server, &is_subscriber) => {}
                () = answers(from_server, late_sender, changes.clone(), &is_subscriber) => {}
                () = arrives(late, to_client) => {}
                _ = changes.wait_for(|road| *road == Road::Cut) => {}
            }
        });
    }
}

async fn asks(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_subscriber: &AtomicBool) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        if bytes[..length].windows(9).any(|word| word == b"SUBSCRIBE") {
            is_subscriber.store(true, Ordering::Relaxed);
        }
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

type Late = (Instant, Vec<u8>);

async fn answers(
    mut from: OwnedReadHalf,
    to: mpsc::UnboundedSender<Late>,
    road: watch::Receiver<Road>,
    is_subscriber: &AtomicBool,
) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        let road = *road.borrow();
        let due = match road {
            Road::Slow(by) => Instant::now() + by,
            Road::Deaf if is_subscriber.load(Ordering::Relaxed) => continue,
            _ => Instant::now(),
        };
        if to.send((due, bytes[..length].to_vec())).is_err() {
            return;
        }
    }
}

async fn arrives(mut late: mpsc::UnboundedReceiver<Late>, mut to: OwnedWriteHalf) {
    while let Some((due, bytes)) = late.recv().await {
        tokio::time::sleep_until(due.into()).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
