//! What a coordinator listens on: HTTP/1.1 with bounds on connections, headers and waiting.

use axum::Router;
use hyper::body::Incoming;
use hyper::service::service_fn;
use std::net::SocketAddr;
use std::time::Duration;
use tower::ServiceExt;

use picket_shared::listener::{self, HttpBounds, Listener};
use picket_shared::tasks::Tasks;

const BOUNDS: HttpBounds = HttpBounds {
    sockets_max: 256,
    head_within: Duration::from_secs(15),
    headers_max: 100,
    buffer_bytes_max: 64 * 1024,
};

/// the other end of the connection
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// serves until the tasks are told to stop
pub(crate) async fn serve(listener: Listener, router: Router, tasks: Tasks) {
    let service_for = |peer| {
        let router = router.clone();
        service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            router.clone().oneshot(request)
        })
    };
    listener::serve(listener, BOUNDS, tasks.clone(), service_for, || tasks.stopped()).await;
}
