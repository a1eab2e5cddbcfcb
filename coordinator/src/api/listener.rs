//! The management listener: HTTP/1.1 with bounds on connections, headers and waiting.

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use picket_shared::tasks::Tasks;

/// connections at once; more wait in the system's queue
const CONNECTIONS_MAX: usize = 256;
/// how long the head of a request may take, idle time included
const HEAD_WITHIN: Duration = Duration::from_secs(15);
const HEADERS_MAX: usize = 100;
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// how long open requests may take after the stop
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// the pause when the system has no room for a connection
const ACCEPT_DELAY: Duration = Duration::from_millis(100);

/// the other end of the connection
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// serves until the tasks are told to stop
pub(super) async fn serve(listener: TcpListener, router: Router, tasks: Tasks) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let stop = tasks.stopped();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = &mut stop => return,
        };
        let Some((slot, stream, peer)) = accepted else {
            continue;
        };
        let (router, stopped) = (router.clone(), tasks.stopped());
        tasks.spawn("management connection", async move {
            converse(stream, peer, router, stopped).await;
            drop(slot);
        });
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(tokio::sync::OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((slot, stream, peer)),
        Err(error) => {
            tracing::warn!(%error, "management connection not accepted");
            tokio::time::sleep(ACCEPT_DELAY).await;
            None
        }
    }
}

async fn converse(stream: TcpStream, peer: SocketAddr, router: Router, stopped: impl Future<Output = ()>) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        router.clone().oneshot(request)
    });
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    let connection = protocol.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(DRAIN_MAX, connection).await
        }
    };
    if let Ok(Err(error)) = ended {
        tracing::debug!(%error, "management connection ended");
    }
}
