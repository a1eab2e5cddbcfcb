//! Proposed policies replayed over trails as nodes write them.

use super::*;
use picket_shared::clock::Timestamp;
use picket_shared::policy::{self, Environment};
use picket_shared::state::BlockOrigin;
use serde_json::json;

const APP: &str = "https://app.example.com";
const SHOP: &str = "https://shop.example.com";

/// records in the order of their times
#[derive(Default)]
struct Trail(Vec<AuditRecord>);

impl Trail {
    fn at(&self) -> Timestamp {
        Timestamp::from_millis(1_764_000_000_000 + 10 * self.0.len() as u64)
    }

    fn add(mut self, record: AuditRecord, stage: &str, with: Value) -> Self {
        let mut record = record.with("stage", stage);
        record.metadata.extend(with.as_object().unwrap().clone());
        record.event_name = record.metadata.remove("event").and_then(|name| name.as_str().map(str::to_owned));
        record.user_id = record.metadata.remove("user").and_then(|name| name.as_str().map(str::to_owned));
        record.socket_id = record.metadata.remove("socket").and_then(|id| id.as_str().map(str::to_owned));
        self.0.push(record);
        self
    }

    /// a connection that came in: a user's if `with` names one
    fn came_in(self, ip: &str, with: Value) -> Self {
        use picket_shared::audit::Severity;
        let kind = if with["user"].is_null() { EventType::ConnectionAttempt } else { EventType::AuthenticationSuccess };
        let record = AuditRecord::new(kind, Severity::Low, ip.parse().unwrap(), "in", self.at());
        self.add(record, "admission", with)
    }

    fn refused(self, reason: Reason, stage: &str, ip: &str, with: Value) -> Self {
        let record = AuditRecord::refusal(reason, ip.parse().unwrap(), self.at());
        self.add(record, stage, with)
    }

    /// what passed in shadow
    fn pardoned(self, reason: Reason, stage: &str, ip: &str, with: Value) -> Self {
        let record = AuditRecord::refusal(reason, ip.parse().unwrap(), self.at());
        let record = AuditRecord { reason: None, ..record }.with("shadow", true).with("refusedFor", reason.token());
        self.add(record, stage, with)
    }

    fn under(&self, before: Value, after: Value) -> Forecast {
        let read = |value| policy::read(&value).unwrap();
        let rules = Rules::compile(read(after), Environment::Production).unwrap();
        let mut replay = Replay::new(read(before), rules);
        self.0.iter().for_each(|record| replay.see(record));
        replay.end()
    }
}

/// what is told of a rule: refused, passing, unknown
fn told(forecast: &Forecast, rule: &str) -> (Option<u64>, Option<u64>, u64) {
    let of = forecast.rules.iter().find(|one| serde_json::to_value(one.rule).unwrap() == rule).unwrap();
    let count = |verdicts: &Option<Verdicts>| verdicts.as_ref().map(|verdicts| verdicts.count);
    (count(&of.refused), count(&of.passing), of.unknown)
}

fn refused_addresses(forecast: &Forecast, rule: &str) -> Vec<(String, u64)> {
    let of = forecast.rules.iter().find(|one| serde_json::to_value(one.rule).unwrap() == rule).unwrap();
    of.refused.as_ref().unwrap().addresses.top.iter().map(|one| (one.ip.to_string(), one.count)).collect()
}

fn origins(allowed: &[&str]) -> Value {
    json!({ "cors": { "allowedOrigins": allowed } })
}

