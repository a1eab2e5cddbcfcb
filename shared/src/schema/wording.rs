//! What a schema asks for and what was given instead, in plain words.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::nearest::nearest;
use crate::audit::printable;
use crate::secret::MASK;

/// the longest value that a message repeats, in bytes
const VALUE_BYTES_MAX: usize = 64;
/// how far references are followed
const REFERENCES_MAX: usize = 16;

pub(super) fn unknown_key(key: &str, schema: &Value) -> String {
    let known: Vec<&str> =
        schema["properties"].as_object().map(|fields| fields.keys().map(String::as_str).collect()).unwrap_or_default();
    match nearest(key, known.iter().copied()) {
        Some(meant) => format!("unknown key; did you mean `{meant}`?"),
        None if known.is_empty() => "unknown key; remove it".to_owned(),
        None => format!("unknown key; known here are `{}`", known.join("`, `")),
    }
}

pub(super) fn missing(root: &Value, schema: &Value, property: &str) -> String {
    match wanted(root, &schema["properties"][property]) {
        Some(wanted) => format!("is missing: it must be {wanted}"),
        None => "is missing".to_owned(),
    }
}

pub(super) fn wrong_value(root: &Value, schema: &Value, given: &Value) -> String {
    let given = shown(schema, given);
    match wanted(root, schema) {
        Some(wanted) => format!("must be {wanted}, not {given}"),
        None => format!("has not the expected form: {given}"),
    }
}

pub(super) fn wrong(root: &Value, schema: &Value, error: &ValidationError<'_>) -> String {
    use ValidationErrorKind::*;
    match error.kind() {
        Type { .. }
        | Enum { .. }
        | Constant { .. }
        | Minimum { .. }
        | Maximum { .. }
        | ExclusiveMinimum { .. }
        | ExclusiveMaximum { .. } => wrong_value(root, schema, error.instance()),
        MinLength { limit } => format!("must have at least {limit} characters"),
        MaxLength { limit } => format!("must have at most {limit} characters"),
        MinItems { limit } => format!("must have at least {limit} entries"),
        MaxItems { limit } => format!("must have at most {limit} entries"),
        MinProperties { limit } => format!("must have at least {limit} keys"),
        MaxProperties { limit } => format!("must have at most {limit} keys"),
        UniqueItems => "must not have the same entry twice".to_owned(),
        Pattern { pattern } => format!("must match the pattern {pattern}, not {}", shown(schema, error.instance())),
        // The library's own words, without the value: it may be a secret.
        _ => error.masked().to_string(),
    }
}

/// what a schema asks for, as in "an integer from 1 to 10"; `None` if it says nothing that has a short name
fn wanted(root: &Value, schema: &Value) -> Option<String> {
    let mut alternatives = Vec::new();
    collect(root, schema, &mut alternatives, 0);
    let last = alternatives.pop()?;
    Some(if alternatives.is_empty() { last } else { format!("{} or {last}", alternatives.join(", ")) })
}

fn collect(root: &Value, schema: &Value, out: &mut Vec<String>, depth: usize) {
    if depth > REFERENCES_MAX {
        return;
    }
    let mut add = |text: String| {
        if !out.contains(&text) {
            out.push(text);
        }
    };
    if let Some(value) = schema.get("const") {
        add(literal(value));
    } else if let Some(values) = schema["enum"].as_array() {
        values.iter().map(literal).for_each(add);
    } else if let Some(kind) = schema["type"].as_str() {
        add(kind_name(kind, schema));
    } else if let Some(kinds) = schema["type"].as_array() {
        kinds.iter().filter_map(Value::as_str).map(|kind| kind_name(kind, schema)).for_each(add);
    } else if let Some(target) =
        schema["$ref"].as_str().and_then(|reference| root.pointer(reference.trim_start_matches('#')))
    {
        collect(root, target, out, depth + 1);
    } else if let Some(branches) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
        branches.iter().for_each(|branch| collect(root, branch, out, depth + 1));
    }
}

fn literal(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| format!("`{text}`"))
}

fn kind_name(kind: &str, schema: &Value) -> String {
    let noun = match kind {
        "integer" => "an integer",
        "number" => "a number",
        "string" => return "a text".to_owned(),
        "boolean" => return "true or false".to_owned(),
        "array" => return "a list".to_owned(),
        "object" => return "an object".to_owned(),
        other => return other.to_owned(),
    };
    let bound = |name: &str| schema.get(name).filter(|bound| bound.is_number());
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) if most.as_i64() == Some(i64::MAX) => format!("{noun} of at least {least}"),
        (Some(least), Some(most)) => format!("{noun} from {least} to {most}"),
        (Some(least), None) => format!("{noun} of at least {least}"),
        (None, Some(most)) => format!("{noun} of at most {most}"),
        (None, None) => noun.to_owned(),
    }
}

/// what was given, short, on one line, and masked if it is a secret
fn shown(schema: &Value, given: &Value) -> String {
    match given {
        Value::Null => "null".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        _ if is_secret(schema) => MASK.to_owned(),
        Value::String(text) => format!("\"{}\"", printable(text, VALUE_BYTES_MAX)),
        Value::Bool(_) | Value::Number(_) => printable(&given.to_string(), VALUE_BYTES_MAX),
    }
}

/// a secret, or a choice of which one form is a secret
fn is_secret(schema: &Value) -> bool {
    let branches = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
    schema["writeOnly"] == true || branches.is_some_and(|branches| branches.iter().any(is_secret))
}
