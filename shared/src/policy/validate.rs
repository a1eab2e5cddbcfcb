//! From JSON to a policy: every mistake at once, or a document that is typed and carried out in full.

use serde_json::Value;

use super::{Environment, Mistake, Policy, Rules};
use crate::schema;

/// The policy that `value` writes, or every mistake in it. Patterns, addresses and the like are judged by `Rules::compile`, here too
/// where there are mistakes already.
pub fn read(value: &Value) -> Result<Policy, Vec<Mistake>> {
    let mut mistakes = schema::check::<Policy>(value);
    if !mistakes.is_empty() {
        let others = mistakes_elsewhere(value, &mistakes);
        mistakes.extend(others);
        return Err(mistakes);
    }
    serde_path_to_error::deserialize(value)
        .map_err(|error| vec![Mistake::new(error.path().to_string(), error.inner().to_string())])
}

/// what `Rules::compile` finds in the fields of sections that have none of the mistakes
fn mistakes_elsewhere(value: &Value, mistakes: &[Mistake]) -> Vec<Mistake> {
    let mut sound = value.clone();
    let places: Vec<_> = mistakes.iter().map(|mistake| place(&mistake.path)).collect();
    for (section, field) in &places {
        let Some(fields) = sound.as_object_mut() else { return Vec::new() };
        match (fields.get_mut(*section).and_then(Value::as_object_mut), field) {
            (Some(section), Some(field)) => drop(section.remove(*field)),
            _ => drop(fields.remove(*section)),
        }
    }
    let policy = serde_json::from_value(sound).ok();
    let compiled = policy.map(|policy| Rules::compile(policy, Environment::Production));
    let found = compiled.and_then(Result::err).unwrap_or_default();
    found.into_iter().filter(|mistake| !places.contains(&place(&mistake.path))).collect()
}

/// the section of a path, and the field of it
fn place(path: &str) -> (&str, Option<&str>) {
    let mut parts = path.split(['.', '[']);
    (parts.next().unwrap_or_default(), parts.next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_part_is_filled_up_with_the_defaults() {
        let policy = read(&json!({ "security": { "suspiciousActivityThreshold": 9 } })).unwrap();
        assert_eq!(policy.security.suspicious_activity_threshold, 9);
        assert_eq!(policy.rate_limiting, super::super::RateLimiting::default());
    }

    #[test]
    fn mistakes_of_form_hide_no_others() {
        let written = json!({
            "rateLimiting": { "messageLimit": { "maxMessages": 0, "bogus": 3 } },
            "cors": { "allowedOrigins": ["*", "https://a.b/path"] },
            "security": { "allowList": ["x"], "suspiciousActivityThreshold": 0 },
            "nonsense": {},
        });
        let mut paths: Vec<_> = read(&written).unwrap_err().into_iter().map(|mistake| mistake.path).collect();
        paths.sort();
        let expected = [
            "cors.allowedOrigins[0]",
            "cors.allowedOrigins[1]",
            "nonsense",
            "rateLimiting.messageLimit.bogus",
            "rateLimiting.messageLimit.maxMessages",
            "security.allowList[0]",
            "security.suspiciousActivityThreshold",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn numbers_that_a_schema_lets_through_are_still_typed() {
        let mistakes = read(&json!({ "security": { "violationsBeforeClose": 2.0 } })).unwrap_err();
        assert_eq!(mistakes[0].path, "security.violationsBeforeClose");
    }
}
