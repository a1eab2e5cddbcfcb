//! The gateway's listener: accepts sockets within bounds and serves one request on each, as every answer but 101 says
//! `Connection: close`.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::door::Door;

/// the pause after an accept that failed, for lack of file descriptors for instance
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// requests beyond `node.limits.connectionsMax` that are answered at once; more are dropped
const TURNED_AWAY_MAX: usize = 64;
/// how long one of those may take
const TURN_AWAY_PATIENCE: Duration = Duration::from_millis(500);

/// accepts until `stop` resolves
pub async fn serve(listener: TcpListener, door: Arc<Door>, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(door.gate.limits.connections_max));
    let lobby = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => return,
        };
        match accepted {
            Ok((stream, peer)) => receive(stream, peer, &door, &places, &lobby),
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn receive(stream: TcpStream, peer: SocketAddr, door: &Arc<Door>, places: &Arc<Semaphore>, lobby: &Arc<Semaphore>) {
    match places.clone().try_acquire_owned() {
        Ok(place) => {
            let door = door.clone();
            let tasks = door.tasks.clone();
            tasks.spawn("connection", serve_one(stream, peer, door, Arc::new(place)));
        }
        Err(_) => {
            if let Ok(place) = lobby.clone().try_acquire_owned() {
                let door = door.clone();
                let tasks = door.tasks.clone();
                tasks.spawn("turned away", turn_away(stream, peer, door, place));
            }
        }
    }
}

/// says why, where there is time for it
async fn turn_away(stream: TcpStream, peer: SocketAddr, door: Arc<Door>, place: OwnedSemaphorePermit) {
    let service = service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(door.turn_away(peer)) });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if timeout(TURN_AWAY_PATIENCE, connection).await.is_err() {
        tracing::debug!("a socket beyond the limit did not take its refusal");
    }
    drop(place);
}

/// the place is held by the request and whatever session comes of it
async fn serve_one(stream: TcpStream, peer: SocketAddr, door: Arc<Door>, place: Arc<OwnedSemaphorePermit>) {
    // Latency over batching; a failure only costs that.
    stream.set_nodelay(true).ok();
    let limits = door.gate.limits;
    let service = service_fn(|request: Request<Incoming>| {
        let (door, place) = (door.clone(), place.clone());
        async move { Ok::<Response<Full<Bytes>>, Infallible>(door.enter(peer, request, place).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.header_timeout_ms))
        .max_headers(limits.headers_max)
        .max_buf_size(limits.header_bytes_max)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "request ended");
    }
}
