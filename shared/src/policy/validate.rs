//! From JSON to a policy: every mistake at once, or a document that is typed and carried out in full.

use serde_json::Value;

use super::{Mistake, Policy};
use crate::schema;

/// the policy that `value` writes, or every mistake in it; patterns, addresses and the like are judged by `Rules::compile`
pub fn read(value: &Value) -> Result<Policy, Vec<Mistake>> {
    let mistakes = schema::check::<Policy>(value);
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    serde_path_to_error::deserialize(value)
        .map_err(|error| vec![Mistake::new(error.path().to_string(), error.inner().to_string())])
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
    fn numbers_that_a_schema_lets_through_are_still_typed() {
        let mistakes = read(&json!({ "security": { "violationsBeforeClose": 2.0 } })).unwrap_err();
        assert_eq!(mistakes[0].path, "security.violationsBeforeClose");
    }
}
