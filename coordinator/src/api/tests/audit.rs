//! The trail: listing, export, explanation, dashboard and report.

use picket_shared::appeal::AppealCode;
use picket_shared::audit::{AuditRecord, EventType, Severity};
use picket_shared::clock::Clock;
use picket_shared::reason::Reason;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;

use super::office::{ADMIN, Office, PASSWORD, START};
use crate::api_keys;
use crate::config::Scope;

#[tokio::test]
async fn the_trail_is_found_by_its_filters() {
    let office = Office::open().await;
    (1..=7).for_each(|host| office.refuses(Reason::OriginNotAllowed, &format!("192.0.2.{host}")));
    office.refuses(Reason::TokenInvalid, "2001:db8::7");
    office.audited("eventType=INVALID_ORIGIN", 7).await;
    office.audited("eventType=AUTHENTICATION_FAILURE", 1).await;
    for (query, count) in [
        ("ip=192.0.2.4", 1),
        ("ip=192.0.2.4/30", 4),
        ("ip=2001:db8::/32", 1),
        ("severity=high", 7),
        ("severity=medium&eventType=INVALID_ORIGIN", 0),
        ("text=token_invalid", 1),
        ("text=%25", 0),
        ("since=2020-01-01T00:00:00Z&eventType=INVALID_ORIGIN", 7),
        ("until=2020-01-01T00:00:00Z", 0),
        ("since=2120-01-01T00:00:00Z", 0),
    ] {
        assert_eq!(office.audited(query, 0).await.len(), count, "{query}");
    }
}

