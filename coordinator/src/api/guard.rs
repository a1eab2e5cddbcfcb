//! Around every request: a time limit, isolation of panics, and the headers that every answer has.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use std::sync::Arc;
use std::time::Duration;

use super::Api;
use super::problem::Problem;

/// how long an answer may take to begin
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// on every answer that does not set its own
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"),
    ),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

pub(super) async fn guard(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let answer = api.tasks.isolate("management request", next.run(request));
    let mut response = match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(Some(response)) => response,
        Ok(None) => Problem::internal().into_response(),
        Err(_) => Problem::unavailable("the answer took too long").into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    api.instruments.count_request(response.status());
    response
}
