//! What holds for the audit store on either database: what is stored once is found by every filter, leaves when it should, and can
//! be verified.

use super::page::Total;
use super::queries::search::TEXT_SLICES_MAX;
use super::removal::{Bounds, Cause};
use super::summary::Span;
use super::writing::SLICE_RECORDS;
use super::*;
use picket_shared::address::parse_network;
use picket_shared::audit::{AuditRecord, EventType, Severity};
use picket_shared::clock::{Clock, ManualClock, SystemClock};
use picket_shared::reason::Reason;
use std::sync::OnceLock;

#[path = "../../../tests/stories/harness/postgres.rs"]
#[expect(dead_code, reason = "stories of whole processes ask more of it")]
mod server;

mod chains;
mod files;
mod growth;

/// a store, empty at first
struct Shelf {
    store: AuditStore,
    url: String,
    _folder: tempfile::TempDir,
}

impl Shelf {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("data/audit.db").display());
        Shelf { store: AuditStore::open(&url).await.unwrap(), url, _folder: folder }
    }

    async fn postgres() -> Self {
        static SERVER: OnceLock<server::Postgres> = OnceLock::new();
        let url = tokio::task::spawn_blocking(|| SERVER.get_or_init(server::Postgres::start).database());
        let url = url.await.unwrap();
        Shelf { store: AuditStore::open(&url).await.unwrap(), url, _folder: tempfile::tempdir().unwrap() }
    }

    async fn holds(&self, records: &[AuditRecord]) {
        self.store.insert(&refs(records)).await.unwrap();
    }

    async fn messages(&self, filter: Filter) -> Vec<String> {
        let page = self.store.page(&filter, None, 100).await.unwrap();
        page.records.into_iter().map(|record| record.message).collect()
    }

    async fn number(&self, sql: &str) -> i64 {
        let mut session = self.store.database.read().await.unwrap();
        let query = session.statement(sql);
        session.row(query).await.unwrap().unwrap().integer(0).unwrap()
    }
}

/// each law, on each database
macro_rules! laws {
    ($($law:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $law() { super::$law(super::Shelf::sqlite().await).await })*
        }
        mod on_postgres {
            $(#[tokio::test] async fn $law() { super::$law(super::Shelf::postgres().await).await })*
        }
    };
}
use laws;

laws!(
    a_record_comes_back_as_it_was_and_is_stored_once,
    every_filter_finds_its_records,
    pages_hold_every_record_once_also_within_one_millisecond,
    a_span_is_read_in_its_order_every_record_once,
    totals_are_exact_up_to_their_cap,
    a_summary_counts_by_kind_severity_reason_address_and_time,
    what_is_beyond_the_maximum_goes_oldest_first,
    records_go_by_age_and_severity,
    records_go_by_size,
    a_page_takes_the_newest_of_all_slices_also_of_records_that_came_late,
    a_search_for_a_text_reads_so_many_slices_for_a_page_and_goes_on,
    a_slice_goes_with_its_last_record,
    a_batch_that_repeats_some_is_stored_once_each_and_counted_once,
    what_a_database_cannot_hold_is_stored_without_it,
    whatever_a_node_writes_is_stored_within_bounds,
    what_was_committed_without_a_word_is_new_to_who_asks_again,
    pages_of_a_kind_and_severity_go_on_from_their_cursor,
    a_person_is_erased_and_told_apart,
    an_erasure_takes_a_name_from_administrations_trail_and_nothing_else,
    an_erasure_that_takes_too_long_says_so_and_the_next_call_goes_on,
);

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_764_000_000_000 + millis)
}

fn record(millis: u64, ip: &str, message: &str) -> AuditRecord {
    AuditRecord::new(EventType::ValidationError, Severity::Low, ip.parse().unwrap(), message, at(millis))
}

fn refs(records: &[AuditRecord]) -> Vec<&AuditRecord> {
    records.iter().collect()
}

