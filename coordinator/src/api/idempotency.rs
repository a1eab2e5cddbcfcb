//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a change that is sent again because its answer was lost is made once,
//! and answered as it was, by every coordinator on the same state.

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use picket_shared::state::{ANSWER_BYTES_MAX, Begun, CHANGE_LIFE, Change, StateError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

use super::auth::Caller;
use super::problem::Problem;
use super::{Api, input};

pub(super) const HEADER: &str = "Idempotency-Key";
const KEY_BYTES_MAX: usize = 255;
/// when to ask again for a change that is under way
const UNDER_WAY_RETRY: Duration = Duration::from_secs(1);
/// how long the state is told again and again what became of a change; with the time that one may take less than its claim lives
const TELL_WITHIN: Duration = Duration::from_secs(CHANGE_LIFE.as_secs() / 3);
const TELL_PAUSE: Duration = Duration::from_millis(500);
/// changes at once of which the state does not know what became of them
const UNTOLD_MAX: usize = 64;

/// places for changes of which the state is still to be told
pub(crate) struct Untold(Arc<Semaphore>);

impl Default for Untold {
    fn default() -> Self {
        Untold(Arc::new(Semaphore::new(UNTOLD_MAX)))
    }
}

/// what was answered
#[derive(Serialize, Deserialize)]
struct Told {
    status: u16,
    content_type: Option<String>,
    body: String,
}

/// what became of a change that began
enum Outcome {
    Answered(String),
    NotMade,
}

pub(super) async fn once(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (key, caller) = (key(request.headers()), request.extensions().get::<Caller>().cloned());
    let (key, caller) = match (key, caller) {
        (Ok(Some(key)), Some(caller)) => (key, caller),
        (Err(problem), _) => return problem.into_response(),
        _ => return next.run(request).await,
    };
    remembered(&api, request, next, &key, &caller).await.unwrap_or_else(Problem::into_response)
}

async fn remembered(
    api: &Arc<Api>,
    request: Request,
    next: Next,
    key: &str,
    caller: &Caller,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let body = input::body(Request::from_parts(head.clone(), body)).await?;
    let query = head.uri.query().unwrap_or_default();
    let change = Change::of(&caller.name, head.uri.path(), key, &[query.as_bytes(), &body]);
    match begin(api, &change).await? {
        Begun::First => {}
        Begun::Again(told) => return again(&told),
        Begun::UnderWay => {
            let problem = Problem::conflict("the request with this Idempotency-Key is still under way");
            return Err(problem.retry_after(UNDER_WAY_RETRY));
        }
        Begun::Another => return Err(Problem::mistake(HEADER, "was used for another request; use a new key for each")),
        Begun::Full => return Err(Problem::unavailable("too many changes are under way")),
    }
    let response = next.run(Request::from_parts(head, Body::from(body))).await;
    Ok(remember(api, change, response).await)
}

async fn begin(api: &Arc<Api>, change: &Change) -> Result<Begun, StateError> {
    let begun = api.state.answers.begin(change, api.clock.now()).await;
    if begun.is_err() {
        // Where only the reply was lost, the claim stands, and nobody works on it.
        insist(api, change.clone(), Outcome::NotMade);
    }
    begun
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

async fn remember(api: &Arc<Api>, change: Change, response: Response) -> Response {
    let (head, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let outcome = told(head.status, &head.headers, &body).map_or(Outcome::NotMade, Outcome::Answered);
    if let Err(error) = tell(api, &change, &outcome).await {
        tracing::warn!(%error, "the state does not know yet what became of a change");
        insist(api, change, outcome);
    }
    Response::from_parts(head, Body::from(body))
}

async fn tell(api: &Api, change: &Change, outcome: &Outcome) -> Result<(), StateError> {
    match outcome {
        Outcome::Answered(answer) => api.state.answers.answer(change, answer.clone(), api.clock.now()).await,
        Outcome::NotMade => api.state.answers.forget(change).await,
    }
}

/// tells the state again and again what became of a change, while nobody waits for it
fn insist(api: &Arc<Api>, change: Change, outcome: Outcome) {
    let Ok(place) = api.untold.0.clone().try_acquire_owned() else {
        tracing::warn!("too many changes of which the state does not know what became of them");
        return;
    };
    let (api, stop) = (api.clone(), api.tasks.stopped());
    api.tasks.clone().spawn("outcome of a change", async move {
        let telling = async {
            while let Err(error) = tell(&api, &change, &outcome).await {
                tracing::debug!(%error, "the state does not know yet what became of a change");
                tokio::time::sleep(TELL_PAUSE).await;
            }
        };
        tokio::select! {
            told = tokio::time::timeout(TELL_WITHIN, telling) => if told.is_err() {
                tracing::warn!("what became of a change is not remembered; one that is sent again may be made again");
            },
            () = stop => {}
        }
        drop(place);
    });
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
