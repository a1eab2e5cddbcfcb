//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a change that is sent again because its answer was lost is made once,
//! and answered as it was, by every coordinator on the same state.

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use picket_shared::clock::Clock;
use picket_shared::state::{ANSWER_BYTES_MAX, Answers, Begun, CHANGE_LIFE, Change};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

use super::auth::Caller;
use super::problem::Problem;
use super::{Api, BODY_BYTES_MAX};

pub(super) const HEADER: &str = "Idempotency-Key";
const KEY_BYTES_MAX: usize = 255;
/// how long a change is worked on: it is given up well before others take who makes it for dead
const WORK_MAX: Duration = Duration::from_secs(CHANGE_LIFE.as_secs() / 2);

/// what was answered
#[derive(Serialize, Deserialize)]
struct Told {
    status: u16,
    content_type: Option<String>,
    body: String,
}

pub(super) async fn once(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (key, caller) = (key(request.headers()), request.extensions().get::<Caller>().cloned());
    let (key, caller) = match (key, caller) {
        (Ok(Some(key)), Some(caller)) => (key, caller),
        (Err(problem), _) => return problem.into_response(),
        _ => return next.run(request).await,
    };
    remembered(api, request, next, key, caller).await.unwrap_or_else(Problem::into_response)
}

async fn remembered(
    api: Arc<Api>,
    request: Request,
    next: Next,
    key: String,
    caller: Caller,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await;
    let body = body.map_err(|_| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB"))?;
    let query = head.uri.query().unwrap_or_default();
    let change = Change::of(&caller.name, head.uri.path(), &key, &[query.as_bytes(), &body]);
    match api.state.answers.begin(&change, api.clock.now()).await? {
        Begun::First => {}
        Begun::Again(told) => return again(&told),
        Begun::UnderWay => return Err(Problem::conflict("the request with this Idempotency-Key is still under way")),
        Begun::Another => return Err(Problem::mistake(HEADER, "was used for another request; use a new key for each")),
        Begun::Full => return Err(Problem::unavailable("too many changes are under way")),
    }
    // A task of its own: it is made and remembered even if whoever asked has gone.
    let (sender, receiver) = oneshot::channel();
    let request = Request::from_parts(head, Body::from(body));
    let (tasks, answers, clock) = (api.tasks.clone(), api.state.answers.clone(), api.clock.clone());
    api.tasks.spawn("change with a key", async move {
        let made = tasks.isolate("management request", tokio::time::timeout(WORK_MAX, next.run(request)));
        let response = match made.await {
            Some(Ok(response)) => response,
            Some(Err(_)) => Problem::unavailable("the change took too long").into_response(),
            None => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "an internal error occurred").into_response(),
        };
        let response = remember(&*answers, &change, response, &*clock).await;
        // Nobody waits for it any more: whoever sends it again gets it.
        drop(sender.send(response));
    });
    let gone = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "an internal error occurred");
    receiver.await.map_err(gone)
}

/// a structured header's string, or bare
fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if (1..=KEY_BYTES_MAX).contains(&key.len()) && !key.contains('"') {
        return Ok(Some(key.to_owned()));
    }
    Err(Problem::bad_request(format!(
        "{HEADER} must have from 1 to {KEY_BYTES_MAX} printable characters, such as a UUID"
    )))
}

async fn remember(answers: &dyn Answers, change: &Change, response: Response, clock: &dyn Clock) -> Response {
    let (head, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let noted = match told(head.status, &head.headers, &body) {
        Some(told) => answers.answer(change, told, clock.now()).await,
        None => answers.forget(change).await,
    };
    if let Err(error) = noted {
        tracing::warn!(%error, "the answer to a change is not remembered; one that is sent again is made again");
    }
    Response::from_parts(head, Body::from(body))
}

/// what is remembered of an answer; what failed on this side is tried anew
fn told(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Option<String> {
    if status.is_server_error() {
        return None;
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = std::str::from_utf8(body).ok()?.to_owned();
    let told = serde_json::to_string(&Told { status: status.as_u16(), content_type, body }).ok()?;
    (told.len() <= ANSWER_BYTES_MAX).then_some(told)
}

fn again(told: &str) -> Result<Response, Problem> {
    let unreadable = || Problem::conflict("this was done, and its answer cannot be read any more");
    let told: Told = serde_json::from_str(told).map_err(|_| unreadable())?;
    let status = StatusCode::from_u16(told.status).map_err(|_| unreadable())?;
    let mut response = (status, told.body).into_response();
    response.headers_mut().remove(CONTENT_TYPE);
    if let Some(value) = told.content_type.and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    Ok(response)
}
