//! The OpenAPI document: it says what is, and every answer in these tests is one that it describes.

use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::office::{Office, Reply, Visitor};
use crate::api::{BASE, openapi, routes};
use crate::api_keys;
use crate::config::Scope;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| openapi::assemble(routes().list()));

/// fails if the document has the operation, and not this answer of it
pub fn is_described(method: &Method, path: &str, reply: &Reply) {
    let path = path.split('?').next().unwrap();
    let Some(operation) = path.strip_prefix(BASE).and_then(|path| operation(method, path)) else {
        return;
    };
    if *method == Method::HEAD {
        return;
    }
    let response = &operation["responses"][reply.status.to_string()];
    let response = response["$ref"].as_str().map_or(response, resolved);
    assert!(response.is_object(), "{method} {path} is not described to answer {}: {}", reply.status, reply.text);
    let kind = reply.header("content-type").split(';').next().unwrap();
    match &response["content"][kind] {
        Value::Null => assert!(reply.text.is_empty(), "{method} {path} is not described to answer {kind}"),
        content if ["application/json", "application/problem+json"].contains(&kind) => {
            fits(&reply.json(), &content["schema"], &format!("{method} {path} {}", reply.status));
        }
        _ => {}
    }
}

fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let is = |template: &str| {
        let (template, path) = (template.split('/'), path.split('/'));
        template.clone().count() == path.clone().count()
            && template.zip(path).all(|(part, given)| part == given || part.starts_with('{'))
    };
    let (_, item) = paths.iter().find(|(template, _)| is(template))?;
    item.get(method.as_str().to_ascii_lowercase())
}

fn resolved(reference: &str) -> &'static Value {
    DOCUMENT.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

fn fits(value: &Value, schema: &Value, what: &str) {
    let schema = json!({ "allOf": [schema], "components": DOCUMENT["components"] });
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    let errors: Vec<_> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{what} is not as described: {errors:#?}\n{value:#}");
}

fn operations() -> impl Iterator<Item = (&'static str, &'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
    })
}

#[tokio::test]
async fn the_document_is_served_to_whoever_has_a_credential() {
    let office = Office::open().await;
    office.stranger().get("/openapi.json").await.fails_with(401);
    let served = office.admin().get("/openapi.json").await;
    assert_eq!((served.status, served.json()["openapi"].as_str()), (200, Some("3.1.0")));
    assert_eq!(served.json(), *DOCUMENT);
}

#[test]
fn every_operation_says_what_it_is_and_who_may() {
    let ids: BTreeSet<_> = operations().map(|(_, _, operation)| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), operations().count(), "each has an id of its own");
    for (method, path, operation) in operations() {
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path}");
        assert!(operation["security"].is_array(), "{method} {path}");
        let taken: Vec<_> = path.split('/').filter(|part| part.starts_with('{')).collect();
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let described = parameters.iter().filter(|parameter| parameter["in"] == "path");
        let described: Vec<_> =
            described.map(|parameter| format!("{{{}}}", parameter["name"].as_str().unwrap())).collect();
        assert_eq!(described, taken, "{method} {path}");
        let answers = operation["responses"].as_object().unwrap().keys().any(|status| status.starts_with('2'));
        assert!(answers, "{method} {path} says how it answers");
    }
}

#[test]
fn every_example_is_one() {
    let mut count = 0;
    for (method, path, operation) in operations() {
        let responses = operation["responses"].as_object().unwrap().values();
        let contents = responses.chain([&operation["requestBody"]]).filter_map(|part| part["content"].as_object());
        for content in contents.flat_map(|content| content.values()).filter(|content| content["example"] != Value::Null)
        {
            fits(&content["example"], &content["schema"], &format!("the example of {method} {path}"));
            count += 1;
        }
    }
    assert!(count >= 10, "{count} examples");
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &Value) {
        match value {
            Value::Object(fields) => {
                fields.get("$ref").and_then(Value::as_str).map(resolved);
                fields.values().for_each(walk);
            }
            Value::Array(items) => items.iter().for_each(walk),
            _ => {}
        }
    }
    walk(&DOCUMENT);
}

/// asked for a parameter that does not exist, an endpoint says which ones do
#[tokio::test]
async fn the_parameters_that_are_described_are_those_that_are_taken() {
    let office = Office::open().await;
    for (method, path, operation) in operations() {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let described = parameters.iter().filter(|parameter| parameter["in"] == "query");
        let described: BTreeSet<_> =
            described.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect();
        let reply = office.admin().tries(method, &format!("{path}?unheardOf=1"), operation).await;
        let problem = reply.fails_with(422);
        let message = problem["errors"][0]["message"].as_str().unwrap();
        let taken: BTreeSet<_> = message.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert_eq!(taken, described, "{path}: {message}");
    }
}

impl Visitor<'_> {
    /// an operation with what its description gives as an example
    async fn tries(&self, method: &str, path: &str, operation: &Value) -> Reply {
        let path = path.replace("{id}", "0").replace("{ip}", "192.0.2.1").replace("{userId}", "alice");
        let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
        let body = operation["requestBody"]["content"]["application/json"]["example"].clone();
        self.asks(method, &format!("{BASE}{path}"), |request| match body {
            Value::Null => request.header("Content-Type", "application/json"),
            body => request.json(&body),
        })
        .await
    }
}

#[tokio::test]
async fn r14_every_operation_that_is_not_open_is_denied_without_a_credential_and_without_its_scope() {
    let keys: Vec<_> = Scope::ALL.into_iter().map(|scope| (scope, api_keys::generate())).collect();
    let others = |scope| Scope::ALL.into_iter().filter(|other| !other.includes(scope)).collect::<Vec<_>>();
    let builder = keys.iter().fold(Office::builder(), |builder, (scope, key)| {
        builder.with_key(&scope.as_str().replace(':', "-"), key, &others(*scope))
    });
    let office = builder.start().await;
    let is_open = |operation: &Value| operation["security"] == json!([{}]);
    let open = operations().filter(|(_, _, operation)| is_open(operation)).map(|(_, path, _)| path);
    assert_eq!(open.collect::<Vec<_>>(), ["/health", "/login"]);
    let mut denied = 0;
    for (method, path, operation) in operations().filter(|(_, _, operation)| !is_open(operation)) {
        office.stranger().tries(method, path, operation).await.fails_with(401);
        let Some(needed) = operation["security"][0]["basic"][0].as_str() else {
            continue;
        };
        let (_, key) = keys.iter().find(|(scope, _)| scope.as_str() == needed).unwrap();
        let problem = office.with_key(key).tries(method, path, operation).await.fails_with(403);
        assert!(problem["detail"].as_str().unwrap().contains(&format!("the scope `{needed}`")), "{problem}");
        denied += 1;
    }
    assert!(denied > 12, "{denied} operations were denied");
}
