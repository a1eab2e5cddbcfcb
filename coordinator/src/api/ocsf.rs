//! Audit records as events of the Open Cybersecurity Schema Framework, which collectors and SIEMs read without a mapping of their own.
//!
//! Connections are HTTP Activity, their ends Network Activity, events inside them and administration API Activity, logins
//! Authentication, attacks Detection Findings, blocks and policies Entity Management, the program's own state Application Lifecycle.

use picket_shared::audit::{AuditRecord, EventType, Severity};
use picket_shared::reason::Reason;
use serde_json::{Value, json};

use crate::metrics::LoginOutcome;

pub(super) const VERSION: &str = "1.8.0";
const NOBODY: &str = "anonymous";

/// a class, and what of it happened
struct Activity {
    class: u64,
    category: u64,
    activity: u64,
    /// what only this class has
    fields: Value,
    /// whether the class says what a control decided
    has_decision: bool,
    is_refusal: bool,
}

/// every kind of record has a class
pub(super) fn event(record: &AuditRecord) -> Value {
    let Activity { class, category, activity, fields, has_decision, is_refusal } = activity(record);
    let mut event = json!({
        "class_uid": class,
        "category_uid": category,
        "activity_id": activity,
        "type_uid": class * 100 + activity,
        "time": record.timestamp.as_millis(),
        "severity_id": severity(record.severity),
        "message": record.message,
        "metadata": {
            "version": VERSION,
            "uid": record.id,
            "event_code": record.event_type.as_str(),
            "log_name": "audit",
            "product": { "name": "Picket", "vendor_name": "Picket", "version": env!("CARGO_PKG_VERSION") },
        },
        "unmapped": unmapped(record),
    });
    if has_decision {
        let (action, disposition) = if is_refusal { (2, 2) } else { (1, 1) };
        event["metadata"]["profiles"] = json!(["security_control"]);
        event["action_id"] = json!(action);
        event["disposition_id"] = json!(disposition);
    }
    if class != FINDING {
        event["status_id"] = json!(if is_refusal { 2 } else { 1 });
    }
    if let Some(detail) = detail(record) {
        event["status_detail"] = json!(detail);
    }
    let fields = fields.as_object().cloned().unwrap_or_default();
    if let Some(event) = event.as_object_mut() {
        event.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
    }
    event
}

const FINDING: u64 = 2004;

fn activity(record: &AuditRecord) -> Activity {
    use EventType::*;
    let is_refusal = detail(record).is_some() && !has_passed(record);
    match record.event_type {
        ConnectionClosed => network(record),
        AuthenticationSuccess => logon(record, false),
        AuthenticationFailure if record.event_name.is_none() => logon(record, !has_passed(record)),
        AdminLogin => logon(record, text(record, "outcome") != Some(LoginOutcome::Accepted.as_str())),
        SuspiciousActivity => finding(record, is_refusal),
        AlarmRaised => Activity { has_decision: false, ..finding(record, false) },
        AlarmResolved => Activity { activity: 3, has_decision: false, ..finding(record, false) },
        IpBlocked => entity(record, 1, "address"),
        IpUnblocked => entity(record, 4, "address"),
        PolicyChanged => entity(record, 3, "policy"),
        AdminAction => administration(record, is_refusal),
        AuditDropped | ModeChanged => lifecycle(),
        ConnectionAttempt
        | ConnectionBlocked
        | InvalidOrigin
        | RateLimitExceeded
        | PayloadTooLarge
        | AuthenticationFailure
        | UnauthorizedEvent
        | ValidationError => match &record.event_name {
            Some(name) => message(record, name, is_refusal),
            None => http(record, is_refusal),
        },
    }
}

/// the request that asks for a connection
fn http(record: &AuditRecord, is_refusal: bool) -> Activity {
    let url = record.route.as_ref().map(|route| json!({ "path": route }));
    let agent = text(record, "userAgent");
    let mut request = json!({ "http_method": "GET" });
    if let Some(url) = url {
        request["url"] = url;
    }
    if let Some(agent) = agent {
        request["user_agent"] = json!(agent);
    }
    let fields = json!({ "http_request": request, "src_endpoint": source(record) });
    Activity { class: 4002, category: 4, activity: 3, fields, has_decision: true, is_refusal }
}

