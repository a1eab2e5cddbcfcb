//! Where administration's own records name people. All else that they say is of administration, and outlives whoever is erased.

use picket_shared::audit::EventType;
use serde_json::{Map, Value};

/// by kind, the keys of the metadata that hold people; a dot leads into an object
const PLACES: [(EventType, &[&str]); 2] = [
    // Whom a block of a shared address binds.
    (EventType::IpBlocked, &["users"]),
    // Whose tokens were revoked, and what an export asked for.
    (EventType::AdminAction, &["revokedUser", "filter.userId", "filter.text"]),
];

/// the kinds whose records may name people
pub(super) fn kinds() -> impl Iterator<Item = EventType> {
    PLACES.into_iter().map(|(kind, _)| kind)
}

/// the metadata of a record with `subject` in the place of a user's name; `None` if it does not name the user
pub(super) fn without(kind: &str, metadata: &str, user: &str, subject: &str) -> Option<String> {
    let (_, places) = PLACES.into_iter().find(|(known, _)| known.as_str() == kind)?;
    let mut metadata: Map<String, Value> = serde_json::from_str(metadata).ok()?;
    let mut is_named = false;
    for place in places {
        is_named |= find(&mut metadata, place).is_some_and(|value| replace(value, user, subject));
    }
    is_named.then(|| Value::Object(metadata).to_string())
}

fn find<'a>(metadata: &'a mut Map<String, Value>, place: &str) -> Option<&'a mut Value> {
    match place.split_once('.') {
        None => metadata.get_mut(place),
        Some((key, rest)) => find(metadata.get_mut(key)?.as_object_mut()?, rest),
    }
}

/// whether the value was the user, or a list with the user in it
fn replace(value: &mut Value, user: &str, subject: &str) -> bool {
    match value {
        Value::String(text) if text == user => {
            subject.clone_into(text);
            true
        }
        Value::Array(values) => {
            values.iter_mut().fold(false, |is_named, value| replace(value, user, subject) | is_named)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn left(kind: EventType, metadata: &Value) -> Option<Value> {
        without(kind.as_str(), &metadata.to_string(), "alice", "5f0c").map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_name_is_replaced_where_people_are_named_and_all_else_stays() {
        let block =
            json!({ "automatic": true, "network": "192.0.2.7", "durationMs": 60_000, "users": ["alice", "bob"] });
        let expected =
            json!({ "automatic": true, "network": "192.0.2.7", "durationMs": 60_000, "users": ["5f0c", "bob"] });
        assert_eq!(left(EventType::IpBlocked, &block), Some(expected));
        let revoked = json!({ "actor": "alice", "revokedUser": "alice", "issuedBefore": "alice" });
        let expected = json!({ "actor": "alice", "revokedUser": "5f0c", "issuedBefore": "alice" });
        assert_eq!(left(EventType::AdminAction, &revoked), Some(expected));
        let export = json!({ "actor": "siem", "filter": { "userId": "alice", "text": "alice", "severity": "alice" } });
        let expected = json!({ "actor": "siem", "filter": { "userId": "5f0c", "text": "5f0c", "severity": "alice" } });
        assert_eq!(left(EventType::AdminAction, &export), Some(expected));
    }

    #[test]
    fn what_holds_nobody_names_nobody_whatever_it_says() {
        for metadata in [
            json!({ "actor": "alice", "account": "alice", "reason": "alice", "network": "alice", "path": "alice" }),
            json!({ "filter": "alice", "users": { "alice": "alice" }, "revokedUser": ["Alice", 1, null] }),
            json!({}),
        ] {
            for kind in EventType::ALL {
                assert_eq!(left(kind, &metadata), None, "{kind:?} {metadata}");
            }
        }
        for kind in EventType::ALL.into_iter().filter(|kind| kinds().all(|names| names != *kind)) {
            assert_eq!(left(kind, &json!({ "users": ["alice"], "revokedUser": "alice" })), None, "{kind:?}");
        }
    }
}
