//! The gateway's listener: accepts sockets within bounds and serves requests on each, one after the other.
//!
//! Only answers to polling clients keep a connection: refusals, errors and all other answers say `Connection: close`.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use picket_shared::listener::Listener;
use picket_shared::reason::Reason;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::arrival::{Arrived, Peer, Unwelcome};
use crate::door::Door;
use crate::framing::{Framing, Watched};
use crate::refusal::Denial;

/// requests beyond `node.limits.connectionsMax` that are answered at once; more are dropped
const TURNED_AWAY_MAX: usize = 64;
/// how long one of those may take
const TURN_AWAY_PATIENCE: Duration = Duration::from_millis(500);

/// requests on one connection; a client that polls on opens another one
const REQUESTS_MAX: u32 = 1000;

/// accepts until `stop` resolves
pub async fn serve(mut listener: Listener, door: Arc<Door>, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(door.gate.limits.connections_max));
    let lobby = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
    tokio::pin!(stop);
    loop {
        tokio::select! {
            (stream, peer) = listener.accept() => receive(stream, peer, &door, &places, &lobby),
            () = &mut stop => return,
        }
    }
}

fn receive(stream: TcpStream, peer: SocketAddr, door: &Arc<Door>, places: &Arc<Semaphore>, lobby: &Arc<Semaphore>) {
    match places.clone().try_acquire_owned() {
        Ok(place) => {
            let door = door.clone();
            let tasks = door.tasks.clone();
            tasks.spawn("connection", serve_in_turn(stream, peer, door, Arc::new(place)));
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
    let refusal = async {
        match door.receive(stream, peer).await {
            Ok((Arrived::Plain(stream), peer)) => say_why(stream, peer, &door).await,
            Ok((Arrived::Encrypted(stream), peer)) => say_why(stream, peer, &door).await,
            Err(unwelcome) => tracing::debug!(?unwelcome, "a socket beyond the limit did not come to its refusal"),
        }
    };
    if timeout(TURN_AWAY_PATIENCE, refusal).await.is_err() {
        tracing::debug!("a socket beyond the limit did not take its refusal in time");
    }
    drop(place);
}

async fn say_why<S: AsyncRead + AsyncWrite + Unpin>(stream: S, peer: Peer, door: &Door) {
    let service = service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(door.turn_away(peer)) });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a socket beyond the limit did not take its refusal");
    }
}

/// the place is held by the connection and whatever session comes of it
async fn serve_in_turn(stream: TcpStream, peer: SocketAddr, door: Arc<Door>, place: Arc<OwnedSemaphorePermit>) {
    // Latency over batching; a failure only costs that.
    stream.set_nodelay(true).ok();
    let patience = Duration::from_millis(door.gate.limits.header_timeout_ms);
    match timeout(patience, door.receive(stream, peer)).await {
        Ok(Ok((Arrived::Plain(stream), peer))) => serve_http(stream, peer, door, place).await,
        Ok(Ok((Arrived::Encrypted(stream), peer))) => serve_http(stream, peer, door, place).await,
        Ok(Err(Unwelcome::Denied(peer, denial))) => drop(door.closes_on(peer, denial)),
        Ok(Err(Unwelcome::Unencrypted(peer, error))) => {
            tracing::debug!(%peer, %error, "no TLS came about");
            door.counts_in_vain(peer);
        }
        Ok(Err(Unwelcome::Nobody)) => {}
        Err(_) => {
            tracing::debug!(%peer, "a socket that did not come to HTTP in time");
            door.counts_in_vain(peer);
        }
    }
}

async fn serve_http<S>(stream: S, peer: Peer, door: Arc<Door>, place: Arc<OwnedSemaphorePermit>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = door.gate.limits;
    let stopped = door.tasks.stopped();
    let requests = AtomicU32::new(0);
    let framing = Framing::default();
    let service = service_fn(|request: Request<Incoming>| {
        let (door, place, framing) = (door.clone(), place.clone(), framing.clone());
        let is_last = requests.fetch_add(1, Ordering::Relaxed) + 1 >= REQUESTS_MAX;
        async move {
            if framing.is_ambiguous() {
                return Ok(door.shuts(peer.address, ambiguous_length()));
            }
            let mut response = door.enter(peer, request, place).await;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                framing.ends();
            } else if is_last {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<Response<Full<Bytes>>, Infallible>(response)
        }
    });
    // Between two requests the next head's own time runs: a connection that stays silent ends with it.
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.header_timeout_ms))
        .max_headers(limits.headers_max)
        .max_buf_size(limits.header_bytes_max)
        .serve_connection(TokioIo::new(Watched::new(stream, framing.clone())), service)
        .with_upgrades();
    tokio::pin!(connection, stopped);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = &mut stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        match answered_by_hyper(&error) {
            Some(denial) => drop(door.closes_on(peer.address, denial)),
            None => tracing::debug!(%error, "connection ended"),
        }
    }
}

fn ambiguous_length() -> Denial {
    Denial::from(Reason::ProtocolError).because("a request with two lengths")
}

/// what hyper has refused by itself: a head beyond its bounds with 431 or 414, what is no HTTP/1 with 400
fn answered_by_hyper(error: &hyper::Error) -> Option<Denial> {
    let reason = match (error.is_parse_too_large(), error.is_parse()) {
        (true, _) => Reason::HeadTooLarge,
        (false, true) => Reason::ProtocolError,
        (false, false) => return None,
    };
    Some(Denial::from(reason).because(error.to_string()))
}
