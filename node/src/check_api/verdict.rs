//! What is answered to a check: 200 with `allowed`, whatever the verdict; the status says only that the question was understood.

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use picket_shared::reason::Reason;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::body::Form;
use super::problem::Problem;
use crate::protocol::msgpack;
use crate::refusal::Denial;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    pub allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// by which the client can name the record of it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub appeal: Option<String>,
    /// the close code to end the connection with, where it must end
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close: Option<u16>,
    #[serde(skip)]
    pub payload: Option<Rewritten>,
}

/// a payload to use instead of the one that was sent
#[derive(Debug, PartialEq, Eq)]
pub enum Rewritten {
    Json(String),
    MsgPack(Vec<u8>),
}

#[derive(Serialize)]
struct WithPayload<'a> {
    #[serde(flatten)]
    verdict: &'a Verdict,
    payload: &'a RawValue,
}

impl Verdict {
    pub const ALLOWED: Verdict =
        Verdict { allowed: true, reason: None, retry_after_ms: None, appeal: None, close: None, payload: None };

    pub fn refused(denial: &Denial, close: Option<u16>) -> Self {
        Verdict {
            allowed: false,
            reason: Some(denial.reason),
            retry_after_ms: denial.retry_after_ms(),
            appeal: denial.appeal.map(|code| code.to_string()),
            close,
            payload: None,
        }
    }

    pub fn written_in(&self, form: Form) -> Result<Response, Problem> {
        let bytes = match (form, &self.payload) {
            (_, None) => Ok(form.write(self)),
            (Form::Json, Some(Rewritten::Json(json))) => self.with_json(json),
            (Form::Json, Some(Rewritten::MsgPack(bytes))) => {
                msgpack::to_json(bytes).ok().map(|json| self.with_json(&json)).unwrap_or(Err(()))
            }
            (Form::MsgPack, Some(Rewritten::MsgPack(bytes))) => Ok(self.with_msgpack(bytes)),
            (Form::MsgPack, Some(Rewritten::Json(json))) => {
                let packed = serde_json::from_str::<Value>(json).ok().map(|value| form.write(&value));
                packed.map(|bytes| self.with_msgpack(&bytes)).ok_or(())
            }
        };
        let bytes = bytes.map_err(|()| Problem::internal().written_in(form))?;
        let mut response = Response::new(Body::from(bytes));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
        // For the span of the exchange.
        if let Some(reason) = self.reason {
            response.extensions_mut().insert(reason);
        }
        Ok(response)
    }

    fn with_json(&self, json: &str) -> Result<Vec<u8>, ()> {
        let payload: &RawValue = serde_json::from_str(json).map_err(|_| ())?;
        Ok(Form::Json.write(&WithPayload { verdict: self, payload }))
    }

    /// one more entry of a map that has few (fixmap of the MessagePack specification)
    fn with_msgpack(&self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Form::MsgPack.write(self);
        if let Some(head) = bytes.first_mut() {
            *head += 1;
        }
        msgpack::write_str(&mut bytes, "payload");
        bytes.extend_from_slice(payload);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use serde_json::json;
    use std::time::Duration;

    async fn written(verdict: &Verdict, form: Form) -> Value {
        let response = verdict.written_in(form).unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], form.content_type());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        match form {
            Form::Json => serde_json::from_slice(&bytes).unwrap(),
            Form::MsgPack => rmp_serde::from_slice(&bytes).unwrap(),
        }
    }

    #[tokio::test]
    async fn a_verdict_says_the_same_in_both_forms() {
        let denial = Denial::from(Reason::Burst).retry_after(Duration::from_millis(70)).because("a rule");
        for form in [Form::Json, Form::MsgPack] {
            assert_eq!(written(&Verdict::ALLOWED, form).await, json!({ "allowed": true }));
            let refused = json!({ "allowed": false, "reason": "burst", "retryAfterMs": 70, "close": 1008 });
            assert_eq!(written(&Verdict::refused(&denial, Some(1008)), form).await, refused);
            let payload = json!({ "text": "é", "n": [1, -1] });
            let packed = rmp_serde::to_vec_named(&payload).unwrap();
            for rewritten in [Rewritten::Json(payload.to_string()), Rewritten::MsgPack(packed)] {
                let verdict = Verdict { payload: Some(rewritten), ..Verdict::ALLOWED };
                assert_eq!(written(&verdict, form).await, json!({ "allowed": true, "payload": payload }));
            }
        }
    }
}
