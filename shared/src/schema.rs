//! A document against the JSON Schema of its type: every mistake at once, by its dotted path, in words that help to mend it.
//!
//! The value of a field that is `writeOnly` (a secret) is never repeated.

mod nearest;
mod wording;

use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{ValidationError, Validator};
use schemars::JsonSchema;
use serde_json::Value;

use crate::policy::Mistake;

/// mistakes that are reported at once
const MISTAKES_MAX: usize = 100;

/// everything in which `value` differs from the schema of `T`; empty if it fits
pub fn check<T: JsonSchema>(value: &Value) -> Vec<Mistake> {
    let schema = strict(schemars::SchemaGenerator::default().into_root_schema_for::<T>().to_value());
    let validator = match jsonschema::validator_for(&schema) {
        Ok(validator) => validator,
        Err(error) => return vec![Mistake::new("", format!("the schema itself is not valid: {error}"))],
    };
    mistakes(&schema, &validator, value)
}

fn mistakes(schema: &Value, validator: &Validator, value: &Value) -> Vec<Mistake> {
    let mut mistakes: Vec<_> =
        validator.iter_errors(value).flat_map(|error| explain(schema, &error)).take(MISTAKES_MAX).collect();
    mistakes.sort();
    mistakes.dedup();
    mistakes
}

/// the schema with the bounds that integer types have and JSON Schema does not know
fn strict(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(fields) => {
            let bounds = match fields.get("format").and_then(Value::as_str) {
                Some("uint32") => Some((0.into(), u32::MAX.into())),
                Some("int32") => Some((i32::MIN.into(), i32::MAX.into())),
                // TOML, YAML readers and SQL stop at i64; nothing that is counted here comes near
                Some("uint64" | "uint") => Some((0.into(), i64::MAX.into())),
                _ => None,
            };
            if let Some((least, most)) = bounds {
                let _: &Value = fields.entry("minimum").or_insert(least);
                let _: &Value = fields.entry("maximum").or_insert(most);
            }
            for field in fields.values_mut() {
                *field = strict(field.take());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = strict(item.take())),
        _ => {}
    }
    schema
}

/// one error as the mistakes that its author made
fn explain(schema: &Value, error: &ValidationError<'_>) -> Vec<Mistake> {
    let path = dotted(error.instance_path());
    let here = subschema(schema, error.schema_path());
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            unexpected.iter().map(|key| Mistake::new(below(&path, key), wording::unknown_key(key, here))).collect()
        }
        ValidationErrorKind::Required { property } => {
            let property = property.as_str().unwrap_or_default();
            vec![Mistake::new(below(&path, property), wording::missing(schema, here, property))]
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            match meant(context, error.instance_path()) {
                Some(errors) => errors.iter().flat_map(|error| explain(schema, error)).collect(),
                None => vec![Mistake::new(path, wording::wrong_value(schema, here, error.instance()))],
            }
        }
        _ => vec![Mistake::new(path, wording::wrong(schema, here, error))],
    }
}

/// the branch that the author meant: the only one whose kind of value was given, where the mistake lies deeper
fn meant<'a>(branches: &'a [Vec<ValidationError<'static>>], at: &Location) -> Option<&'a [ValidationError<'static>]> {
    let another_kind = |error: &ValidationError<'_>| {
        error.instance_path() == at
            && matches!(
                error.kind(),
                ValidationErrorKind::Type { .. }
                    | ValidationErrorKind::Enum { .. }
                    | ValidationErrorKind::Constant { .. }
            )
    };
    let mut likely = branches.iter().filter(|errors| !errors.iter().any(another_kind));
    match (likely.next(), likely.next()) {
        (Some(errors), None) => Some(errors),
        _ => None,
    }
}

/// the object that holds the keyword which failed
fn subschema<'a>(schema: &'a Value, keyword: &Location) -> &'a Value {
    let pointer = keyword.as_str();
    let parent = pointer.rfind('/').map_or("", |end| &pointer[..end]);
    schema.pointer(parent).unwrap_or(&Value::Null)
}

