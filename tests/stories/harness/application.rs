//! An application that keeps its own server in front, and asks the check API about its connections and events.

use std::net::SocketAddr;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::HOME;
use super::patience::within;

pub const CHECK_TOKEN: &str = "check-token-of-the-stories-5b2c0f6a9d3e4817";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    MsgPack,
}

impl Form {
    pub const BOTH: [Form; 2] = [Form::Json, Form::MsgPack];

    pub fn media_type(self) -> &'static str {
        match self {
            Form::Json => "application/json",
            Form::MsgPack => "application/msgpack",
        }
    }

    pub fn writes(self, value: &Value) -> Vec<u8> {
        match self {
            Form::Json => value.to_string().into_bytes(),
            Form::MsgPack => rmp_serde::to_vec_named(value).unwrap(),
        }
    }
}

#[derive(Clone)]
pub struct Application {
    base: String,
    http: reqwest::Client,
    authorization: Option<String>,
    form: Form,
}

/// What the check API answered, whichever form it has.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Application {
    pub fn new(check: SocketAddr, token: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let authorization = Some(format!("Bearer {token}"));
        Self { base: format!("http://{check}"), http, authorization, form: Form::Json }
    }

    pub fn speaking(self, form: Form) -> Self {
        Self { form, ..self }
    }

    pub fn authorized_by(self, authorization: Option<&str>) -> Self {
        Self { authorization: authorization.map(str::to_owned), ..self }
    }

    /// Asks about a connection from the allowed origin.
    pub async fn connects(&self, id: &str, ip: &str) -> Value {
        self.connects_with(id, ip, json!({})).await
    }

    pub async fn connects_with(&self, id: &str, ip: &str, more: Value) -> Value {
        let mut question = json!({ "connectionId": id, "ip": ip, "origin": HOME });
        question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.asks("/v1/check/connection", &question).await.verdict()
    }

    pub async fn ends(&self, id: &str) {
        let reply = self.sends(Method::DELETE, &format!("/v1/check/connection/{id}"), |request| request).await;
        assert_eq!(reply.status, 204, "{reply:?}");
    }

    /// Asks about an event.
    pub async fn says(&self, id: &str, ip: &str, event: &str, payload: Value) -> Value {
        self.says_with(id, ip, event, json!({ "payload": payload })).await
    }

    pub async fn says_with(&self, id: &str, ip: &str, event: &str, more: Value) -> Value {
        let mut question = json!({ "connectionId": id, "ip": ip, "event": event });
        question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.asks("/v1/check/event", &question).await.verdict()
    }

    pub async fn asks(&self, path: &str, question: &Value) -> Reply {
        self.posts(path, self.form.media_type(), self.form.writes(question)).await
    }

    pub async fn posts(&self, path: &str, media_type: &str, body: Vec<u8>) -> Reply {
        self.sends(Method::POST, path, |request| request.header(CONTENT_TYPE, media_type).body(body)).await
    }

    pub async fn sends(
        &self,
        method: Method,
        path: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Reply {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = within(path, with(request).send()).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = within(path, response.bytes()).await.unwrap_or_else(|error| panic!("{path}: {error}")).to_vec();
        Reply { status, headers, bytes }
    }
}

impl Reply {
    pub fn content_type(&self) -> &str {
        self.headers.get(CONTENT_TYPE).map_or("", |value| HeaderValue::to_str(value).unwrap())
    }

    pub fn value(&self) -> Value {
        match self.content_type() {
            "application/msgpack" => {
                rmp_serde::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {self:?}"))
            }
            _ => serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {self:?}")),
        }
    }

    pub fn verdict(&self) -> Value {
        assert_eq!(self.status, 200, "{:?}", self.value());
        let verdict = self.value();
        assert!(verdict["allowed"].is_boolean(), "{verdict}");
        verdict
    }

    /// A problem that says what is wrong, in words that hold these.
    pub fn is_problem(&self, status: u16, words: &str) -> Value {
        assert_eq!(self.status, status, "{:?}", String::from_utf8_lossy(&self.bytes));
        let problem = self.value();
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(words)), "no {words:?} in {problem}");
        problem
    }
}