#[test]
fn another_list_of_origins_refuses_some_and_lets_others_pass() {
    let trail = Trail::default()
        .came_in("192.0.2.1", json!({ "origin": APP, "user": "alice" }))
        .came_in("192.0.2.2", json!({ "origin": SHOP, "user": "bob" }))
        .came_in("192.0.2.2", json!({ "origin": SHOP, "user": "bob", "suppressed": 4 }))
        .came_in("192.0.2.3", json!({ "origin": null }))
        .came_in("192.0.2.4", json!({ "user": "recorded before origins were" }))
        .refused(Reason::OriginNotAllowed, "admission", "192.0.2.5", json!({ "origin": "https://new.example.com" }))
        .refused(Reason::OriginNotAllowed, "admission", "192.0.2.6", json!({ "origin": "unusable: null" }))
        .refused(Reason::OriginNotAllowed, "session", "192.0.2.7", json!({}));
    let forecast = trail.under(origins(&[APP, SHOP]), origins(&[APP, "https://new.example.com"]));
    assert_eq!(told(&forecast, "origin"), (Some(7), Some(1), 1));
    assert_eq!(refused_addresses(&forecast, "origin"), [("192.0.2.2".to_owned(), 6), ("192.0.2.3".to_owned(), 1)]);
    let of = forecast.rules.iter().find(|one| one.rule == Name::Rule(Rule::Origin)).unwrap();
    let refused = of.refused.as_ref().unwrap();
    assert!(of.changed && refused.by_number == 4);
    assert_eq!((refused.users.top[0].user_id.as_str(), refused.users.top[0].count), ("bob", 6));
    assert_eq!(refused.records[0], trail.0[3].id, "the newest first");
    assert_eq!(forecast.not_judged, []);
}

#[test]
fn a_country_is_judged_where_the_nodes_know_countries_and_the_allow_list_wins() {
    let trail = Trail::default()
        .came_in("192.0.2.1", json!({ "country": "DE", "origin": null }))
        .came_in("192.0.2.2", json!({ "country": "FR", "origin": null }))
        .came_in("192.0.2.3", json!({ "country": "FR", "origin": null }))
        .came_in("192.0.2.4", json!({ "origin": null }))
        .refused(Reason::CountryNotAllowed, "admission", "192.0.2.5", json!({ "country": "IT", "origin": null }));
    let lenient = json!({ "cors": { "allowMissingOrigin": true } });
    let only = |unknown: &str, listed: &[&str]| {
        json!({
            "cors": { "allowMissingOrigin": true },
            "security": { "countries": { "allow": ["DE", "IT"], "unknown": unknown }, "allowList": listed },
        })
    };
    assert_eq!(told(&trail.under(lenient.clone(), only("allow", &[])), "countries"), (Some(2), Some(1), 0));
    assert_eq!(told(&trail.under(lenient.clone(), only("deny", &["192.0.2.3"])), "countries"), (Some(2), Some(1), 0));

    let nowhere = Trail::default().came_in("192.0.2.1", json!({ "origin": null }));
    let forecast = nowhere.under(lenient, only("deny", &[]));
    assert_eq!(told(&forecast, "countries"), (None, None, 1));
    assert_eq!(forecast.not_judged[0].setting, "security.countries");
}

/// so many connections of an address, each with an id of its own
fn connecting(mut trail: Trail, ip: &str, times: usize) -> Trail {
    for _ in 0..times {
        let id = trail.0.len().to_string();
        trail = trail.came_in(ip, json!({ "origin": null, "user": "alice", "socket": id }));
    }
    trail
}

fn rate(connections: u32) -> Value {
    json!({
        "cors": { "allowMissingOrigin": true },
        "rateLimiting": { "connectionLimit": { "maxConnections": connections, "windowMs": 60_000 } },
    })
}

#[test]
fn the_rate_of_an_address_is_counted_as_a_node_counts_it() {
    let trail = connecting(Trail::default(), "192.0.2.1", 5);
    let trail = connecting(trail, "192.0.2.2", 2);
    let forecast = trail.under(rate(50), rate(3));
    assert_eq!(refused_addresses(&forecast, "connectionRate"), [("192.0.2.1".to_owned(), 2)]);
    // A neighbour in the same /64 is the same client; a /56 has four times the limit.
    let crowd = (0..6).fold(Trail::default(), |trail, n| connecting(trail, &format!("2001:db8:0:{n}::1"), 3));
    assert_eq!(told(&crowd.under(rate(50), rate(3)), "connectionRate").0, Some(6), "18 of a /56, where 12 have room");

    let sampled =
        connecting(Trail::default(), "192.0.2.1", 1).came_in("192.0.2.1", json!({ "origin": null, "suppressed": 9 }));
    assert_eq!(told(&sampled.under(rate(50), rate(4)), "connectionRate").0, Some(7));
}