fn dotted(location: &Location) -> String {
    location.into_iter().fold(String::new(), |path, segment| match segment {
        LocationSegment::Property(name) => below(&path, &name),
        LocationSegment::Index(index) => format!("{path}[{index}]"),
    })
}

fn below(path: &str, key: &str) -> String {
    let key = crate::audit::printable(key, crate::audit::IDENTIFIER_BYTES_MAX);
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::token::IssuerConfig;
    use serde_json::json;

    fn said<T: JsonSchema>(value: Value) -> Vec<(String, String)> {
        check::<T>(&value).into_iter().map(|mistake| (mistake.path, mistake.message)).collect()
    }

    #[test]
    fn a_document_that_fits_has_no_mistakes() {
        assert_eq!(check::<Policy>(&json!({})), []);
        assert_eq!(check::<Policy>(&serde_json::to_value(Policy::default()).unwrap()), []);
    }

    #[test]
    fn every_mistake_has_its_path_and_says_how_to_mend_it() {
        let document = json!({
            "enforce": "maybe",
            "cors": { "allowedOrigin": [], "allowedMethods": [7] },
            "rate_limiting": {},
            "rateLimiting": {
                "messageLimit": { "maxMessages": "x", "windowMs": 5 },
                "burstLimit": { "maxEvents": 5_000_000_000u64 },
                "events": { "chat:typing": { "windowMs": 1000 } },
            },
            "security": [],
            "validation": { "allowedEventTypes": "chat:*" },
            "zzz": 1,
        });
        let expected = [
            ("cors.allowedMethods[0]", "must be a text, not 7"),
            ("cors.allowedOrigin", "unknown key; did you mean `allowedOrigins`?"),
            ("enforce", "must be `on`, `shadow` or `off`, not \"maybe\""),
            ("rateLimiting.burstLimit.maxEvents", "must be an integer from 1 to 4294967295, not 5000000000"),
            ("rateLimiting.events.chat:typing.maxEvents", "is missing: it must be an integer from 1 to 4294967295"),
            ("rateLimiting.messageLimit.maxMessages", "must be an integer from 1 to 4294967295, not \"x\""),
            ("rateLimiting.messageLimit.windowMs", "must be an integer from 100 to 86400000, not 5"),
            ("rate_limiting", "unknown key; did you mean `rateLimiting`?"),
            ("security", "must be an object, not a list"),
            ("validation.allowedEventTypes", "must be a list or null, not \"chat:*\""),
            (
                "zzz",
                "unknown key; known here are `cors`, `enforce`, `monitoring`, `rateLimiting`, `security`, `shadow`, `validation`",
            ),
        ];
        let said = said::<Policy>(document);
        assert_eq!(said.iter().map(|(path, message)| (path.as_str(), message.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn r15_a_secret_is_not_repeated() {
        let document = json!({ "issuer": "a", "audience": "b", "algorithms": ["HS256"], "secret": 987_654_321 });
        let said = said::<IssuerConfig>(document);
        assert_eq!(said, [("secret".into(), "must be a text or null, not ********".into())]);
    }

    #[test]
    fn where_a_field_has_two_forms_the_mistake_in_the_one_that_was_meant_is_said() {
        #[derive(JsonSchema)]
        #[serde(untagged)]
        #[expect(dead_code, reason = "only its schema is read")]
        enum Stance {
            One(crate::policy::Per),
            Each {
                #[schemars(range(min = 3))]
                rate: u32,
            },
        }
        #[derive(JsonSchema)]
        #[expect(dead_code, reason = "only its schema is read")]
        struct Document {
            stance: Option<Stance>,
        }
        assert_eq!(said::<Document>(json!({ "stance": null })), []);
        assert_eq!(said::<Document>(json!({ "stance": { "rate": 4 } })), []);
        let deep = said::<Document>(json!({ "stance": { "rate": 1 } }));
        assert_eq!(deep, [("stance.rate".into(), "must be an integer from 3 to 4294967295, not 1".into())]);
        let neither = said::<Document>(json!({ "stance": "often" }));
        assert_eq!(
            neither,
            [("stance".into(), "must be `connection`, `user`, `address` or an object, not \"often\"".into())]
        );
    }
}