#[tokio::test]
async fn pages_follow_each_other_by_cursor() {
    let office = Office::open().await;
    (1..=7).for_each(|host| office.refuses(Reason::OriginNotAllowed, &format!("192.0.2.{host}")));
    office.audited("eventType=INVALID_ORIGIN", 7).await;
    let (mut ids, mut sizes, mut cursor) = (HashSet::new(), Vec::new(), String::new());
    loop {
        let page = office.admin().get(&format!("/audit-logs?eventType=INVALID_ORIGIN&limit=3{cursor}")).await.data();
        let logs = page["logs"].as_array().unwrap();
        sizes.push(logs.len());
        ids.extend(logs.iter().map(|record| record["id"].to_string()));
        assert_eq!(
            (&page["total"], &page["totalIsLowerBound"], &page["filtered"]),
            (&json!(7), &json!(false), &json!(true))
        );
        let Some(next) = page["nextCursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    assert_eq!((ids.len(), sizes), (7, vec![3, 3, 1]));
}

#[tokio::test]
async fn wrong_and_unknown_parameters_are_all_said_at_once() {
    let office = Office::open().await;
    let reply = office.admin().get("/audit-logs?limit=0&eventType=NONSENSE&severity=awful&since=yesterday&cursor=!!&ip=x&colour=red&text=&userId=a&userId=b").await;
    assert_eq!(
        reply.mistakes(),
        ["eventType", "severity", "ip", "userId", "since", "text", "limit", "cursor", "colour"]
    );
    for path in
        ["/metrics?x=1", "/dashboard?x=1", "/blocks?x=1", "/config?x=1", "/nodes?x=1", "/report?x=1", "/health?x=1"]
    {
        assert_eq!(office.admin().get(path).await.mistakes(), ["x"], "{path}");
    }
}

#[tokio::test]
async fn an_export_streams_every_record_once_as_lines_or_as_a_table() {
    let office = Office::open().await;
    (0..2500).for_each(|n| office.refuses(Reason::AddressBlocked, &format!("192.0.{}.{}", n / 250, n % 250)));
    office.audited("limit=1000", 1000).await;
    super::office::eventually("all are stored", async || {
        let text = office.admin().get("/audit-logs/export?eventType=CONNECTION_BLOCKED").await.text;
        (text.lines().count() == 2500).then_some(())
    })
    .await;
    let lines = office.admin().get("/audit-logs/export?format=ndjson&ip=192.0.3.0/24").await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    assert_eq!(lines.text.lines().count(), 250);
    assert!(
        lines
            .text
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).unwrap()["ip"].as_str().unwrap().starts_with("192.0.3."))
    );
    let table = office.admin().get("/audit-logs/export?format=csv&ip=192.0.3.7").await;
    assert_eq!(table.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(table.text.lines().count(), 2);
    let ocsf = office.admin().get("/audit-logs/export?format=ocsf&ip=192.0.3.0/24").await;
    let events: Vec<Value> = ocsf.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((events.len(), &events[0]["class_uid"], &events[0]["action_id"]), (250, &json!(4002), &json!(2)));
    office.admin().get("/audit-logs/export?format=xml").await.fails_with(422);
}

#[tokio::test]
async fn r11_a_clients_words_are_no_formula_in_a_spreadsheet() {
    let office = Office::open().await;
    let mut record = AuditRecord::new(
        EventType::UnauthorizedEvent,
        Severity::High,
        "192.0.2.1".parse().unwrap(),
        "=cmd|' /C calc'!A0",
        START,
    );
    record.event_name = Some("@SUM(1+1)*cmd".into());
    record.user_id = Some("+1".into());
    record.socket_id = Some("-1,\"x\"".into());
    office.hears(record);
    office.audited("userId=%2B1", 1).await;
    let text = office.admin().get("/audit-logs/export?format=csv").await.text;
    let row = text.lines().find(|line| line.contains("UNAUTHORIZED_EVENT")).unwrap();
    assert!(row.contains("\"'=cmd|' /C calc'!A0\",\"'-1,\"\"x\"\"\",\"'+1\",\"'@SUM(1+1)*cmd\""), "{row}");
}

#[tokio::test]
async fn an_event_of_the_framework_says_who_did_what_and_whether_it_was_let() {
    let key = api_keys::generate();
    let office = Office::builder().with_key("siem", &key, &[Scope::AuditRead]).start().await;
    office.visitor("mallory", "wrong").get("/metrics").await.fails_with(401);
    office.stranger().post("/login", json!({ "username": ADMIN, "password": PASSWORD })).await.data();
    office.with_key(&key).delete("/subjects/alice").await.fails_with(403);
    office.admin().delete("/subjects/alice").await.data();
    office.audited("eventType=ADMIN_LOGIN", 2).await;
    office.audited("text=personal%20data%20erased", 1).await;
    office.audited("text=audit:erase", 1).await;

    let events = office.admin().get("/audit-logs/export?format=ocsf").await.text;
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found = |class: u64, message: &str, name: &str| {
        let user = |event: &Value| event["user"]["name"] == name || event["actor"]["user"]["name"] == name;
        let mut all = events.iter().filter(|event| event["class_uid"] == class && event["message"] == message);
        let event = all.find(|event| user(event)).unwrap_or_else(|| panic!("{message} by {name} in {events:#?}"));
        ["activity_id", "status_id", "action_id", "disposition_id"].map(|field| event[field].as_u64())
    };
    let (allowed, denied) = (Some(1), Some(2));
    let logon = Some(1);
    assert_eq!(found(3002, "login to the management API", ADMIN), [logon, Some(1), allowed, allowed]);
    assert_eq!(found(3002, "failed login to the management API", "mallory"), [logon, Some(2), denied, denied]);
    let (other, delete) = (Some(99), Some(4));
    assert_eq!(found(6003, "administrative act refused", "api-key:siem"), [delete, Some(2), None, None]);
    assert_eq!(found(6003, "personal data erased", ADMIN), [other, Some(1), None, None]);
}

#[tokio::test]
async fn a_person_is_erased_from_the_trail_which_still_verifies_and_does_not_say_who() {
    let office = Office::builder().with_tokens().start().await;
    for n in 0..3 {
        let mut record = AuditRecord::refusal(Reason::TokenInvalid, "198.51.100.7".parse().unwrap(), START);
        record.user_id = Some("alice".into());
        record.socket_id = Some(format!("socket-{n}"));
        office.hears(record);
    }
    office.audited("userId=alice", 3).await;
    let erased = office.admin().delete("/subjects/alice").await.data();
    assert_eq!((&erased["records"], &erased["complete"]), (&json!(3), &json!(true)));
    let told = office.audited("text=personal%20data%20erased", 1).await;
    assert_eq!(told[0]["metadata"]["subject"], erased["subject"]);
    office.visitor("carol", "wrong").delete("/subjects/alice").await.fails_with(401);

    let export = office.admin().get("/audit-logs/export").await.text;
    for trace in ["alice", "198.51.100.7", "socket-"] {
        assert!(!export.contains(trace), "{trace} in {export}");
    }
    let verdict = crate::store::verify_export(export.as_bytes(), &[], |_| {}).unwrap();
    assert_eq!((verdict.broken, verdict.erased, verdict.given), (None, 3, 0));
    assert_eq!(verdict.checked, export.lines().count() as u64);
    let viewer = office.bearer(json!({ "role": "viewer" }));
    viewer.delete("/subjects/alice").await.fails_with(403);
}

#[tokio::test]
async fn an_erasure_launders_nothing_of_what_administrators_did() {
    let key = api_keys::generate();
    let office = Office::builder().with_key("eraser", &key, &[Scope::AuditErase]).start().await;
    let admin = office.admin();
    office.visitor("mallory", "wrong").get("/metrics").await.fails_with(401);
    office.stranger().post("/login", json!({ "username": ADMIN, "password": PASSWORD })).await.data();
    admin.post("/revoke", json!({ "userId": "alice" })).await.data();
    admin.post("/block-ip", json!({ "ip": "198.51.100.9", "reason": "scraper" })).await.data();
    admin.post("/unblock-ip", json!({ "ip": "198.51.100.9", "reason": "scraper" })).await.data();
    admin.put("/config", json!({ "validation": { "maxDepth": 7 } })).await.data();
    admin.get("/audit-logs/export?userId=alice&text=alice").await;
    for (query, count) in [("ADMIN_LOGIN", 2), ("ADMIN_ACTION", 2), ("POLICY_CHANGED", 1), ("IP_UNBLOCKED", 1)] {
        office.audited(&format!("eventType={query}"), count).await;
    }
    office.audited("text=audit%20trail%20read", 1).await;
    let trail = async || admin.get("/audit-logs?limit=1000").await.data()["logs"].as_array().unwrap().clone();
    let before = trail().await;
    let left_of_it = async || {
        let all = trail().await.into_iter();
        all.filter(|record| before.iter().any(|other| other["id"] == record["id"])).collect::<Vec<_>>()
    };

    for id in ["refused", "accepted", "mallory", ADMIN, "validation.maxDepth", "198.51.100.9", "scraper", "ndjson"] {
        let erased = office.with_key(&key).delete(&format!("/subjects/{id}")).await.data();
        assert_eq!((&erased["records"], &erased["complete"]), (&json!(0), &json!(true)), "{id}");
    }
    assert_eq!(left_of_it().await, before);
    let erased = office.with_key(&key).delete("/subjects/alice").await.data();
    assert_eq!((&erased["records"], &erased["complete"]), (&json!(2), &json!(true)), "a revocation and an export");
    let subject = erased["subject"].to_string();
    let renamed = |record: &Value| record.to_string().replace("\"alice\"", &subject).parse().unwrap();
    assert_eq!(left_of_it().await, before.iter().map(renamed).collect::<Vec<Value>>());

    let export = admin.get("/audit-logs/export").await.text;
    assert!(!export.contains("alice"), "{export}");
    let verdict = crate::store::verify_export(export.as_bytes(), &[], |_| {}).unwrap();
    assert_eq!((verdict.broken, verdict.restated, verdict.restated_given), (None, 2, 0));
}

#[tokio::test]
async fn r10_a_report_page_shows_hostile_words_as_words() {
    let office = Office::builder().with_tokens().start().await;
    let hostile = |field: &str| format!("<img src=x id={field} onerror=alert(1)>\"'</title><script>alert(1)</script>");
    let author = office.bearer(json!({ "role": "admin", "sub": hostile("author") }));
    author.post("/block-ip", json!({ "ip": "192.0.2.66", "reason": hostile("reason") })).await.data();
    author.put("/config", json!({ "validation": { "eventRoles": { hostile("setting"): ["a"] } } })).await.data();
    office.visitor(&hostile("account"), "wrong").get("/metrics").await.fails_with(401);
    for kind in [EventType::SuspiciousActivity, EventType::AdminAction, EventType::IpUnblocked, EventType::AdminLogin] {
        let record = AuditRecord::refusal(Reason::HostileContent, "192.0.2.1".parse().unwrap(), START);
        let record = AuditRecord {
            event_type: kind,
            message: hostile("message"),
            user_id: Some(hostile("user")),
            event_name: Some(hostile("event")),
            socket_id: Some(hostile("socket")),
            route: Some(hostile("route")),
            node: Some(hostile("node")),
            ..record
        };
        let record = record.with("actor", hostile("actor")).with("because", hostile("because"));
        office.hears(match kind {
            EventType::AdminAction => record.with("path", hostile("path")),
            _ => record.with("network", hostile("network")),
        });
    }
    office.audited("eventType=SUSPICIOUS_ACTIVITY", 1).await;
    office.audited("eventType=ADMIN_LOGIN&text=account", 1).await;
    office.audited("eventType=POLICY_CHANGED", 1).await;
    office.audited("eventType=IP_BLOCKED", 1).await;

    let page = office.admin().get("/report?period=24h&format=html").await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'nonce-") && !policy.contains("unsafe"), "{policy}");
    assert!(page.text.contains("SUSPICIOUS_ACTIVITY") && page.text.contains("<svg"), "{}", page.text);
    for field in ["author", "reason", "setting", "account", "message", "actor", "because", "path", "network"] {
        assert!(page.text.contains(&format!("&#60;img src=x id={field} ")), "{field} is shown: {}", page.text);
    }
    for markup in ["<img", "<script", "\"'<", "</title><script"] {
        assert!(!page.text.contains(markup), "{markup}: {}", page.text);
    }
}

#[tokio::test]
async fn a_report_counts_a_period_in_three_formats() {
    let office = Office::open().await;
    office.refuses(Reason::OriginNotAllowed, "192.0.2.1");
    office.clock.advance(Duration::from_secs(7200));
    office.refuses(Reason::TokenInvalid, "192.0.2.2");
    office.audited("ip=192.0.2.0/24", 2).await;
    let report = office.admin().get("/report?period=1h").await.data();
    assert_eq!(report["eventCounts"]["AUTHENTICATION_FAILURE"], 1);
    assert_eq!(report["eventCounts"]["INVALID_ORIGIN"], Value::Null);
    let report = office.admin().get("/report?period=7d&format=json").await.data();
    assert_eq!(report["reasonCounts"], json!({ "origin_not_allowed": 1, "token_invalid": 1 }));
    assert_eq!(report["topIPs"].as_array().unwrap().len(), 3, "two clients and the administrator");
    let csv = office.admin().get("/report?format=csv&since=2020-01-01T00:00:00Z&until=2120-01-01T00:00:00Z").await.text;
    assert!(csv.contains("eventType,INVALID_ORIGIN,1\r\n"), "{csv}");
    for wrong in ["period=1y", "format=pdf", "period=1h&since=2020-01-01T00:00:00Z", "since=2120-01-01T00:00:00Z"] {
        office.admin().get(&format!("/report?{wrong}")).await.fails_with(422);
    }
}

#[tokio::test]
async fn a_report_tells_refusals_from_what_was_noticed_and_passed() {
    let office = Office::open().await;
    let address = "192.0.2.1".parse().unwrap();
    office.refuses(Reason::HostileContent, "192.0.2.1");
    for reason in [Reason::ActiveContent, Reason::SuspiciousContent, Reason::Behaviour] {
        office.hears(AuditRecord::refusal(reason, address, START).with("passed", true));
    }
    let pardoned = AuditRecord { reason: None, ..AuditRecord::refusal(Reason::Schema, address, START) };
    office.hears(pardoned.with("shadow", true).with("refusedFor", "schema"));
    office.audited("ip=192.0.2.1", 5).await;

    let report = office.admin().get("/report?period=1h").await.data();
    assert_eq!((&report["refusals"], &report["noticed"]), (&json!(1), &json!(3)));
    assert_eq!(report["reasonCounts"], json!({ "hostile_content": 1 }));
    let noticed = json!({ "active_content": 1, "behaviour": 1, "suspicious_content": 1 });
    assert_eq!(report["noticedCounts"], noticed);
    let day = office.admin().get("/dashboard").await.data()["analytics"].clone();
    assert_eq!((&day["reasonCounts"], &day["noticedCounts"]), (&json!({ "hostile_content": 1 }), &noticed));
    let table = office.admin().get("/report?period=1h&format=csv").await.text;
    for row in ["reason,hostile_content,1", "noticed,behaviour,1", "refusals,all,1", "noticed,all,3"] {
        assert!(table.contains(&format!("{row}\r\n")), "{row}: {table}");
    }
    assert!(!table.contains("reason,behaviour"), "{table}");
}

#[tokio::test]
async fn no_crowd_of_blocks_or_of_guesses_hides_what_administrators_did() {
    let office = Office::open().await;
    office.admin().post("/block-ip", json!({ "ip": "192.0.2.66", "reason": "by hand" })).await.data();
    office.audited("eventType=IP_BLOCKED", 1).await;
    let login = |n: u64| {
        let at = START.plus(Duration::from_millis(n));
        let record =
            AuditRecord::new(EventType::AdminLogin, Severity::Medium, "192.0.2.9".parse().unwrap(), "guessed", at);
        record.with("account", "root").with("outcome", "refused")
    };
    for n in 1..=1100 {
        let at = START.plus(Duration::from_millis(n));
        let block =
            AuditRecord::new(EventType::IpBlocked, Severity::High, "192.0.2.7".parse().unwrap(), "by itself", at);
        office.hears(block.with("automatic", true).with("network", "192.0.2.7"));
        office.hears(login(n));
    }
    office.clock.advance(Duration::from_secs(60));
    super::office::eventually("all are stored", async || {
        let report = office.admin().get("/report?period=1h").await.data();
        let counts = &report["eventCounts"];
        (counts["IP_BLOCKED"] == 1101 && counts["ADMIN_LOGIN"] == 1101).then_some(())
    })
    .await;
    let report = office.admin().get("/report?period=1h").await.data();
    let acts = report["administration"].as_array().unwrap();
    let found = |kind: &str, message: &str| {
        acts.iter().filter(|act| act["eventType"] == kind && act["message"] == message).count()
    };
    assert_eq!((found("IP_BLOCKED", "address blocked"), found("IP_BLOCKED", "by itself")), (1, 0));
    assert_eq!((found("ADMIN_LOGIN", "login to the management API"), found("ADMIN_LOGIN", "guessed")), (1, 100));
    assert_eq!(report["administrationComplete"], true);
    assert_eq!(report["blocksMade"]["latest"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn a_report_lists_blocks_administration_and_policy_changes() {
    let office = Office::open().await;
    let admin = office.admin();
    admin.post("/block-ip", json!({ "ip": "192.0.2.66", "reason": "=cmd|'<b>scan</b>" })).await.data();
    admin.post("/unblock-ip", json!({ "ip": "192.0.2.66" })).await.data();
    admin.put("/config", json!({ "validation": { "maxDepth": 40 } })).await.data();
    office.refuses(Reason::TokenInvalid, "192.0.2.1");
    office.audited("", 6).await;
    let report = admin.get("/report?period=1h").await.data();
    assert_eq!((&report["refusals"], &report["blocksMade"]["total"]), (&json!(1), &json!(1)));
    assert_eq!(report["blocksMade"]["latest"][0]["metadata"]["network"], "192.0.2.66");
    let acts = report["administration"].as_array().unwrap().iter();
    let mut acts: Vec<_> = acts.map(|record| record["eventType"].as_str().unwrap()).collect();
    acts.sort();
    assert_eq!(acts, ["ADMIN_ACTION", "ADMIN_LOGIN", "IP_BLOCKED", "IP_UNBLOCKED", "POLICY_CHANGED"]);
    assert_eq!(report["policyChanges"][0]["changes"][0]["path"], "validation.maxDepth");
    let csv = admin.get("/report?period=1h&format=csv").await.text;
    assert!(csv.contains("warden version 2 validation.maxDepth") && csv.contains("refusals,all,1\r\n"), "{csv}");
    let page = admin.get("/report?period=1h&format=html").await.text;
    assert!(page.contains("warden address blocked 192.0.2.66") && !page.contains("<b>"), "{page}");
    office.clock.advance(Duration::from_secs(7200));
    let later = admin.get("/report?period=1h").await.data();
    let is_old = |act: &Value| act["eventType"] != "ADMIN_LOGIN" && act["eventType"] != "ADMIN_ACTION";
    assert!(!later["administration"].as_array().unwrap().iter().any(is_old), "{later}");
    assert_eq!(later["policyChanges"], json!([]));
}

#[tokio::test]
async fn the_dashboard_shows_the_last_day() {
    let office = Office::open().await;
    office.refuses(Reason::OriginNotAllowed, "192.0.2.1");
    office.clock.advance(Duration::from_secs(90_000));
    office.refuses(Reason::OriginNotAllowed, "192.0.2.4");
    office.refuses(Reason::HostileContent, "192.0.2.4");
    office.audited("ip=192.0.2.0/24", 3).await;
    let dashboard = office.admin().get("/dashboard").await.data();
    let analytics = &dashboard["analytics"];
    assert_eq!(analytics["eventCounts"]["INVALID_ORIGIN"], 1);
    assert_eq!(analytics["severityCounts"]["high"], 2);
    let busiest = analytics["topIPs"].as_array().unwrap();
    assert!(busiest.contains(&json!({ "ip": "192.0.2.4", "count": 2 })), "{busiest:?}");
    assert_eq!(dashboard["metrics"]["activeConnections"], 0);
    assert!(dashboard["recentLogs"].as_array().unwrap().len() >= 3);
    assert!(dashboard["timeSeries"]["points"].as_array().unwrap().len() >= 24);
}

#[tokio::test]
async fn a_verdict_is_explained() {
    let office = Office::open().await;
    let mut record =
        AuditRecord::refusal(Reason::TokenInvalid, "192.0.2.1".parse().unwrap(), START).with("policyVersion", 3);
    record.node = Some("edge-1".into());
    let id = record.id.clone();
    office.hears(record);
    office.audited("ip=192.0.2.1", 1).await;
    let explanation = office.admin().get(&format!("/audit-logs/{id}/explanation")).await.data();
    assert_eq!(explanation["rule"]["reason"], "token_invalid");
    assert_eq!((&explanation["node"], &explanation["policyVersion"]), (&json!("edge-1"), &json!(3)));
    assert_eq!(explanation["address"]["score"], 1.0);
    office.admin().get("/audit-logs/nothing/explanation").await.fails_with(404);
}

#[tokio::test]
async fn of_several_blocks_soon_after_one_another_the_one_that_refused_is_explained() {
    let office = Office::open().await;
    let mut refusals = Vec::new();
    for reason in ["one", "two", "three"] {
        office.admin().post("/block-ip", json!({ "ip": "192.0.2.66", "reason": reason })).await.data();
        let block = office.admin().get("/blocks").await.data()["blocks"][0].clone();
        let refusal = AuditRecord::refusal(Reason::AddressBlocked, "192.0.2.66".parse().unwrap(), office.clock.now());
        let refusal = refusal.with("block", json!({ "network": "192.0.2.66", "since": block["since"] }));
        office.hears(refusal.clone());
        refusals.push((reason, refusal.id));
        office.clock.advance(Duration::from_secs(2));
    }
    office.audited("eventType=CONNECTION_BLOCKED", 3).await;
    for (reason, id) in refusals {
        let explanation = office.admin().get(&format!("/audit-logs/{id}/explanation")).await.data();
        assert_eq!(explanation["block"]["made"]["metadata"]["reason"], reason);
    }
}

#[tokio::test]
async fn a_code_that_a_client_was_told_leads_to_the_block_and_to_what_called_for_it() {
    let office = Office::open().await;
    for _ in 0..5 {
        office.refuses(Reason::HostileContent, "192.0.2.66");
    }
    office.audited("eventType=IP_BLOCKED", 1).await;
    let block = office.admin().get("/blocks").await.data()["blocks"][0].clone();
    let made = json!({ "network": "192.0.2.66", "since": block["since"], "by": "picket" });
    let refusal = AuditRecord::refusal(Reason::AddressBlocked, "192.0.2.66".parse().unwrap(), START);
    let refusal = refusal.with("block", made).with("setting", "s").with("limit", 7);
    let code = AppealCode::of(&refusal.id).unwrap().to_string();
    office.hears(refusal.clone());
    office.audited("eventType=CONNECTION_BLOCKED", 1).await;
    office.clock.advance(Duration::from_secs(86_400 * 30));

    let spelling = code.to_lowercase().replace('-', "%20");
    let explanation = office.admin().get(&format!("/audit-logs/{spelling}/explanation")).await.data();
    assert_eq!((&explanation["record"]["id"], &explanation["appeal"]), (&json!(refusal.id), &json!(code)));
    assert_eq!((&explanation["limit"]["setting"], &explanation["limit"]["limit"]), (&json!("s"), &json!(7)));
    let block = &explanation["block"];
    assert_eq!((&block["network"], &block["inForce"]), (&json!("192.0.2.66"), &json!(false)), "{block}");
    assert_eq!(block["made"]["metadata"]["parts"], json!({ "hostile_content": 5.0 }));
    assert_eq!(block["behind"].as_array().unwrap().len(), 5);

    let other = AppealCode::of(&AuditRecord::refusal(Reason::Burst, "192.0.2.1".parse().unwrap(), START).id).unwrap();
    let problem = office.admin().get(&format!("/audit-logs/{other}/explanation")).await.fails_with(404);
    assert!(problem["detail"].as_str().unwrap().contains("sound"), "{problem}");
    let wrong = code.replace(&code[..1], if code.starts_with('7') { "8" } else { "7" });
    let problem = office.admin().get(&format!("/audit-logs/{wrong}/explanation")).await.fails_with(404);
    assert!(problem["detail"].as_str().unwrap().contains("wrong"), "{problem}");
}