/// a message inside a connection
fn message(record: &AuditRecord, name: &str, is_refusal: bool) -> Activity {
    let fields = json!({
        "actor": actor(record),
        "api": { "operation": name, "service": { "name": record.route.as_deref().unwrap_or("picket") } },
        "src_endpoint": source(record),
    });
    Activity { class: 6003, category: 6, activity: 99, fields, has_decision: false, is_refusal }
}

fn administration(record: &AuditRecord, is_refusal: bool) -> Activity {
    let activity = match text(record, "method") {
        Some("GET") => 2,
        Some("PUT") => 3,
        Some("DELETE") => 4,
        _ => 99,
    };
    let fields = json!({
        "actor": actor(record),
        "api": { "operation": record.message, "service": { "name": "picket management" } },
        "src_endpoint": source(record),
    });
    Activity { class: 6003, category: 6, activity, fields, has_decision: false, is_refusal }
}

fn network(record: &AuditRecord) -> Activity {
    let fields = json!({ "src_endpoint": source(record) });
    Activity { class: 4001, category: 4, activity: 2, fields, has_decision: false, is_refusal: false }
}

fn logon(record: &AuditRecord, is_refusal: bool) -> Activity {
    let service = match record.event_type.is_administrative() {
        true => "picket management",
        false => record.route.as_deref().unwrap_or("picket"),
    };
    let fields = json!({ "user": user(record), "service": { "name": service }, "src_endpoint": source(record) });
    Activity { class: 3002, category: 3, activity: 1, fields, has_decision: true, is_refusal }
}

fn finding(record: &AuditRecord, is_refusal: bool) -> Activity {
    let title = record.reason.map_or(record.event_type.as_str(), Reason::token);
    let fields = json!({
        "finding_info": { "uid": record.id, "title": title, "desc": record.message, "created_time": record.timestamp.as_millis() },
        "evidences": [{ "src_endpoint": source(record), "user": user(record) }],
        "is_alert": record.severity >= Severity::High,
    });
    Activity { class: FINDING, category: 2, activity: 1, fields, has_decision: true, is_refusal }
}

fn entity(record: &AuditRecord, activity: u64, kind: &str) -> Activity {
    let name = match text(record, "network") {
        Some(network) => network.to_owned(),
        None if kind == "policy" => "security policy".to_owned(),
        None => record.ip.to_string(),
    };
    let fields = json!({ "entity": { "name": name, "type": kind }, "actor": actor(record) });
    Activity { class: 3004, category: 3, activity, fields, has_decision: false, is_refusal: false }
}

fn lifecycle() -> Activity {
    let fields = json!({ "app": { "name": "picket" } });
    Activity { class: 6002, category: 6, activity: 99, fields, has_decision: false, is_refusal: false }
}

fn source(record: &AuditRecord) -> Value {
    json!({ "ip": record.ip })
}

/// why it was or would have been refused: the reason, also of a refusal that nobody is scored for; of an administrative act in words
fn detail(record: &AuditRecord) -> Option<&str> {
    let named = || text(record, "refusedFor").or_else(|| text(record, "because"));
    record.reason.map(Reason::token).or_else(named)
}

/// whether a rule only noticed it, or was in shadow
fn has_passed(record: &AuditRecord) -> bool {
    ["passed", "shadow"].into_iter().any(|key| record.metadata.get(key) == Some(&Value::Bool(true)))
}

fn text<'a>(record: &'a AuditRecord, key: &str) -> Option<&'a str> {
    record.metadata.get(key)?.as_str()
}

