//! HTTP answers before the upgrade: the status of the reason's row, `Retry-After` where waiting helps, and a JSON body.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use picket_shared::reason::Reason;
use serde_json::json;

use crate::refusal::Denial;

/// Engine.IO's error codes, which its clients surface (engine.io `Server.errors`)
const ENGINE_IO_BAD_REQUEST: u8 = 3;
const ENGINE_IO_FORBIDDEN: u8 = 4;

/// an answer that is not an upgrade; the connection is closed after it
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `None`: nobody's offence, nothing to record
    pub denial: Option<Denial>,
    status: StatusCode,
    code: u8,
    message: &'static str,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl From<Denial> for Answer {
    fn from(denial: Denial) -> Self {
        let consequence = denial.reason.consequence();
        let status = StatusCode::from_u16(consequence.status).unwrap_or(StatusCode::FORBIDDEN);
        let code = if denial.reason == Reason::ProtocolError { ENGINE_IO_BAD_REQUEST } else { ENGINE_IO_FORBIDDEN };
        let mut headers = Vec::new();
        if let Some(wait) =
            denial.retry_after.filter(|_| consequence.retryable || denial.reason == Reason::AddressBlocked)
        {
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            headers.extend(HeaderValue::from_str(&seconds.to_string()).ok().map(|value| (header::RETRY_AFTER, value)));
        } else if consequence.retryable {
            headers.push((header::RETRY_AFTER, HeaderValue::from_static("1")));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.push((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        }
        Answer { denial: Some(denial), status, code, message: consequence.message, headers }
    }
}

impl Answer {
    pub fn refused(reason: Reason, detail: impl Into<String>) -> Self {
        Answer::from(Denial::from(reason).because(detail))
    }

    pub fn not_found() -> Self {
        Answer::neutral(StatusCode::NOT_FOUND, ENGINE_IO_BAD_REQUEST, "nothing is here")
    }

    pub fn upgrade_required() -> Self {
        Answer::neutral(StatusCode::UPGRADE_REQUIRED, ENGINE_IO_BAD_REQUEST, "this is a WebSocket endpoint")
            .header(header::UPGRADE, HeaderValue::from_static("websocket"))
    }

    /// an error of the Engine.IO protocol itself
    pub fn engine_io(code: u8, message: &'static str) -> Self {
        Answer::neutral(StatusCode::BAD_REQUEST, code, message)
    }

    /// Engine.IO's error for what it cannot read
    pub fn bad_request() -> Self {
        Answer::engine_io(ENGINE_IO_BAD_REQUEST, "Bad request")
    }

    fn neutral(status: StatusCode, code: u8, message: &'static str) -> Self {
        Answer { denial: None, status, code, message, headers: Vec::new() }
    }

    pub fn status(self, status: StatusCode) -> Self {
        Answer { status, ..self }
    }

    #[cfg(test)]
    pub fn status_code(&self) -> StatusCode {
        self.status
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut body = json!({ "code": self.code, "message": self.message });
        if let Some(denial) = &self.denial {
            body["reason"] = denial.reason.token().into();
            if let Some(appeal) = denial.appeal {
                body["appeal"] = appeal.to_string().into();
            }
        }
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.extend(self.headers);
        response
    }
}
