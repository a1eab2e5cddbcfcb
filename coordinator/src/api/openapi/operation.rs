//! The description of one operation: what it takes, what it answers, and what its caller must be allowed to do.

use axum::http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::api::idempotency;
use crate::scope::Scope;

/// who may call
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Access {
    /// anybody
    Open,
    /// whoever has a credential
    Known,
    /// whose credential has the scope
    Scope(Scope),
    /// whose credential has both
    Both(Scope, Scope),
}

impl Access {
    pub(in crate::api) fn asks_for(self, scope: Scope) -> bool {
        match self {
            Access::Open | Access::Known => false,
            Access::Scope(one) => one == scope,
            Access::Both(one, other) => one == scope || other == scope,
        }
    }
}

pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

pub(in crate::api) struct Operation {
    pub(in crate::api) access: Access,
    /// whether an `Idempotency-Key` makes it once
    pub(in crate::api) once: bool,
    /// whether its handler records each call, so that nobody else needs to
    pub(in crate::api) records_itself: bool,
    pub(super) summary: &'static str,
    pub(super) about: &'static str,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<Body>,
    pub(super) answers: Vec<Answer>,
}

pub(super) struct Parameter {
    pub(super) place: &'static str,
    pub(super) name: &'static str,
    pub(super) schema: Schema,
    pub(super) about: &'static str,
}

pub(super) struct Body {
    pub(super) schema: SchemaOf,
    pub(super) example: Value,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) about: &'static str,
    pub(super) content: Content,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) example: Option<Value>,
}

pub(super) enum Content {
    None,
    /// in the envelope of a success
    Data(SchemaOf),
    Json(SchemaOf),
    /// of that media type
    Text(&'static str),
    Problem,
}

impl Operation {
    pub(in crate::api) fn new(access: impl Into<Access>, summary: &'static str) -> Self {
        Operation {
            access: access.into(),
            once: false,
            records_itself: false,
            summary,
            about: "",
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
        }
    }

    pub(in crate::api) fn about(self, about: &'static str) -> Self {
        Operation { about, ..self }
    }

    pub(in crate::api) fn path(self, name: &'static str, schema: Schema, about: &'static str) -> Self {
        self.parameter("path", name, schema, about)
    }

    pub(in crate::api) fn query(self, name: &'static str, schema: Schema, about: &'static str) -> Self {
        self.parameter("query", name, schema, about)
    }

    pub(in crate::api) fn header(self, name: &'static str, schema: Schema, about: &'static str) -> Self {
        self.parameter("header", name, schema, about)
    }

    /// a change that is made once, however often it is sent with the same key
    pub(in crate::api) fn once(self) -> Self {
        let about = "a key of the caller's choice, such as a UUID: sent again with the same body it is \
             answered as before, for a day, by whichever coordinator";
        let operation = Operation { once: true, ..self }.header(idempotency::HEADER, any_text(), about);
        operation
            .fails(StatusCode::CONFLICT, "the first request with this key is still under way")
            .with_header("Retry-After", "seconds, where it is still under way")
    }

    /// whether it changes anything
    pub(in crate::api) fn is_change(&self) -> bool {
        matches!(self.access, Access::Scope(scope) if !scope.is_read())
    }

    /// each call leaves a record of its own
    pub(in crate::api) fn records_itself(self) -> Self {
        Operation { records_itself: true, ..self }
    }

    fn parameter(mut self, place: &'static str, name: &'static str, schema: Schema, about: &'static str) -> Self {
        self.parameters.push(Parameter { place, name, schema, about });
        self
    }

    /// a JSON body
    pub(in crate::api) fn body<T: JsonSchema>(self, example: Value) -> Self {
        Operation { body: Some(Body { schema: schema_of::<T>, example }), ..self }
    }

    /// 200 with data
    pub(in crate::api) fn gives<T: JsonSchema>(self, about: &'static str) -> Self {
        self.answer(StatusCode::OK, about, Content::Data(schema_of::<T>))
    }

    /// JSON without the envelope
    pub(in crate::api) fn gives_json<T: JsonSchema>(self, status: StatusCode, about: &'static str) -> Self {
        self.answer(status, about, Content::Json(schema_of::<T>))
    }

    /// 200 with something else than JSON
    pub(in crate::api) fn gives_text(self, media_type: &'static str, about: &'static str) -> Self {
        self.answer(StatusCode::OK, about, Content::Text(media_type))
    }

    /// a status without a body
    pub(in crate::api) fn gives_nothing(self, status: StatusCode, about: &'static str) -> Self {
        self.answer(status, about, Content::None)
    }

    /// a problem of its own; what every operation may answer is not said here
    pub(in crate::api) fn fails(self, status: StatusCode, about: &'static str) -> Self {
        self.answer(status, about, Content::Problem)
    }

    fn answer(mut self, status: StatusCode, about: &'static str, content: Content) -> Self {
        self.answers.push(Answer { status, about, content, headers: Vec::new(), example: None });
        self
    }

    /// a header of the answer before
    pub(in crate::api) fn with_header(mut self, name: &'static str, about: &'static str) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.push((name, about));
        }
        self
    }

    /// what the answer before looks like; its `data`, where it has the envelope
    pub(in crate::api) fn example(mut self, example: Value) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.example = Some(example);
        }
        self
    }
}

impl From<(Scope, Scope)> for Access {
    fn from((one, other): (Scope, Scope)) -> Self {
        Access::Both(one, other)
    }
}

impl From<Scope> for Access {
    fn from(scope: Scope) -> Self {
        Access::Scope(scope)
    }
}

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

pub(in crate::api) fn text(bytes_max: usize) -> Schema {
    json_schema!({ "type": "string", "minLength": 1, "maxLength": bytes_max })
}

pub(in crate::api) fn any_text() -> Schema {
    json_schema!({ "type": "string" })
}

pub(in crate::api) fn integer(least: u32, most: u32) -> Schema {
    json_schema!({ "type": "integer", "minimum": least, "maximum": most })
}

pub(in crate::api) fn boolean() -> Schema {
    json_schema!({ "type": "boolean" })
}

pub(in crate::api) fn time() -> Schema {
    json_schema!({ "type": "string", "format": "date-time", "examples": ["2026-01-31T12:00:00Z"] })
}

pub(in crate::api) fn address() -> Schema {
    json_schema!({ "type": "string", "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }] })
}

/// an address or a prefix
pub(in crate::api) fn network() -> Schema {
    json_schema!({ "type": "string", "examples": ["192.0.2.7", "2001:db8::/32"], "anyOf": [
        { "format": "ipv4" }, { "format": "ipv6" }, { "pattern": r"^[0-9a-fA-F.:]+/\d{1,3}$" }
    ] })
}

pub(in crate::api) fn one_of<'a>(values: impl IntoIterator<Item = &'a str>) -> Schema {
    let values: Value = values.into_iter().map(|value| json!(value)).collect();
    json_schema!({ "type": "string", "enum": values })
}