#[test]
fn what_counted_for_the_rate_is_what_a_node_counts() {
    let trail = Trail::default()
        // Two namespaces of one connection.
        .came_in("192.0.2.1", json!({ "origin": null, "user": "alice", "socket": "a" }))
        .came_in("192.0.2.1", json!({ "origin": null, "user": "alice", "socket": "a" }))
        // Its token was refused, its rate was used.
        .refused(Reason::TokenInvalid, "admission", "192.0.2.1", json!({ "origin": null, "socket": "b" }))
        // The application was away, so it counted for nothing.
        .came_in("192.0.2.1", json!({ "origin": null, "user": "alice", "socket": "c" }))
        .refused(Reason::UpstreamUnavailable, "admission", "192.0.2.1", json!({ "origin": null, "socket": "c" }))
        .came_in("192.0.2.1", json!({ "origin": null, "user": "alice", "socket": "d" }))
        .came_in("192.0.2.1", json!({ "origin": null, "user": "alice", "socket": "e" }));
    let forecast = trail.under(rate(50), rate(3));
    assert_eq!(told(&forecast, "connectionRate"), (Some(1), Some(0), 0));
    assert_eq!(
        forecast
            .rules
            .iter()
            .find(|one| one.rule == Name::Rule(Rule::ConnectionRate))
            .unwrap()
            .refused
            .as_ref()
            .unwrap()
            .records,
        [trail.0[6].id.clone()]
    );
}

#[test]
fn a_wider_rate_lets_pass_and_the_same_one_changes_nothing() {
    let trail = connecting(Trail::default(), "192.0.2.1", 3)
        .refused(Reason::ConnectionRate, "admission", "192.0.2.1", json!({ "origin": null }))
        .refused(Reason::ConnectionRate, "admission", "192.0.2.1", json!({ "origin": null, "suppressed": 3 }));
    assert_eq!(told(&trail.under(rate(3), rate(3)), "connectionRate"), (Some(0), Some(0), 0));
    assert_eq!(told(&trail.under(rate(3), rate(5)), "connectionRate"), (Some(0), Some(2), 0));
    assert_eq!(told(&trail.under(rate(3), rate(50)), "connectionRate"), (Some(0), Some(5), 0));
    // What a wider list of origins lets in meets the rate that others have used.
    let strangers = trail
        .refused(Reason::OriginNotAllowed, "admission", "192.0.2.1", json!({ "origin": SHOP }))
        .refused(Reason::OriginNotAllowed, "admission", "192.0.2.9", json!({ "origin": SHOP }));
    let mut wider = rate(3);
    wider["cors"]["allowedOrigins"] = json!([SHOP]);
    assert_eq!(told(&strangers.under(rate(3), wider), "origin").1, Some(1));
}

#[test]
fn without_anonymous_connections_those_who_had_no_token_are_refused() {
    let trail = Trail::default()
        .came_in("192.0.2.1", json!({ "origin": APP, "socket": "a" }))
        .came_in("192.0.2.2", json!({ "origin": APP, "user": "alice" }))
        .came_in("192.0.2.3", json!({ "origin": SHOP }));
    let closed = json!({ "cors": { "allowedOrigins": [APP] }, "security": { "allowAnonymous": false } });
    let forecast = trail.under(origins(&[APP, SHOP]), closed.clone());
    assert_eq!(refused_addresses(&forecast, "identity"), [("192.0.2.1".to_owned(), 1)]);
    assert_eq!(refused_addresses(&forecast, "origin"), [("192.0.2.3".to_owned(), 1)], "by the first rule");

    let refused = Trail::default()
        .refused(Reason::LoginRequired, "admission", "192.0.2.1", json!({ "origin": APP }))
        .refused(Reason::TokenInvalid, "admission", "192.0.2.2", json!({ "origin": APP }));
    assert_eq!(told(&refused.under(closed, origins(&[APP])), "identity"), (Some(0), Some(1), 0));
}

