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

/// Puts back the secrets of `current` where `written` repeats a mask that it was shown, at the same place. Where a receiver was taken
/// away, or another kind of receiver stands in its place, it is not known whose the mask is, and it stays one.
pub fn unmask(written: &mut Value, current: &Policy) {
    let known = &current.monitoring.notifications;
    let kinds: Vec<_> = receivers(written).map(|one| one.get("kind").cloned()).collect();
    if kinds.len() < known.len() {
        return;
    }
    for ((shown, notification), kind) in urls(written).zip(known).zip(kinds) {
        let is_same = kind == serde_json::to_value(notification.kind).ok();
        if shown == MASK && is_same {
            *shown = notification.url.expose().into();
        }
    }
}

fn receivers(policy: &mut Value) -> impl Iterator<Item = &mut Value> {
    policy.pointer_mut("/monitoring/notifications").and_then(Value::as_array_mut).into_iter().flatten()
}

fn urls(policy: &mut Value) -> impl Iterator<Item = &mut Value> {
    // A receiver without a URL takes part, so that each keeps its place.
    receivers(policy).map(|one| match one.get("url") {
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

    #[test]
    fn a_mask_that_may_be_anothers_stays_one() {
        let policy = policy();
        let shown = serde_json::to_value(&policy).unwrap()["monitoring"]["notifications"].take();
        let webhook = json!({ "kind": "webhook", "url": MASK });
        for (receivers, urls) in [
            (json!([shown[1]]), vec![MASK]),
            (json!([webhook, shown[1]]), vec![MASK, "https://hooks.example.com/two"]),
            (
                json!([shown[0], shown[1], webhook]),
                vec!["https://hooks.example.com/one", "https://hooks.example.com/two", MASK],
            ),
        ] {
            let mut written = json!({ "monitoring": { "notifications": receivers } });
            unmask(&mut written, &policy);
            let found = written["monitoring"]["notifications"].as_array().unwrap().iter();
            assert_eq!(found.map(|one| one["url"].as_str().unwrap()).collect::<Vec<_>>(), urls);
        }
    }
}
