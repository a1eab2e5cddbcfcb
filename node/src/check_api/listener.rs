//! The check API's listener: HTTP/1.1 with bounds on sockets, heads and waiting; connections are kept open between requests.

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{CheckApi, router};
use crate::config::Limits;

/// sockets at once; more wait in the system's queue
const SOCKETS_MAX: usize = 1024;
/// how long the head of a request may take, idle time included: longer than proxies keep a connection (nginx: 60 s)
const HEAD_WITHIN: Duration = Duration::from_secs(75);
/// how long open requests may take after the stop
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// the pause after an accept that failed, for lack of file descriptors for instance
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// serves until `stop` is cancelled or the process ends, and forgets idle connections
pub fn open(listener: TcpListener, api: Arc<CheckApi>, stop: &CancellationToken) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(listener = "check", %address, "listening");
    }
    let tasks = api.tasks.clone();
    tasks.spawn("check connections", forget_idle(api.clone()));
    tasks.spawn("check", serve(listener, api, stop.clone()));
}

async fn forget_idle(api: Arc<CheckApi>) {
    let stop = api.tasks.stopped();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = tokio::time::sleep(api.connections.pause()) => api.connections.forget_idle(api.gate.clock.now()),
            () = &mut stop => return,
        }
    }
}

async fn serve(listener: TcpListener, api: Arc<CheckApi>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(SOCKETS_MAX));
    let router = router(api.clone());
    let leave = first_of(stop.clone().cancelled_owned(), api.tasks.stopped());
    tokio::pin!(leave);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut leave => return,
        };
        if let Some((place, stream)) = accepted {
            let (router, limits) = (router.clone(), api.gate.limits);
            let leave = first_of(stop.clone().cancelled_owned(), api.tasks.stopped());
            api.tasks.spawn("check connection", async move {
                converse(stream, router, limits, leave).await;
                drop(place);
            });
        }
    }
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(OwnedSemaphorePermit, TcpStream)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((place, stream)),
        Err(error) => {
            tracing::warn!(%error, "accept failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn converse(stream: TcpStream, router: Router, limits: Limits, leave: impl Future<Output = ()>) {
    // Latency over batching; a failure only costs that.
    stream.set_nodelay(true).ok();
    let service = service_fn(move |request: hyper::Request<Incoming>| router.clone().oneshot(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_headers(limits.headers_max)
        .max_buf_size(limits.header_bytes_max)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = leave => {
            connection.as_mut().graceful_shutdown();
            timeout(DRAIN_MAX, connection).await
        }
    };
    if let Ok(Err(error)) = ended {
        tracing::debug!(%error, "connection to the check API ended");
    }
}

async fn first_of(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    tokio::select! {
        () = one => {}
        () = other => {}
    }
}