#[test]
fn shadow_is_evidence_of_rules_whose_settings_stay() {
    let trail = Trail::default()
        .pardoned(
            Reason::MessageRate,
            "inspection",
            "192.0.2.1",
            json!({ "user": "alice", "setting": "rateLimiting.messageLimit" }),
        )
        .pardoned(Reason::UnknownEvent, "inspection", "192.0.2.2", json!({ "event": "room:join" }))
        .pardoned(Reason::UnknownEvent, "inspection", "192.0.2.2", json!({ "event": "chat:say" }))
        .pardoned(Reason::OriginNotAllowed, "admission", "192.0.2.3", json!({ "origin": SHOP }))
        .came_in("192.0.2.3", json!({ "origin": SHOP, "user": "bob" }));
    let before = json!({ "shadow": ["messageRate", "eventTypes", "origin"], "cors": { "allowedOrigins": [APP] } });
    let mut after = json!({ "cors": { "allowedOrigins": [APP] }, "validation": { "allowedEventTypes": ["chat:*"] } });
    let forecast = trail.under(before.clone(), after.clone());
    assert_eq!(told(&forecast, "messageRate"), (Some(1), Some(0), 0));
    assert_eq!(told(&forecast, "eventTypes").0, Some(1));
    assert_eq!(told(&forecast, "origin").0, Some(1), "once, though it has two records");
    after["rateLimiting"] = json!({ "messageLimit": { "maxMessages": 5 } });
    let forecast = trail.under(before.clone(), after);
    assert_eq!(told(&forecast, "messageRate"), (None, None, 1), "another limit: shadow says nothing of it");
    assert!(forecast.not_judged.iter().any(|one| one.setting == "rateLimiting.messageLimit" && one.refused));
    assert_eq!(told(&trail.under(before.clone(), before), "messageRate"), (Some(0), Some(0), 0));
}

#[test]
fn refused_events_say_whether_they_would_pass() {
    let large = |bytes: u64| json!({ "setting": "validation.maxPayloadSize", "observed": bytes });
    let trail = Trail::default()
        .refused(Reason::UnknownEvent, "inspection", "192.0.2.1", json!({ "event": "room:join", "user": "alice" }))
        .refused(Reason::UnknownEvent, "inspection", "192.0.2.1", json!({ "event": "admin:drop", "user": "alice" }))
        .refused(Reason::LoginRequired, "inspection", "192.0.2.2", json!({ "event": "chat:say" }))
        .refused(Reason::RoleRequired, "inspection", "192.0.2.3", json!({ "event": "chat:ban", "user": "bob" }))
        .refused(Reason::PayloadTooLarge, "inspection", "192.0.2.4", large(2000))
        .refused(Reason::PayloadTooLarge, "inspection", "192.0.2.4", large(9000))
        .refused(Reason::HostileContent, "inspection", "192.0.2.5", json!({ "setting": "validation.content" }))
        .refused(Reason::HostileContent, "inspection", "192.0.2.5", json!({ "detail": "a key of the prototype" }))
        .refused(Reason::TooDeep, "inspection", "192.0.2.6", json!({}))
        .refused(Reason::Schema, "inspection", "192.0.2.6", json!({ "event": "chat:say" }));
    let schema = json!({ "chat:say": { "type": "object" } });
    let before = json!({ "validation": {
        "allowedEventTypes": ["chat:*"], "requireAuthentication": ["chat:*"], "eventRoles": { "chat:ban": ["admin"] },
        "maxPayloadSize": 1000, "content": { "mode": "reject" }, "schemas": schema,
    } });
    let after = json!({ "validation": {
        "allowedEventTypes": ["chat:*", "room:*"], "eventRoles": { "chat:ban": ["admin", "moderator"] },
        "maxPayloadSize": 4000, "content": { "mode": "sanitize" }, "maxDepth": 100,
    } });
    let forecast = trail.under(before.clone(), after);
    let passing = |rule: &str| told(&forecast, rule);
    assert_eq!(passing("eventTypes"), (None, Some(1), 0));
    assert_eq!(passing("permission"), (None, Some(1), 1), "the record does not say which roles bob has");
    assert_eq!(passing("payloadSize"), (None, Some(1), 0));
    assert_eq!(passing("content"), (Some(0), Some(1), 0));
    assert_eq!(passing("form"), (None, None, 1));
    assert_eq!(passing("schema"), (None, Some(1), 0));
    let off = trail.under(before.clone(), json!({ "enforce": "off" }));
    assert_eq!(told(&off, "eventTypes").1, Some(2));
    assert_eq!(told(&trail.under(before.clone(), before), "eventTypes"), (Some(0), Some(0), 0));
}

