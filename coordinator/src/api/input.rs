//! What callers send, read strictly: query parameters and JSON bodies, with every mistake at once.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use http::StatusCode;
use http::request::Parts;
use ipnet::IpNet;
use picket_shared::address;
use picket_shared::audit::{EXCERPT_BYTES_MAX, IDENTIFIER_BYTES_MAX, printable};
use picket_shared::clock::Timestamp;
use picket_shared::policy::Mistake;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::net::IpAddr;

use super::problem::Problem;

/// query parameters of one request
const PARAMETERS_MAX: usize = 64;

/// the query's parameters; each is taken once, and what nobody took is a mistake
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    taken: Vec<&'static str>,
    mistakes: Vec<Mistake>,
}

impl Query {
    /// reads a parameter, if it is there
    pub(crate) fn take<T>(&mut self, name: &'static str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.taken.push(name);
        let position = self.pairs.iter().position(|(key, _)| key == name)?;
        let (_, value) = self.pairs.remove(position);
        if self.pairs.iter().any(|(key, _)| key == name) {
            self.pairs.retain(|(key, _)| key != name);
            self.mistakes.push(Mistake::new(name, "given twice"));
            return None;
        }
        match read(&value) {
            Ok(value) => Some(value),
            Err(message) => {
                self.mistakes.push(Mistake::new(name, message));
                None
            }
        }
    }

    pub(crate) fn mistake(&mut self, name: &str, message: impl Into<String>) {
        self.mistakes.push(Mistake::new(name, message));
    }

    /// fails with every mistake, unknown parameters included
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        let known = match self.taken.as_slice() {
            [] => "none is known here".to_owned(),
            names => format!("known here are `{}`", names.join("`, `")),
        };
        for (name, _) in &self.pairs {
            let name = printable(name, EXCERPT_BYTES_MAX);
            self.mistakes.push(Mistake::new(name, format!("unknown parameter; {known}")));
        }
        if self.mistakes.is_empty() { Ok(()) } else { Err(Problem::mistakes(self.mistakes)) }
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let axum::extract::Query(pairs) = pairs.map_err(|_| Problem::bad_request("the query cannot be read"))?;
        if pairs.len() > PARAMETERS_MAX {
            return Err(Problem::bad_request(format!("more than {PARAMETERS_MAX} query parameters")));
        }
        Ok(Query { pairs, taken: Vec::new(), mistakes: Vec::new() })
    }
}

/// takes no parameters
pub(crate) struct NoQuery;

impl<S: Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Query::from_request_parts(parts, state).await?.finish().map(|()| NoQuery)
    }
}

/// the only variable segment of the path, without what a store cannot hold
pub(crate) struct PathText(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let unreadable = || Problem::bad_request("the path cannot be read");
        let segments = Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Path(segments) = segments.map_err(|_| unreadable())?;
        let (name, text) = segments.into_iter().next().ok_or_else(unreadable)?;
        without_nul(&text).map_err(|message| Problem::mistake(&name, message))?;
        Ok(PathText(text))
    }
}

/// the whole body
pub(crate) async fn body(request: Request) -> Result<Bytes, Problem> {
    Bytes::from_request(request, &()).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB"),
        _ => Problem::bad_request("the body cannot be read"),
    })
}

/// a JSON body of any form
pub(crate) struct JsonValue(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for JsonValue {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let bytes = body(request).await?;
        serde_json::from_slice(&bytes)
            .map(JsonValue)
            .map_err(|error| Problem::bad_request(format!("the body is not JSON: {error}")))
    }
}

/// a JSON body of the type's form; every difference is a mistake
pub(crate) struct Input<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + JsonSchema> FromRequest<S> for Input<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let JsonValue(value) = JsonValue::from_request(request, state).await?;
        let mistakes = picket_shared::schema::check::<T>(&value);
        if !mistakes.is_empty() {
            return Err(Problem::mistakes(mistakes));
        }
        serde_json::from_value(value).map(Input).map_err(|error| Problem::mistake("", error.to_string()))
    }
}

pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    address::parse_network(text)
        .ok_or_else(|| "must be an address or a prefix such as 192.0.2.0/24 or 2001:db8::/32".to_owned())
}

pub(crate) fn single_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map(address::canonical).map_err(|_| "must be one address such as 192.0.2.7 or 2001:db8::7".to_owned())
}

pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text)
        .ok_or_else(|| "must be a time such as 2026-01-31T12:00:00Z (RFC 3339; write + as %2B)".to_owned())
}

/// a number from `least` to `most`
pub(crate) fn number(least: u32, most: u32) -> impl FnOnce(&str) -> Result<u32, String> {
    move |text| {
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("must be an integer from {least} to {most}"))
    }
}

/// one of the values of an enum
pub(crate) fn one_of<T: Copy>(
    all: impl IntoIterator<Item = T> + Clone,
    name: impl Fn(T) -> &'static str,
) -> impl FnOnce(&str) -> Result<T, String> {
    move |text| {
        let found = all.clone().into_iter().find(|value| name(*value) == text);
        found.ok_or_else(|| format!("must be one of {}", all.into_iter().map(name).collect::<Vec<_>>().join(", ")))
    }
}

pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "must be true or false".to_owned())
}

/// a text of at most `bytes_max`
pub(crate) fn text(bytes_max: usize) -> impl FnOnce(&str) -> Result<String, String> {
    move |text| match text.len() {
        1.. if text.len() <= bytes_max => without_nul(text).map(|()| text.to_owned()),
        _ => Err(format!("must have from 1 to {bytes_max} bytes")),
    }
}

/// a user as records name one: what would not stay on one line is escaped there
pub(crate) fn user(id: &str) -> Result<String, String> {
    text(IDENTIFIER_BYTES_MAX)(id).map(|id| printable(&id, IDENTIFIER_BYTES_MAX))
}

/// PostgreSQL takes no text that has it
pub(crate) fn without_nul(text: &str) -> Result<(), String> {
    if text.contains('\0') { Err("must not have the character U+0000".to_owned()) } else { Ok(()) }
}
