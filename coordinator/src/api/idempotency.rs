//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a change that is sent again because its answer was lost is made once,
//! and answered as it was. What was answered is known to this coordinator alone, for a day.

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use parking_lot::Mutex;
use picket_shared::clock::Timestamp;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::auth::Caller;
use super::problem::Problem;
use super::{Api, BODY_BYTES_MAX};

pub(super) const HEADER: &str = "Idempotency-Key";
/// how long an answer is remembered
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// answers that are remembered; beyond it the oldest go
const ANSWERS_MAX: usize = 1000;
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const KEY_BYTES_MAX: usize = 255;

/// what was answered to whom
#[derive(Default)]
pub(crate) struct Answers(Arc<Mutex<HashMap<Id, Entry>>>);

/// a caller's key for one operation
#[derive(Clone, PartialEq, Eq, Hash)]
struct Id {
    caller: String,
    path: String,
    key: String,
}

struct Entry {
    /// of the query and the body
    fingerprint: [u8; 32],
    since: Timestamp,
    /// `None` while the first request is under way
    answer: Option<Answer>,
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    kind: Option<HeaderValue>,
    body: Bytes,
}

enum Begun {
    First(UnderWay),
    Again(Answer),
}

/// forgotten if it goes without an answer: then a retry is a first request
struct UnderWay {
    answers: Arc<Mutex<HashMap<Id, Entry>>>,
    id: Id,
}

pub(super) async fn once(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (key, caller) = (key(request.headers()), request.extensions().get::<Caller>().cloned());
    let (key, caller) = match (key, caller) {
        (Ok(Some(key)), Some(caller)) => (key, caller),
        (Err(problem), _) => return problem.into_response(),
        _ => return next.run(request).await,
    };
    match remembered(&api, request, next, key, caller).await {
        Ok(answer) => answer.into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn remembered(api: &Api, request: Request, next: Next, key: String, caller: Caller) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await;
    let body = body.map_err(|_| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB"))?;
    let mut fingerprint = Sha256::new();
    fingerprint.update(head.uri.query().unwrap_or_default().as_bytes());
    fingerprint.update([0]);
    fingerprint.update(&body);
    let id = Id { caller: caller.name, path: head.uri.path().to_owned(), key };
    match api.answers.begin(id, fingerprint.finalize().into(), api.clock.now())? {
        Begun::Again(answer) => Ok(answer.into_response()),
        Begun::First(under_way) => {
            let response = next.run(Request::from_parts(head, Body::from(body))).await;
            let (head, body) = response.into_parts();
            let body = to_bytes(body, ANSWER_BYTES_MAX).await;
            let body = body.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer is too large"))?;
            // What failed on this side is tried anew.
            if !head.status.is_server_error() {
                let kind = head.headers.get(CONTENT_TYPE).cloned();
                under_way.answer(Answer { status: head.status, kind, body: body.clone() });
            }
            Ok(Response::from_parts(head, Body::from(body)))
        }
    }
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

impl Answers {
    fn begin(&self, id: Id, fingerprint: [u8; 32], now: Timestamp) -> Result<Begun, Problem> {
        let mut known = self.0.lock();
        known.retain(|_, entry| now.since(entry.since) < LIFE);
        match known.get(&id) {
            Some(entry) if entry.fingerprint != fingerprint => {
                return Err(Problem::mistake(HEADER, "was used for another request; use a new key for each"));
            }
            Some(Entry { answer: None, .. }) => {
                return Err(Problem::conflict("the request with this Idempotency-Key is still under way"));
            }
            Some(Entry { answer: Some(answer), .. }) => return Ok(Begun::Again(answer.clone())),
            None => {}
        }
        if known.len() >= ANSWERS_MAX {
            let answered = known.iter().filter(|(_, entry)| entry.answer.is_some());
            let oldest = answered.min_by_key(|(_, entry)| entry.since).map(|(id, _)| id.clone());
            let oldest = oldest.ok_or_else(|| Problem::unavailable("too many changes are under way"))?;
            known.remove(&oldest);
        }
        known.insert(id.clone(), Entry { fingerprint, since: now, answer: None });
        Ok(Begun::First(UnderWay { answers: self.0.clone(), id }))
    }
}

impl UnderWay {
    fn answer(&self, answer: Answer) {
        if let Some(entry) = self.answers.lock().get_mut(&self.id) {
            entry.answer = Some(answer);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut known = self.answers.lock();
        if known.get(&self.id).is_some_and(|entry| entry.answer.is_none()) {
            known.remove(&self.id);
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        response.headers_mut().remove(CONTENT_TYPE);
        if let Some(kind) = self.kind {
            response.headers_mut().insert(CONTENT_TYPE, kind);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    fn id(key: usize) -> Id {
        Id { caller: "warden".into(), path: "/block-ip".into(), key: key.to_string() }
    }

    fn answer() -> Answer {
        Answer { status: StatusCode::OK, kind: None, body: Bytes::from_static(b"{}") }
    }

    #[test]
    fn a_request_under_way_is_waited_for_and_forgotten_if_it_goes() {
        let answers = Answers::default();
        let Ok(Begun::First(under_way)) = answers.begin(id(1), [1; 32], NOW) else { panic!("not the first") };
        assert_eq!(
            answers.begin(id(1), [1; 32], NOW).err().map(|problem| problem.into_response().status().as_u16()),
            Some(409)
        );
        drop(under_way);
        assert!(matches!(answers.begin(id(1), [1; 32], NOW), Ok(Begun::First(_))));
    }

    #[test]
    fn answers_are_bounded_and_end_after_a_day() {
        let answers = Answers::default();
        for key in 0..ANSWERS_MAX + 10 {
            let at = NOW.plus(Duration::from_millis(key as u64));
            let Ok(Begun::First(first)) = answers.begin(id(key), [0; 32], at) else { panic!("not the first") };
            first.answer(answer());
        }
        assert_eq!(answers.0.lock().len(), ANSWERS_MAX);
        let last = id(ANSWERS_MAX + 9);
        assert!(matches!(answers.begin(last.clone(), [0; 32], NOW), Ok(Begun::Again(_))));
        assert!(matches!(answers.begin(last, [0; 32], NOW.plus(LIFE * 2)), Ok(Begun::First(_))));
    }
}