/// an administrator, or the account that somebody logs in to, else the user, else nobody
fn user(record: &AuditRecord) -> Value {
    let account = || text(record, "account").filter(|account| !account.is_empty());
    match (text(record, "actor").or_else(account), &record.user_id) {
        (Some(name), _) => json!({ "name": name }),
        (None, Some(id)) => json!({ "uid": id }),
        (None, None) => json!({ "name": NOBODY }),
    }
}

fn actor(record: &AuditRecord) -> Value {
    match &record.socket_id {
        Some(id) => json!({ "user": user(record), "session": { "uid": id } }),
        None => json!({ "user": user(record) }),
    }
}

/// what the schema has no place for
fn unmapped(record: &AuditRecord) -> Value {
    let named = [
        ("eventName", &record.event_name),
        ("node", &record.node),
        ("route", &record.route),
        ("socketId", &record.socket_id),
        ("userId", &record.user_id),
    ];
    let mut fields: serde_json::Map<_, _> =
        named.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?)))).collect();
    fields.extend(record.metadata.clone());
    Value::Object(fields)
}

fn severity(severity: Severity) -> u64 {
    match severity {
        Severity::Low => 2,
        Severity::Medium => 3,
        Severity::High => 4,
        Severity::Critical => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::clock::Timestamp;

    /// every kind of record, bare and with all that is known of one, and every reason
    fn every_record() -> Vec<AuditRecord> {
        let (ip, now) = ("2001:db8::7".parse().unwrap(), Timestamp::from_millis(1_764_000_000_000));
        let bare = EventType::ALL.map(|kind| AuditRecord::new(kind, Severity::High, ip, "something happened", now));
        let refusals = Reason::ALL.into_iter().map(|reason| AuditRecord::refusal(reason, ip, now));
        let bare: Vec<_> = bare.into_iter().chain(refusals).collect();
        let whole = bare.iter().cloned().map(|record| {
            let text = |text: &str| Some(text.to_owned());
            let known = AuditRecord {
                socket_id: text("s1"),
                user_id: text("alice"),
                event_name: text("chat:send"),
                route: text("/ws"),
                node: text("edge-1"),
                ..record
            };
            let known = known.with("actor", "warden").with("network", "192.0.2.0/24").with("method", "DELETE");
            known.with("account", "warden").with("outcome", "accepted").with("userAgent", "curl").with("limit", 7)
        });
        bare.clone().into_iter().chain(whole).collect()
    }

    #[test]
    fn every_record_has_an_event_of_a_class() {
        let events: Vec<_> = every_record().iter().map(event).collect();
        for event in &events {
            assert_eq!(
                event["type_uid"],
                event["class_uid"].as_u64().unwrap() * 100 + event["activity_id"].as_u64().unwrap()
            );
        }
        // tests/evidence validates them with the schemas of the framework.
        if let Some(path) = std::env::var_os("PICKET_OCSF_SAMPLES") {
            let lines: Vec<_> = events.iter().map(Value::to_string).collect();
            std::fs::write(path, lines.join("\n")).unwrap();
        }
    }

    #[test]
    fn a_refusal_is_denied_and_what_passed_is_not() {
        let refused = AuditRecord::refusal(Reason::HostileContent, "192.0.2.1".parse().unwrap(), Timestamp::default());
        assert_eq!((&event(&refused)["class_uid"], &event(&refused)["action_id"]), (&json!(2004), &json!(2)));
        assert_eq!(event(&refused.with("passed", true))["action_id"], 1);

        let refused = AuditRecord::refusal(Reason::TokenInvalid, "192.0.2.1".parse().unwrap(), Timestamp::default());
        let unscored = AuditRecord { reason: None, ..refused }.with("refusedFor", "token_invalid");
        let denied = event(&unscored);
        assert_eq!((&denied["action_id"], &denied["status_id"]), (&json!(2), &json!(2)));
        assert_eq!(denied["status_detail"], "token_invalid");
        let pardoned = event(&unscored.with("shadow", true));
        assert_eq!((&pardoned["action_id"], &pardoned["status_id"]), (&json!(1), &json!(1)));
    }
}
