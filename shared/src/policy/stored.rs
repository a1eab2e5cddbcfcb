//! The document as the state and a snapshot keep it: with the secrets that every other form masks.

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::Policy;
use crate::secret::MASK;

/// the policy with its secrets, for where it is kept and nowhere else
pub fn stored(policy: &Policy) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(policy)?;
    for (shown, notification) in urls(&mut value).zip(&policy.monitoring.notifications) {
        *shown = notification.url.expose().into();
    }
    Ok(value)
}

/// for a field that is kept
pub fn serialize_stored<S: Serializer>(policy: &Policy, serializer: S) -> Result<S::Ok, S::Error> {
    stored(policy).map_err(serde::ser::Error::custom)?.serialize(serializer)
}

/// puts back the secrets of `current` where `written` repeats a mask that it was shown, at the same place
pub fn unmask(written: &mut Value, current: &Policy) {
    for (shown, notification) in urls(written).zip(&current.monitoring.notifications) {
        if shown == MASK {
            *shown = notification.url.expose().into();
        }
    }
}

fn urls(policy: &mut Value) -> impl Iterator<Item = &mut Value> {
    let notifications = policy.pointer_mut("/monitoring/notifications").and_then(Value::as_array_mut);
    // A receiver without a URL takes part, so that each keeps its place.
    notifications.into_iter().flatten().map(|one| match one.get("url") {
        Some(_) => &mut one["url"],
        None => one,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy() -> Policy {
        let receiver = |path: &str| json!({ "kind": "slack", "url": format!("https://hooks.example.com/{path}") });
        super::super::read(&json!({ "monitoring": { "notifications": [receiver("one"), receiver("two")] } })).unwrap()
    }

    #[test]
    fn r15_a_url_is_kept_whole_and_shown_masked() {
        let policy = policy();
        assert!(!serde_json::to_string(&policy).unwrap().contains("hooks.example.com"));
        let kept = stored(&policy).unwrap();
        assert_eq!(super::super::read(&kept).unwrap(), policy);
    }

    #[test]
    fn who_writes_back_what_was_shown_changes_nothing() {
        let policy = policy();
        let mut written = serde_json::to_value(&policy).unwrap();
        written["monitoring"]["notifications"][0] = json!({ "kind": "slack" });
        unmask(&mut written, &policy);
        assert_eq!(written["monitoring"]["notifications"][1]["url"], "https://hooks.example.com/two");
        assert_eq!(written["monitoring"]["notifications"][0], json!({ "kind": "slack" }));
    }
}
