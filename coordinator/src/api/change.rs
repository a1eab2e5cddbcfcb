//! Around every change: it is made to its end and is on the record, whatever becomes of whoever asked for it.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use picket_shared::audit::{EventType, Severity};
use picket_shared::state::CHANGE_LIFE;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

use super::auth::Caller;
use super::problem::Problem;
use super::routes::Act;
use super::{Api, input};

/// how long a change is worked on: it is given up well before others take who makes it for dead
const WORK_MAX: Duration = Duration::from_secs(CHANGE_LIFE.as_secs() / 2);

/// runs the change in a task of its own, once it was read: whoever goes, or is told that it took too long, ends nothing
pub(super) async fn to_its_end(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let body = match input::body(Request::from_parts(head.clone(), body)).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let request = Request::from_parts(head, Body::from(body));
    let (sender, receiver) = oneshot::channel();
    api.tasks.spawn("management change", async move {
        // Nobody may be waiting for it any more.
        drop(sender.send(next.run(request).await));
    });
    receiver.await.unwrap_or_else(|_| Problem::internal().into_response())
}

/// makes the change within its time; where it failed on this side it may have been made all the same, and that is on the record
pub(super) async fn make(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (act, caller) = (Act::of(&request), request.extensions().get::<Caller>().cloned());
    let made = api.tasks.isolate("management change", tokio::time::timeout(WORK_MAX, next.run(request)));
    let response = match made.await {
        Some(Ok(response)) => response,
        Some(Err(_)) => Problem::unavailable("the change took too long").into_response(),
        None => Problem::internal().into_response(),
    };
    if let Some(caller) = caller.filter(|_| response.status().is_server_error()) {
        let message = "administrative act failed, it may have been made";
        api.record(EventType::AdminAction, Severity::Medium, &caller, message, |record| {
            act.told(record).with("status", response.status().as_u16())
        });
    }
    response
}
