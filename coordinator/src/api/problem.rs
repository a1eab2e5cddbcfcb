//! How the API says no: `application/problem+json` (RFC 9457) with every mistake, and never with a secret.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use picket_shared::policy::Mistake;
use picket_shared::problem::{self, Document};
use picket_shared::state::StateError;
use schemars::JsonSchema;
use serde::Serialize;
use std::time::Duration;

use crate::store::StoreError;

/// when to come back after a failure of the state or the store
const OUTAGE_RETRY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    errors: Vec<Mistake>,
    retry_after: Option<Duration>,
    challenge: bool,
}

/// with the fields that every answer of this API has
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct Failure<'a> {
    #[serde(flatten)]
    document: Document<'a>,
    success: bool,
    error: &'a str,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Problem { status, detail: detail.into(), errors: Vec::new(), retry_after: None, challenge: false }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// no or no valid credential
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// every mistake in what was sent
    pub(crate) fn mistakes(errors: Vec<Mistake>) -> Self {
        let detail = problem::detail_of(&errors, "nothing was changed");
        Problem { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    pub(crate) fn mistake(path: &str, message: impl Into<String>) -> Self {
        Self::mistakes(vec![Mistake::new(path, message)])
    }

    pub(crate) fn too_many(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(retry_after)
    }

    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "an internal error occurred")
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(OUTAGE_RETRY)
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        Problem { retry_after: Some(wait), ..self }
    }

    /// asks a browser for name and password
    pub(crate) fn with_challenge(self, challenge: bool) -> Self {
        Problem { challenge, ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document::new(self.status, &self.detail, &self.errors);
        let failure = Failure { document, success: false, error: &self.detail };
        let mut response = (self.status, axum::Json(failure)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
        if let Some(wait) = self.retry_after {
            // Rounded up: who comes back at that second comes not too early.
            headers.insert(
                RETRY_AFTER,
                HeaderValue::from(wait.as_millis().div_ceil(1000).max(1).min(u128::from(u32::MAX)) as u64),
            );
        }
        if self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"picket\", charset=\"UTF-8\""));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::warn!(error = &error as &dyn std::error::Error, "request not answered");
        Problem::unavailable("the audit store is not available")
    }
}

impl From<StateError> for Problem {
    fn from(error: StateError) -> Self {
        tracing::warn!(%error, "request not answered");
        Problem::unavailable("the shared state is not reachable")
    }
}
