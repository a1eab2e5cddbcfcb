//! How the check API says that it was asked wrongly: `application/problem+json` (RFC 9457), or the same fields as MessagePack.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use picket_shared::policy::Mistake;
use picket_shared::problem::{self, Document};

use super::body::Form;

/// an answer that is no verdict: what was asked could not be understood, or not be answered
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    errors: Vec<Mistake>,
    form: Form,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Problem { status, detail: detail.into(), errors: Vec::new(), form: Form::Json }
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "the check API needs its bearer token")
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this is not done here by this method")
    }

    pub fn overload(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "an internal error occurred")
    }

    /// every mistake in a request that was well-formed
    pub fn mistakes(errors: Vec<Mistake>) -> Self {
        let detail = problem::detail_of(&errors, "nothing was checked");
        Problem { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    pub fn written_in(self, form: Form) -> Self {
        Problem { form, ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document::new(self.status, &self.detail, &self.errors);
        let mut response = Response::new(Body::from(self.form.write(&document)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let content_type = match self.form {
            Form::Json => problem::CONTENT_TYPE,
            Form::MsgPack => self.form.content_type(),
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