async fn a_record_comes_back_as_it_was_and_is_stored_once(shelf: Shelf) {
    let mut whole = AuditRecord::refusal(Reason::MessageRate, "2001:db8::7".parse().unwrap(), at(1)).with("limit", 7);
    whole.socket_id = Some("s1".into());
    whole.user_id = Some("alice".into());
    whole.event_name = Some("chat:send".into());
    whole.route = Some("/ws".into());
    whole.node = Some("edge-1".into());
    assert_eq!(shelf.store.insert(&[&whole]).await.unwrap(), [true]);
    assert_eq!(shelf.store.insert(&[&whole, &record(2, "192.0.2.1", "new")]).await.unwrap(), [false, true]);
    assert_eq!(shelf.store.find(&whole.id).await.unwrap().unwrap(), whole);
    assert_eq!(shelf.store.find("nothing").await.unwrap(), None);
}

async fn every_filter_finds_its_records(shelf: Shelf) {
    let mut alice = record(1, "192.0.2.1", "alice at home");
    alice.user_id = Some("alice".into());
    alice.socket_id = Some("s1".into());
    let mut grave = record(2, "192.0.2.200", "grave").with("detail", "100% <b>_x\\y</b>");
    grave.severity = Severity::Critical;
    let mut far = record(3, "2001:db8:1:2::9", "far");
    far.event_type = EventType::InvalidOrigin;
    let refusal = AuditRecord {
        message: "why".into(),
        ..AuditRecord::refusal(Reason::TokenInvalid, "198.51.100.1".parse().unwrap(), at(4))
    };
    shelf.holds(&[alice, grave, far, refusal]).await;

    let network = |text: &str| Filter { network: parse_network(text), ..Filter::default() };
    let text = |text: &str| Filter { text: Some(text.into()), ..Filter::default() };
    let cases = [
        (Filter::default(), vec!["why", "far", "grave", "alice at home"]),
        (Filter { user_id: Some("alice".into()), ..Filter::default() }, vec!["alice at home"]),
        (Filter { socket_id: Some("s1".into()), ..Filter::default() }, vec!["alice at home"]),
        (Filter { severity: Some(Severity::Critical), ..Filter::default() }, vec!["grave"]),
        (Filter { event_type: Some(EventType::InvalidOrigin), ..Filter::default() }, vec!["far"]),
        (Filter { since: Some(at(2)), until: Some(at(4)), ..Filter::default() }, vec!["far", "grave"]),
        (network("192.0.2.1"), vec!["alice at home"]),
        (network("::ffff:192.0.2.1"), vec!["alice at home"]),
        (network("192.0.2.0/25"), vec!["alice at home"]),
        (network("192.0.2.0/24"), vec!["grave", "alice at home"]),
        (network("2001:db8:1::/48"), vec!["far"]),
        (network("0.0.0.0/0"), vec!["why", "grave", "alice at home"]),
        (text("100% <b>_x"), vec!["grave"]),
        (text("100_"), vec![]),
        (text("token_invalid"), vec!["why"]),
        (text("%"), vec!["grave"]),
        (text("' OR 1=1 --"), vec![]),
        (
            Filter {
                severity: Some(Severity::Critical),
                event_type: Some(EventType::ValidationError),
                ..network("192.0.2.200")
            },
            vec!["grave"],
        ),
        (Filter { user_id: Some("alice".into()), socket_id: Some("s2".into()), ..network("192.0.2.1") }, vec![]),
    ];
    for (filter, expected) in cases {
        assert_eq!(shelf.messages(filter.clone()).await, expected, "{filter:?}");
    }
}

