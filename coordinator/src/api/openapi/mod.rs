//! `GET /openapi.json`: the OpenAPI 3.1 document of this API, made from the routes themselves. Its schemas are those of the types
//! that are read and written.

mod operation;

pub(super) use operation::{Access, Operation, address, any_text, boolean, integer, network, one_of, text, time};

use axum::Extension;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::auth::Caller;
use super::input::NoQuery;
use super::problem::Failure;
use super::routes::Route;
use operation::{Answer, Body, Content, Parameter};

/// the document as it is served
#[derive(Clone)]
pub(super) struct Document(Bytes);

pub(super) async fn get(Extension(Document(text)): Extension<Document>, _: Caller, _: NoQuery) -> Response {
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

pub(super) fn describe() -> Operation {
    Operation::new(Access::Known, "This document").gives_json::<OpenApi>(StatusCode::OK, "OpenAPI 3.1")
}

/// of any form that OpenAPI allows
struct OpenApi;

impl JsonSchema for OpenApi {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OpenApi".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        json_schema!({ "type": "object", "required": ["openapi", "info", "paths"] })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// what every operation may answer beside its own, by the name of its response
const COMMON: [(StatusCode, &str, &str); 9] = [
    (StatusCode::BAD_REQUEST, "BadRequest", "the query or the body cannot be read"),
    (StatusCode::UNAUTHORIZED, "Unauthorized", "no credential, or one that is not valid"),
    (StatusCode::FORBIDDEN, "Forbidden", "the credential lacks the scope, or a change comes from a foreign page"),
    (StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", "the body is larger than 1 MiB"),
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, "NotJson", "changes are sent as application/json"),
    (StatusCode::UNPROCESSABLE_ENTITY, "Mistakes", "every mistake in what was sent; nothing was changed"),
    (StatusCode::TOO_MANY_REQUESTS, "TooMany", "too many failed logins from this address"),
    (StatusCode::INTERNAL_SERVER_ERROR, "Internal", "an internal error"),
    (StatusCode::SERVICE_UNAVAILABLE, "Unavailable", "the shared state or the audit store is not available"),
];

impl Document {
    pub(super) fn of(routes: &[Route]) -> Self {
        Document(Bytes::from(assemble(routes).to_string()))
    }
}

pub(super) fn assemble(routes: &[Route]) -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for route in routes {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = schemas.operation(route);
    }
    let failure = schemas.written.subschema_for::<Failure<'static>>();
    let responses: Map<_, _> = COMMON
        .iter()
        .map(|(_, name, about)| {
            ((*name).to_owned(), json!({ "description": about, "content": { PROBLEM: { "schema": failure } } }))
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Picket management API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Success is `{\"success\": true, \"data\": …}`, failure `application/problem+json` \
                 (RFC 9457). Times are RFC 3339, UTC. \
                 Unknown parameters and fields are mistakes. Lists that are pages have an opaque `cursor`.",
        },
        "servers": [{ "url": super::BASE }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "basic": { "type": "http", "scheme": "basic", "description": "the management credential; all scopes" },
                "bearer": {
                    "type": "http", "scheme": "bearer",
                    "description": "an API key, or a token of the management issuer: the role `admin` has all scopes, \
                                    `viewer` those that read",
                },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": super::auth::COOKIE_NAME,
                    "description": "what `POST /login` sets for a browser",
                },
            },
            "responses": responses,
            "schemas": schemas.written.take_definitions(true),
        },
    })
}

const JSON: &str = "application/json";
const PROBLEM: &str = picket_shared::problem::CONTENT_TYPE;

/// types as they are read and as they are written: a field with a default is optional in the one and always there in the other
struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        let read = settings.clone().with(|settings| settings.inline_subschemas = true);
        let written = settings.with(|settings| settings.contract = Contract::Serialize);
        Schemas { read: read.into_generator(), written: written.into_generator() }
    }

    fn operation(&mut self, Route { method, path, operation, .. }: &Route) -> Value {
        let mut description = json!({
            "operationId": operation_id(method.as_str(), path),
            "tags": [path.split('/').nth(1).unwrap_or_default()],
            "summary": operation.summary,
            "security": security(operation.access),
            "responses": self.responses(method, operation),
        });
        if !operation.about.is_empty() {
            description["description"] = operation.about.into();
        }
        if !operation.parameters.is_empty() {
            description["parameters"] = operation.parameters.iter().map(parameter).collect();
        }
        if let Some(Body { schema, example }) = &operation.body {
            let schema = schema(&mut self.read);
            description["requestBody"] =
                json!({ "required": true, "content": { JSON: { "schema": schema, "example": example } } });
        }
        description
    }

    fn responses(&mut self, method: &Method, operation: &Operation) -> Value {
        let mut responses = json!({});
        let takes_body = operation.body.is_some();
        for (status, name, _) in COMMON {
            let applies = match status {
                StatusCode::PAYLOAD_TOO_LARGE => takes_body || operation.is_change(),
                // Also of a change without a body: no foreign page can make a browser send that type.
                StatusCode::UNSUPPORTED_MEDIA_TYPE => method != Method::GET,
                _ => true,
            };
            if applies {
                responses[status.as_str()] = json!({ "$ref": format!("#/components/responses/{name}") });
            }
        }
        for answer in &operation.answers {
            self.add(answer, &mut responses);
        }
        responses
    }

    fn add(&mut self, answer: &Answer, responses: &mut Value) {
        let response = &mut responses[answer.status.as_str()];
        if response.get("description").is_none() {
            *response = json!({ "description": answer.about });
        }
        for (name, about) in &answer.headers {
            response["headers"][name] = json!({ "description": about, "schema": { "type": "string" } });
        }
        let (media_type, mut content) = match &answer.content {
            Content::None => return,
            Content::Data(schema) => (JSON, json!({ "schema": enveloped(schema(&mut self.written)) })),
            Content::Json(schema) => (JSON, json!({ "schema": schema(&mut self.written) })),
            Content::Text(media_type) => (*media_type, json!({ "schema": { "type": "string" } })),
            Content::Problem => (PROBLEM, json!({ "schema": self.written.subschema_for::<Failure<'static>>() })),
        };
        if let Some(example) = &answer.example {
            content["example"] = match answer.content {
                Content::Data(_) => json!({ "success": true, "data": example }),
                _ => example.clone(),
            };
        }
        response["content"][media_type] = content;
    }
}

fn enveloped(data: schemars::Schema) -> Value {
    json!({
        "type": "object",
        "properties": { "success": { "const": true }, "data": data },
        "required": ["success", "data"],
        "additionalProperties": false,
    })
}

fn parameter(parameter: &Parameter) -> Value {
    json!({
        "in": parameter.place,
        "name": parameter.name,
        "required": parameter.place == "path",
        "description": parameter.about,
        "schema": parameter.schema,
    })
}

/// any of the schemes, with the scope that is needed
fn security(access: Access) -> Value {
    let with = |roles: &[&str]| json!([{ "basic": roles }, { "bearer": roles }, { "session": roles }]);
    match access {
        Access::Open => json!([{}]),
        Access::Known => with(&[]),
        Access::Scope(scope) => with(&[scope.as_str()]),
        Access::Both(one, other) => with(&[one.as_str(), other.as_str()]),
    }
}

/// `getAuditLogsExport`
fn operation_id(method: &str, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.fold(method.to_ascii_lowercase(), |id, word| id + &word[..1].to_ascii_uppercase() + &word[1..])
}
