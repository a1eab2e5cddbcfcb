//! What the application sends, read strictly and within bounds: JSON or MessagePack, by its Content-Type.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

use super::CheckApi;
use super::problem::Problem;
use crate::protocol::msgpack;
use picket_shared::policy::Mistake;
use picket_shared::telemetry::Trace;

/// the field that is left as it stands, for the checks to judge
const PAYLOAD: &str = "payload";

/// how a body is written
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    MsgPack,
}

impl Form {
    pub const fn content_type(self) -> &'static str {
        match self {
            Form::Json => "application/json",
            Form::MsgPack => "application/msgpack",
        }
    }

    /// by media type, parameters aside
    fn named(text: &str) -> Option<Self> {
        let media_type = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match media_type.as_str() {
            "application/json" => Some(Form::Json),
            "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => Some(Form::MsgPack),
            _ => None,
        }
    }

    fn of_body(headers: &HeaderMap) -> Option<Self> {
        Form::named(headers.get(header::CONTENT_TYPE)?.to_str().ok()?)
    }

    /// the first of the two that Accept names
    fn wanted(headers: &HeaderMap) -> Option<Self> {
        let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).find_map(Form::named)
    }

    /// what this module's own types say; they have no form that cannot be written
    pub fn write(self, value: &impl Serialize) -> Vec<u8> {
        match self {
            Form::Json => serde_json::to_vec(value).unwrap_or_default(),
            Form::MsgPack => rmp_serde::to_vec_named(value).unwrap_or_default(),
        }
    }
}

/// a body, and in which form its answer is wanted
#[derive(Debug)]
pub struct Asked {
    bytes: Bytes,
    form: Form,
    pub answer_in: Form,
    /// the question's place in the application's trace
    pub trace: Option<Trace>,
}

/// an event's payload, as it stands in the body
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    Json(Box<str>),
    MsgPack(Bytes),
}

impl FromRequest<Arc<CheckApi>> for Asked {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<CheckApi>) -> Result<Self, Problem> {
        let limits = &api.gate.limits;
        let answer_in = Form::wanted(request.headers());
        let Some(form) = Form::of_body(request.headers()) else {
            let detail = "Content-Type must be application/json or application/msgpack";
            let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail);
            return Err(problem.written_in(answer_in.unwrap_or(Form::Json)));
        };
        let answer_in = answer_in.unwrap_or(form);
        let trace = request.extensions().get::<Trace>().cloned();
        let patience = Duration::from_millis(limits.message_timeout_ms);
        let bytes = read(request, limits.check_body_bytes_max, patience).await;
        bytes.map(|bytes| Asked { bytes, form, answer_in, trace }).map_err(|problem| problem.written_in(answer_in))
    }
}

async fn read(request: Request, bytes_max: usize, patience: Duration) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body is larger than node.limits.checkBodyBytesMax ({bytes_max})");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    match timeout(patience, Limited::new(request.into_body(), bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::bad_request("the body cannot be read")),
        Err(_) => {
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took longer than node.limits.messageTimeoutMs"))
        }
    }
}