async fn pages_hold_every_record_once_also_within_one_millisecond(shelf: Shelf) {
    let records: Vec<_> = (0..25).map(|n| record(n / 10, "192.0.2.1", &n.to_string())).collect();
    shelf.holds(&records).await;
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = shelf.store.page(&Filter::default(), cursor.as_ref(), 4).await.unwrap();
        seen.extend(page.records.into_iter().map(|record| record.id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let mut expected: Vec<_> = records.iter().map(|record| (record.timestamp, record.id.clone())).collect();
    expected.sort_by(|a, b| b.cmp(a));
    assert_eq!(seen, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
}

async fn a_span_is_read_in_its_order_every_record_once(shelf: Shelf) {
    let records: Vec<_> = (0..25).map(|n| record(n / 10, "192.0.2.1", &n.to_string())).collect();
    shelf.holds(&records[10..]).await;
    shelf.holds(&records[..10]).await;
    shelf.holds(&[record(3, "192.0.2.1", "behind it")]).await;
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = shelf.store.page_in_order(Span { since: at(0), until: at(3) }, cursor.as_ref(), 4).await.unwrap();
        assert!(page.records.len() <= 4);
        seen.extend(page.records.into_iter().map(|record| record.id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let mut expected: Vec<_> = records.iter().map(|record| (record.timestamp, record.id.clone())).collect();
    expected.sort();
    assert_eq!(seen, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
}

async fn totals_are_exact_up_to_their_cap(shelf: Shelf) {
    let records: Vec<_> = (0..10_001).map(|n| record(n, if n == 0 { "192.0.2.2" } else { "192.0.2.1" }, "x")).collect();
    shelf.holds(&records).await;
    assert_eq!(shelf.store.total(&Filter::default()).await.unwrap(), Total { count: 10_000, is_lower_bound: true });
    let most = Filter { network: parse_network("192.0.2.1"), ..Filter::default() };
    assert_eq!(shelf.store.total(&most).await.unwrap(), Total { count: 10_000, is_lower_bound: false });
}

async fn a_summary_counts_by_kind_severity_reason_address_and_time(shelf: Shelf) {
    let mut records: Vec<_> = (0..6).map(|n| record(n * 30_000, "192.0.2.1", "x")).collect();
    records.push(
        AuditRecord::refusal(Reason::TokenInvalid, "192.0.2.9".parse().unwrap(), at(70_000)).with("suppressed", 5),
    );
    shelf.holds(&records).await;
    shelf.store.insert(&refs(&records)).await.unwrap();
    let span = Span { since: at(0), until: at(90_001) };
    let summary = shelf.store.summary(span, Duration::from_secs(60), 1).await.unwrap();
    assert_eq!(summary.total, 10, "whole minutes, and each record once, with those that it stands for");
    assert_eq!(summary.by_type, [(EventType::AuthenticationFailure, 6), (EventType::ValidationError, 4)]);
    assert_eq!(summary.by_severity, [(Severity::Medium, 6), (Severity::Low, 4)]);
    assert_eq!(summary.by_reason, [("token_invalid".to_owned(), 6)]);
    assert_eq!(summary.top_addresses, [("192.0.2.1".parse().unwrap(), 4)]);
    assert_eq!(summary.buckets.iter().map(|bucket| bucket.total).collect::<Vec<_>>(), [2, 8]);
    assert_eq!(shelf.store.forget(at(60_000)).await.unwrap(), 1);
    assert_eq!(shelf.store.summary(span, Duration::from_secs(60), 1).await.unwrap().total, 8);
}

fn at_most(records: u64) -> Bounds {
    Bounds { records_max: Some(records), ..Bounds::default() }
}

async fn what_is_beyond_the_maximum_goes_oldest_first(shelf: Shelf) {
    let records: Vec<_> = (0..10).map(|n| record(n, "192.0.2.1", &n.to_string())).collect();
    shelf.holds(&records).await;
    assert_eq!(shelf.store.prune(&at_most(3), at(10)).await.unwrap(), Some((Cause::Number, 7)));
    assert_eq!(shelf.store.prune(&at_most(3), at(10)).await.unwrap(), None);
    assert_eq!(shelf.messages(Filter::default()).await, ["9", "8", "7"]);
}

async fn records_go_by_age_and_severity(shelf: Shelf) {
    let mut grave = record(0, "192.0.2.1", "grave");
    grave.severity = Severity::Critical;
    shelf.holds(&[record(0, "192.0.2.1", "old"), grave, record(1, "192.0.2.1", "young")]).await;
    let day = Duration::from_secs(86_400);
    let bounds = Bounds { ages: vec![(Severity::Low, day), (Severity::Critical, day * 30)], ..Bounds::default() };
    assert_eq!(shelf.store.prune(&bounds, at(86_400_001)).await.unwrap(), Some((Cause::Age, 1)));
    assert_eq!(shelf.store.prune(&bounds, at(86_400_001)).await.unwrap(), None);
    assert_eq!(shelf.messages(Filter::default()).await, ["young", "grave"]);
    assert_eq!(shelf.store.prune(&bounds, at(30 * 86_400_000 + 1)).await.unwrap(), Some((Cause::Age, 1)));
    assert_eq!(shelf.store.prune(&bounds, at(30 * 86_400_000 + 1)).await.unwrap(), Some((Cause::Age, 1)));
    assert_eq!(shelf.messages(Filter::default()).await, Vec::<String>::new());
}

async fn records_go_by_size(shelf: Shelf) {
    let records: Vec<_> = (0..100).map(|n| record(n, "192.0.2.1", &"x".repeat(1000))).collect();
    shelf.holds(&records).await;
    let bounds = Bounds { bytes_max: Some(50_000), ..Bounds::default() };
    while let Some((cause, _)) = shelf.store.prune(&bounds, at(100)).await.unwrap() {
        assert_eq!(cause, Cause::Size);
    }
    let kept = shelf.store.total(&Filter::default()).await.unwrap().count;
    assert!((40..50).contains(&kept), "{kept} records of 1 kB");
    assert!(shelf.number("SELECT CAST(SUM(bytes) AS BIGINT) FROM audit_slices").await <= 50_000);
}

/// as many as fill a slice, of two addresses in turn
fn a_slice(from: u64) -> Vec<AuditRecord> {
    let address = |n: u64| if n.is_multiple_of(2) { "192.0.2.1" } else { "192.0.2.2" };
    (from..from + SLICE_RECORDS).map(|n| record(n, address(n), &n.to_string())).collect()
}

/// how many slices there are
async fn slices(shelf: &Shelf) -> i64 {
    shelf.number("SELECT COUNT(*) FROM audit_slices").await
}

async fn a_page_takes_the_newest_of_all_slices_also_of_records_that_came_late(shelf: Shelf) {
    shelf.holds(&a_slice(10)).await;
    let mut late = record(5, "192.0.2.1", "late");
    late.user_id = Some("alice".into());
    let mut last = record(1_000_000, "192.0.2.1", "last");
    last.user_id = Some("alice".into());
    shelf.store.insert(&[&late, &last]).await.unwrap();
    assert_eq!(slices(&shelf).await, 2);
    let whose = Filter { network: parse_network("192.0.2.1"), ..Filter::default() };
    let messages = shelf.messages(whose.clone()).await;
    assert_eq!((messages.len(), &*messages[0], &*messages[1]), (100, "last", "16392"));

    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = shelf.store.page(&whose, cursor.as_ref(), 1000).await.unwrap();
        all.extend(page.records);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(all.len() as u64, SLICE_RECORDS / 2 + 2);
    assert!(all.is_sorted_by(|a, b| a.timestamp > b.timestamp), "newest first, each once");
    assert_eq!(shelf.store.total(&whose).await.unwrap().count, SLICE_RECORDS / 2 + 2);
    let alice = Filter { user_id: Some("alice".into()), until: Some(at(1_000_000)), ..Filter::default() };
    assert_eq!(shelf.messages(alice).await, ["late"]);
    let users = shelf.store.users(parse_network("192.0.2.0/24").unwrap(), at(0)).await.unwrap();
    assert_eq!(users, [("alice".to_owned(), at(1_000_000))]);
}

async fn a_search_for_a_text_reads_so_many_slices_for_a_page_and_goes_on(shelf: Shelf) {
    let slices_held = TEXT_SLICES_MAX as u64 + 2;
    for slice in 0..slices_held {
        shelf.holds(&a_slice(10 + slice * SLICE_RECORDS)).await;
    }
    let newest = 10 + slices_held * SLICE_RECORDS;
    // One that came late makes the newest slice overlap all others.
    shelf.store.insert(&[&record(5, "192.0.2.1", "needle"), &record(newest, "192.0.2.1", "needle")]).await.unwrap();
    assert_eq!(slices(&shelf).await, slices_held.cast_signed() + 1);
    let needle = Filter { text: Some("needle".into()), ..Filter::default() };
    assert_eq!(shelf.store.total(&needle).await.unwrap(), Total { count: 2, is_lower_bound: true });

    let (mut found, mut cursor) = (Vec::new(), None);
    for page in 1.. {
        let searched = shelf.store.page(&needle, cursor.as_ref(), 100).await.unwrap();
        found.extend(searched.records.into_iter().map(|record| record.timestamp));
        cursor = searched.next.map(|next| Cursor::decode(&next.encode()).unwrap());
        if cursor.is_none() {
            assert!(
                (2..=slices_held).contains(&page),
                "{TEXT_SLICES_MAX} of {slices_held} and one slices, then others: {page}"
            );
            break;
        }
    }
    assert_eq!(found, [at(newest), at(5)]);
    let common = Filter { text: Some("1".into()), ..Filter::default() };
    let page = shelf.store.page(&common, None, 100).await.unwrap();
    assert_eq!(page.records.len(), 100, "a page that is full in one slice");
}

async fn a_slice_goes_with_its_last_record(shelf: Shelf) {
    shelf.holds(&a_slice(0)).await;
    shelf.store.insert(&[&record(1_000_000, "192.0.2.1", "kept")]).await.unwrap();
    while shelf.store.prune(&at_most(1), at(0)).await.unwrap().is_some() {}
    assert_eq!((slices(&shelf).await, shelf.messages(Filter::default()).await), (1, vec!["kept".to_owned()]));
}

async fn a_batch_that_repeats_some_is_stored_once_each_and_counted_once(shelf: Shelf) {
    let records: Vec<_> = (0..200).map(|number| record(number, "192.0.2.1", "once")).collect();
    shelf.store.insert(&refs(&records[..70])).await.unwrap();
    let mut batch = refs(&records);
    batch.push(&records[150]);
    let new = shelf.store.insert(&batch).await.unwrap();
    assert_eq!(new.iter().filter(|new| **new).count(), 130);
    assert!(!new[..70].contains(&true) && !new[200], "what was there, and what came twice");
    assert_eq!(shelf.store.total(&Filter::default()).await.unwrap().count, 200);
    let span = Span { since: Timestamp::default(), until: Timestamp::from_millis(u64::MAX / 2) };
    assert_eq!(shelf.store.summary(span, Duration::from_secs(3600), 1).await.unwrap().total, 200);
}

async fn what_a_database_cannot_hold_is_stored_without_it(shelf: Shelf) {
    let mut hostile = record(1, "192.0.2.1", "a\0b").with("text", "a\0b");
    hostile.user_id = Some("eve\0".into());
    shelf.holds(&[hostile.clone()]).await;
    let stored = shelf.store.find(&hostile.id).await.unwrap().unwrap();
    assert_eq!((&*stored.message, stored.user_id.as_deref()), ("a\u{fffd}b", Some("eve\u{fffd}")));
    assert_eq!(stored.metadata, hostile.metadata);
    assert_eq!(shelf.store.insert(&[&hostile]).await.unwrap(), [false]);
}

async fn what_was_committed_without_a_word_is_new_to_who_asks_again(shelf: Shelf) {
    let records: Vec<_> = (0..3).map(|n| record(n, "192.0.2.1", "x")).collect();
    shelf.holds(&records[..2]).await;
    // As if the server had committed the second, and its answer was lost.
    shelf.store.end.lock().await.doubtful.extend([records[1].id.clone(), "of another batch".into()]);
    assert_eq!(shelf.store.insert(&refs(&records)).await.unwrap(), [false, true, true]);
    assert_eq!(shelf.store.end.lock().await.doubtful, ["of another batch"]);
    assert_eq!(shelf.store.insert(&refs(&records)).await.unwrap(), [false, false, false], "and once only");
    assert_eq!(shelf.store.total(&Filter::default()).await.unwrap().count, 3);
}

async fn pages_of_a_kind_and_severity_go_on_from_their_cursor(shelf: Shelf) {
    let severity = |n: u64| Severity::ALL[(n % 3) as usize];
    let records: Vec<_> =
        (0..30).map(|n| AuditRecord { severity: severity(n), ..record(n / 4, "192.0.2.1", "x") }).collect();
    shelf.holds(&records).await;
    let kind = Filter { event_type: Some(EventType::ValidationError), ..Filter::default() };
    for (filter, expected) in [
        (kind.clone(), 30),
        (Filter { severity: Some(Severity::ALL[1]), ..kind }, 10),
        (Filter { severity: Some(Severity::ALL[2]), ..Filter::default() }, 10),
    ] {
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = shelf.store.page(&filter, cursor.as_ref(), 4).await.unwrap();
            seen.extend(page.records.into_iter().map(|record| (record.timestamp, record.id)));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert!(seen.is_sorted_by(|a, b| a > b), "newest first, each once");
        assert_eq!(seen.len(), expected, "{filter:?}");
    }
}

async fn whatever_a_node_writes_is_stored_within_bounds(shelf: Shelf) {
    let noise: String = (0..20_000u32).map(|n| char::from_u32(0x4e00 + n * 7919 % 20_000).unwrap()).collect();
    let hostile = |n| AuditRecord {
        user_id: Some(noise.clone()),
        socket_id: Some(noise.clone()),
        message: noise.clone(),
        ..record(n, "192.0.2.1", "").with("suppressed", u64::MAX).with("text", noise.repeat(9))
    };
    for n in 0..3 {
        assert_eq!(shelf.store.insert(&[&hostile(n)]).await.unwrap(), [true]);
    }
    let newest = shelf.store.page(&Filter::default(), None, 1).await.unwrap().records.remove(0);
    assert!(newest.user_id.unwrap().len() <= 512 && newest.message.len() <= 16 * 1024 && newest.metadata.is_empty());
    let span = Span { since: Timestamp::default(), until: Timestamp::from_millis(u64::MAX / 2) };
    assert!(shelf.store.summary(span, Duration::from_secs(3600), 1).await.unwrap().total > 3);
    let verdict = verify_store(&shelf.url, &[], |_| {}).await.unwrap();
    assert_eq!((verdict.checked, verdict.broken), (3, None));
}

/// what administration writes of itself, as its API and the coordinator write it
fn administration() -> Vec<AuditRecord> {
    let at_office = |n, kind, message: &str| {
        let record = record(n, "203.0.113.5", message);
        AuditRecord { event_type: kind, node: Some("coordinator-1".into()), severity: Severity::High, ..record }
    };
    let login = |n, outcome: &str, account: &str| {
        let record = at_office(n, EventType::AdminLogin, "login to the management API");
        record.with("outcome", outcome).with("account", account).with("proof", "password")
    };
    let act = |n, kind, message: &str| at_office(n, kind, message).with("actor", "warden");
    let blocked = act(7, EventType::IpBlocked, "address blocked").with("network", "198.51.100.9");
    let asked = serde_json::json!({ "userId": "alice", "severity": "high" });
    vec![
        login(1, "accepted", "warden"),
        login(2, "refused", ""),
        act(3, EventType::PolicyChanged, "policy changed")
            .with("version", 2)
            .with("changed", vec!["validation.maxDepth"]),
        act(4, EventType::AdminAction, "tokens revoked")
            .with("revokedUser", "alice")
            .with("issuedBefore", "2026-01-31"),
        at_office(5, EventType::IpBlocked, "address blocked automatically")
            .with("automatic", true)
            .with("network", "198.51.100.7")
            .with("durationMs", 60_000)
            .with("users", vec!["alice", "bob"]),
        act(6, EventType::AdminAction, "audit trail exported").with("filter", asked).with("format", "csv"),
        blocked.with("reason", "scraper").with("actorAddress", "203.0.113.5").with("forced", false),
    ]
}

async fn a_person_is_erased_and_told_apart(shelf: Shelf) {
    let of = |n: u64, user: &str| AuditRecord { user_id: Some(user.into()), ..record(n, "198.51.100.7", user) };
    shelf.holds(&[of(1, "alice"), of(2, "Alice"), of(3, "alice"), of(4, "bob")]).await;

    let erased = shelf.store.erase("alice", &SystemClock).await.unwrap();
    assert_eq!((erased.records, erased.is_all), (2, true));
    assert_eq!(shelf.messages(Filter::default()).await, ["bob", "erased on request", "Alice", "erased on request"]);
    let gone = Filter { user_id: Some("alice".into()), ..Filter::default() };
    assert_eq!(shelf.messages(gone).await, Vec::<String>::new());
    let again = shelf.store.erase("alice", &SystemClock).await.unwrap();
    assert_eq!((again.records, &again.subject), (0, &erased.subject));
    assert_ne!(shelf.store.erase("bob", &SystemClock).await.unwrap().subject, erased.subject);
    let top = shelf.store.summary(Span { since: at(0), until: at(9) }, Duration::from_secs(60), 9).await.unwrap();
    assert!(top.top_addresses.iter().all(|(ip, _)| !ip.is_unspecified()), "nobody's address is not one");
}

async fn an_erasure_takes_a_name_from_administrations_trail_and_nothing_else(shelf: Shelf) {
    let written = administration();
    shelf.holds(&written).await;
    for id in ["refused", "accepted", "warden", "validation.maxDepth", "198.51.100.9", "scraper", "203.0.113.5", "csv"]
    {
        let erased = shelf.store.erase(id, &SystemClock).await.unwrap();
        assert_eq!((erased.records, erased.is_all), (0, true), "{id} is nobody that these records are about");
    }
    let erased = shelf.store.erase("alice", &SystemClock).await.unwrap();
    assert_eq!((erased.records, erased.is_all), (3, true), "a revocation, a block and an export");
    let subject = erased.subject.as_str();
    for mut record in written {
        if let Some(revoked) = record.metadata.get_mut("revokedUser") {
            *revoked = subject.into();
        }
        if let Some(users) = record.metadata.get_mut("users") {
            *users = vec![subject, "bob"].into();
        }
        if let Some(filter) = record.metadata.get_mut("filter") {
            filter["userId"] = subject.into();
        }
        assert_eq!(shelf.store.find(&record.id).await.unwrap(), Some(record));
    }
    assert_eq!(shelf.store.erase("alice", &SystemClock).await.unwrap().records, 0);
}

/// each look at it is eleven seconds after the one before
struct Slow(ManualClock);

impl Clock for Slow {
    fn now(&self) -> Timestamp {
        self.0.advance(Duration::from_secs(11));
        self.0.now()
    }
}

async fn an_erasure_that_takes_too_long_says_so_and_the_next_call_goes_on(shelf: Shelf) {
    let hers = AuditRecord { user_id: Some("alice".into()), ..record(1, "198.51.100.7", "hers") };
    let names = record(2, "198.51.100.7", "blocked").with("users", vec!["alice"]);
    shelf.holds(&[hers, AuditRecord { event_type: EventType::IpBlocked, ..names }]).await;
    let slow = Slow(ManualClock::at(Timestamp::default()));
    let erase = async || {
        let erased = shelf.store.erase("alice", &slow).await.unwrap();
        (erased.records, erased.is_all)
    };
    assert_eq!(erase().await, (2, false), "nobody looked whether there was more");
    assert_eq!(erase().await, (0, true));
}
