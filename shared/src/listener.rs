//! Listeners: accepting in spite of failures, and serving HTTP/1.1 within bounds to those who are no clients of the gateway.

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::tasks::Tasks;
use crate::telemetry::{Metrics, accept_failures};

/// the pause after an accept that failed, for lack of file descriptors for instance: whoever waits stays in the system's queue
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// how long open requests may take after the stop
const DRAIN_MAX: Duration = Duration::from_secs(3);

pub struct Listener {
    tcp: TcpListener,
    name: &'static str,
    failures: Counter<u64>,
    /// the last accept failed: said once, until one has not
    is_failing: bool,
}

impl Listener {
    pub fn new(tcp: TcpListener, name: &'static str, metrics: &Metrics) -> Self {
        Listener { tcp, name, failures: accept_failures(&metrics.meter("picket")), is_failing: false }
    }

    /// the next socket, however long that takes
    pub async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.tcp.accept().await {
                Ok(accepted) => {
                    if std::mem::take(&mut self.is_failing) {
                        tracing::info!(listener = self.name, "sockets are accepted again");
                    }
                    return accepted;
                }
                Err(error) => {
                    self.note(&error);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn note(&mut self, error: &std::io::Error) {
        self.failures.add(1, &[KeyValue::new("picket.listener", self.name)]);
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(listener = self.name, %error, "sockets cannot be accepted");
        }
    }
}

/// bounds of what is served
#[derive(Clone, Copy, Debug)]
pub struct HttpBounds {
    /// sockets at once; more wait in the system's queue
    pub sockets_max: usize,
    /// how long the head of a request may take, idle time included
    pub head_within: Duration,
    pub headers_max: usize,
    pub buffer_bytes_max: usize,
}

/// serves each peer by a service of its own until `left()` resolves
pub async fn serve<S, B, L>(
    mut listener: Listener,
    bounds: HttpBounds,
    tasks: Tasks,
    service_for: impl Fn(SocketAddr) -> S,
    left: impl Fn() -> L,
) where
    S: HttpService<Incoming, ResBody = B, Future: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    L: Future<Output = ()> + Send + 'static,
{
    let name = listener.name;
    let places = Arc::new(Semaphore::new(bounds.sockets_max));
    let leave = left();
    tokio::pin!(leave);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&mut listener, &places) => accepted,
            () = &mut leave => return,
        };
        let Some((place, stream, peer)) = accepted else {
            return;
        };
        let (service, leave) = (service_for(peer), left());
        tasks.spawn(name, async move {
            converse(stream, bounds, service, leave).await;
            drop(place);
        });
    }
}

async fn accept(
    listener: &mut Listener,
    places: &Arc<Semaphore>,
) -> Option<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let place = places.clone().acquire_owned().await.ok()?;
    let (stream, peer) = listener.accept().await;
    Some((place, stream, peer))
}

async fn converse<S, B>(stream: TcpStream, bounds: HttpBounds, service: S, leave: impl Future<Output = ()>)
where
    S: HttpService<Incoming, ResBody = B, Error: Into<Box<dyn Error + Send + Sync>>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    // Latency over batching; a failure only costs that.
    stream.set_nodelay(true).ok();
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_within)
        .max_headers(bounds.headers_max)
        .max_buf_size(bounds.buffer_bytes_max)
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
        tracing::debug!(%error, "connection ended");
    }
}