impl Asked {
    /// the fields of a request without a payload
    pub fn fields<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let (fields, payload) = self.fields_and_payload(|_: &T| None)?;
        match payload {
            Some(_) => Err(self.mistake(PAYLOAD, "a connection has no payload")),
            None => Ok(fields),
        }
    }

    /// the fields, and the payload untouched; `raw` gives the payload of a JSON body
    pub fn fields_and_payload<T: DeserializeOwned>(
        &self,
        raw: impl FnOnce(&T) -> Option<&RawValue>,
    ) -> Result<(T, Option<Payload>), Problem> {
        match self.form {
            Form::Json => {
                let fields = self.parse(&self.bytes)?;
                let payload = raw(&fields).map(|payload| Payload::Json(payload.get().into()));
                Ok((fields, payload))
            }
            Form::MsgPack => {
                let split = msgpack::split(&self.bytes, PAYLOAD);
                let split =
                    split.map_err(|error| Problem::bad_request(error.to_string()).written_in(self.answer_in))?;
                let payload = split.field.map(|bytes| Payload::MsgPack(self.bytes.slice_ref(bytes)));
                Ok((self.parse(split.rest.as_bytes())?, payload))
            }
        }
    }

    fn parse<T: DeserializeOwned>(&self, json: &[u8]) -> Result<T, Problem> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let fields = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = error.path().to_string();
            let error = error.into_inner();
            let path = if path == "." { "" } else { &path };
            match error.is_data() {
                true => self.mistake(path, without_place(&error)),
                false => Problem::bad_request(format!("the body is not JSON: {error}")).written_in(self.answer_in),
            }
        })?;
        reader.end().map_err(|error| {
            Problem::bad_request(format!("the body is not JSON: {error}")).written_in(self.answer_in)
        })?;
        Ok(fields)
    }

    fn mistake(&self, path: &str, message: impl Into<String>) -> Problem {
        Problem::mistakes(vec![Mistake::new(path, message)]).written_in(self.answer_in)
    }
}

/// a MessagePack body has no lines and columns
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(message, _)| message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[derive(serde::Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Fields {
        name: String,
        #[serde(default)]
        payload: Option<Box<RawValue>>,
    }

    fn asked(form: Form, bytes: Vec<u8>) -> Result<(Fields, Option<Payload>), Problem> {
        let asked = Asked { bytes: bytes.into(), form, answer_in: form, trace: None };
        asked.fields_and_payload(|fields: &Fields| fields.payload.as_deref())
    }

    #[test]
    fn a_payload_is_left_as_it_stands() {
        let text = r#"{"name":"x","payload":{"a":1,"a":"\u003c"}}"#;
        let (fields, payload) = asked(Form::Json, text.into()).unwrap();
        assert_eq!((fields.name.as_str(), payload), ("x", Some(Payload::Json(r#"{"a":1,"a":"\u003c"}"#.into()))));
        let packed = rmp_serde::to_vec_named(&json!({ "name": "x", "payload": [1, "é"] })).unwrap();
        let (_, payload) = asked(Form::MsgPack, packed).unwrap();
        assert_eq!(payload, Some(Payload::MsgPack(Bytes::from_static(b"\x92\x01\xa2\xc3\xa9"))));
    }

    #[test]
    fn mistakes_say_what_is_wrong_and_where_in_both_forms() {
        let said = |value: Value| {
            [Form::Json, Form::MsgPack].map(|form| format!("{:?}", asked(form, form.write(&value)).unwrap_err()))
        };
        for (value, words) in [
            (json!({ "name": 7 }), "name: invalid type: integer `7`, expected a string"),
            (json!({}), "missing field `name`"),
            (json!({ "name": "x", "nam": 1 }), "unknown field `nam`"),
        ] {
            let said = said(value);
            assert!(said.iter().all(|problem| problem.contains(words) && problem.contains("422")), "{said:?}");
        }
        assert!(format!("{:?}", asked(Form::Json, b"{".to_vec()).unwrap_err()).contains("400"));
        assert!(format!("{:?}", asked(Form::Json, b"{\"name\":\"x\"} 1".to_vec()).unwrap_err()).contains("400"));
        assert!(format!("{:?}", asked(Form::MsgPack, vec![0x81]).unwrap_err()).contains("400"));
    }

    #[test]
    fn forms_are_told_by_media_type() {
        assert_eq!(Form::named("Application/JSON; charset=utf-8"), Some(Form::Json));
        assert_eq!(Form::named("application/x-msgpack"), Some(Form::MsgPack));
        assert_eq!(Form::named("text/plain"), None);
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, "text/html, application/msgpack;q=0.5".parse().unwrap());
        assert_eq!(Form::wanted(&headers), Some(Form::MsgPack));
    }
}
