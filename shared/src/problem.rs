//! How an API of Picket says no: the members of `application/problem+json` (RFC 9457), with every mistake.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::policy::Mistake;

pub const CONTENT_TYPE: &str = "application/problem+json";

#[derive(Debug, Serialize, JsonSchema)]
pub struct Document<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    errors: &'a [Mistake],
}

impl<'a> Document<'a> {
    pub fn new(status: StatusCode, detail: &'a str, errors: &'a [Mistake]) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Document { kind: "about:blank", title, status: status.as_u16(), detail, errors }
    }
}

/// the detail of a problem with mistakes; `nothing` says what was not done because of them
pub fn detail_of(errors: &[Mistake], nothing: &str) -> String {
    match errors {
        [one] if one.path.is_empty() => one.message.clone(),
        [one] => format!("{}: {}", one.path, one.message),
        several => format!("{} mistakes; {nothing}", several.len()),
    }
}