#[test]
fn active_markup_that_was_removed_would_be_rejected() {
    let sanitised = |event: &str| json!({ "event": event, "user": "alice", "passed": true });
    let trail = Trail::default()
        .refused(Reason::ActiveContent, "inspection", "192.0.2.1", sanitised("chat:say"))
        .refused(Reason::SuspiciousContent, "inspection", "192.0.2.1", sanitised("chat:say"));
    let content = |mode: &str| json!({ "validation": { "content": { "mode": mode } } });
    assert_eq!(told(&trail.under(content("sanitize"), content("reject")), "content"), (Some(1), Some(0), 0));
    assert_eq!(told(&trail.under(content("sanitize"), content("detect")), "content"), (Some(0), Some(0), 0));
    let unseen = Trail::default().under(content("off"), content("reject"));
    assert_eq!((told(&unseen, "content").0, unseen.not_judged[0].setting), (None, "validation.content"));
}

#[test]
fn a_block_by_hand_stands_and_one_of_a_score_spares_the_allow_list() {
    let of = |origin: BlockOrigin| json!({ "origin": null, "block": { "origin": origin } });
    let trail = Trail::default()
        .refused(Reason::AddressBlocked, "admission", "192.0.2.1", of(BlockOrigin::Automatic))
        .refused(Reason::AddressBlocked, "admission", "192.0.2.1", of(BlockOrigin::Manual))
        .refused(Reason::AddressBlocked, "admission", "192.0.2.2", of(BlockOrigin::Automatic));
    let lenient = json!({ "cors": { "allowMissingOrigin": true } });
    let listed = json!({ "cors": { "allowMissingOrigin": true }, "security": { "allowList": ["192.0.2.1"] } });
    assert_eq!(told(&trail.under(lenient.clone(), listed), "blocks"), (None, Some(1), 0));
    let shadow = json!({ "cors": { "allowMissingOrigin": true }, "shadow": ["blocks"] });
    assert_eq!(told(&trail.under(lenient, shadow), "blocks"), (Some(0), Some(3), 0));
}

#[test]
fn what_never_reached_the_trail_is_told_and_what_is_no_verdict_is_none() {
    use picket_shared::audit::Severity;
    let nobody = "0.0.0.0".parse().unwrap();
    let notice = AuditRecord::new(EventType::AuditDropped, Severity::Critical, nobody, "x", Timestamp::from_millis(1));
    let erased = AuditRecord::new(EventType::ConnectionAttempt, Severity::Low, nobody, "x", Timestamp::from_millis(2));
    let trail =
        Trail(vec![notice.with("dropped", 7), erased]).refused(Reason::Overload, "handshake", "192.0.2.1", json!({}));
    let silent = json!({ "security": { "enableAuditLogging": false } });
    let forecast = trail.under(silent, origins(&[APP]));
    assert_eq!(forecast.dropped, 7);
    assert!(forecast.rules.iter().all(|one| one.refused.as_ref().is_none_or(|verdicts| verdicts.count == 0)));
    assert_eq!(told(&forecast, "origin").0, None, "who came in was not recorded");
    assert_eq!(forecast.not_judged[0].setting, "security.enableAuditLogging");
}
