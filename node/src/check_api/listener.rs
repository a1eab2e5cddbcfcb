//! The check API's listener: HTTP/1.1 with bounds on sockets, heads and waiting; connections are kept open between requests.

use hyper::body::Incoming;
use hyper::service::service_fn;
use picket_shared::listener::{self, HttpBounds, Listener};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{CheckApi, router};

const SOCKETS_MAX: usize = 1024;
/// longer than proxies keep a connection (nginx: 60 s)
const HEAD_WITHIN: Duration = Duration::from_secs(75);

/// serves until `stop` is cancelled or the process ends, and forgets idle connections
pub fn open(listener: Listener, api: Arc<CheckApi>, stop: &CancellationToken) {
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

async fn serve(listener: Listener, api: Arc<CheckApi>, stop: CancellationToken) {
    let (router, limits, tasks) = (router(api.clone()), api.gate.limits, api.tasks.clone());
    let bounds = HttpBounds {
        sockets_max: SOCKETS_MAX,
        head_within: HEAD_WITHIN,
        headers_max: limits.headers_max,
        buffer_bytes_max: limits.header_bytes_max,
    };
    let service_for = |_| {
        let router = router.clone();
        service_fn(move |request: hyper::Request<Incoming>| router.clone().oneshot(request))
    };
    let left = || first_of(stop.clone().cancelled_owned(), api.tasks.stopped());
    listener::serve(listener, bounds, tasks, service_for, left).await;
}

async fn first_of(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    tokio::select! {
        () = one => {}
        () = other => {}
    }
}
