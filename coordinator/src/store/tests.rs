//! The audit store on a real file: what is stored once is found by every filter, and deleted oldest first.

use super::*;
use picket_shared::address::parse_network;
use picket_shared::reason::Reason;

struct Shelf {
    store: AuditStore,
    folder: tempfile::TempDir,
}

impl Shelf {
    async fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = AuditStore::open(&url(&folder)).await.unwrap();
        Shelf { store, folder }
    }

    async fn with(records: &[AuditRecord]) -> Self {
        let shelf = Self::empty().await;
        shelf.store.insert(&refs(records)).await.unwrap();
        shelf
    }

    async fn messages(&self, filter: Filter) -> Vec<String> {
        let page = self.store.page(&filter, None, 100).await.unwrap();
        page.records.into_iter().map(|record| record.message).collect()
    }
}

fn url(folder: &tempfile::TempDir) -> String {
    format!("sqlite:{}", folder.path().join("data/audit.db").display())
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_764_000_000_000 + millis)
}

fn record(millis: u64, ip: &str, message: &str) -> AuditRecord {
    AuditRecord::new(EventType::ValidationError, Severity::Low, ip.parse().unwrap(), message, at(millis))
}

fn refs(records: &[AuditRecord]) -> Vec<&AuditRecord> {
    records.iter().collect()
}

#[tokio::test]
async fn a_record_comes_back_as_it_was_and_is_stored_once() {
    let mut whole = AuditRecord::refusal(Reason::MessageRate, "2001:db8::7".parse().unwrap(), at(1)).with("limit", 7);
    whole.socket_id = Some("s1".into());
    whole.user_id = Some("alice".into());
    whole.event_name = Some("chat:send".into());
    whole.route = Some("/ws".into());
    whole.node = Some("edge-1".into());
    let shelf = Shelf::empty().await;
    assert_eq!(shelf.store.insert(&[&whole]).await.unwrap(), [true]);
    assert_eq!(shelf.store.insert(&[&whole, &record(2, "192.0.2.1", "new")]).await.unwrap(), [false, true]);
    assert_eq!(shelf.store.find(&whole.id).await.unwrap().unwrap(), whole);
    assert_eq!(shelf.store.find("nothing").await.unwrap(), None);
}

#[tokio::test]
async fn every_filter_finds_its_records() {
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
    let shelf = Shelf::with(&[alice, grave, far, refusal]).await;

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

#[tokio::test]
async fn pages_hold_every_record_once_also_within_one_millisecond() {
    let records: Vec<_> = (0..25).map(|n| record(n / 10, "192.0.2.1", &n.to_string())).collect();
    let shelf = Shelf::with(&records).await;
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

#[tokio::test]
async fn totals_are_exact_up_to_their_cap() {
    let records: Vec<_> = (0..10_001).map(|n| record(n, if n == 0 { "192.0.2.2" } else { "192.0.2.1" }, "x")).collect();
    let shelf = Shelf::with(&records).await;
    assert_eq!(shelf.store.total(&Filter::default()).await.unwrap(), Total { count: 10_000, is_lower_bound: true });
    let most = Filter { network: parse_network("192.0.2.1"), ..Filter::default() };
    assert_eq!(shelf.store.total(&most).await.unwrap(), Total { count: 10_000, is_lower_bound: false });
}

#[tokio::test]
async fn a_summary_counts_by_kind_severity_reason_address_and_time() {
    let mut records: Vec<_> = (0..6).map(|n| record(n * 30_000, "192.0.2.1", "x")).collect();
    records.push(AuditRecord::refusal(Reason::TokenInvalid, "192.0.2.9".parse().unwrap(), at(70_000)));
    let shelf = Shelf::with(&records).await;
    shelf.store.insert(&refs(&records)).await.unwrap();
    let span = Span { since: at(0), until: at(90_001) };
    let summary = shelf.store.summary(span, Duration::from_secs(60), 1).await.unwrap();
    assert_eq!(summary.total, 5, "whole minutes, and each record once");
    assert_eq!(summary.by_type, [(EventType::ValidationError, 4), (EventType::AuthenticationFailure, 1)]);
    assert_eq!(summary.by_severity, [(Severity::Low, 4), (Severity::Medium, 1)]);
    assert_eq!(summary.by_reason, [("token_invalid".to_owned(), 1)]);
    assert_eq!(summary.top_addresses, [("192.0.2.1".parse().unwrap(), 4)]);
    assert_eq!(summary.buckets.iter().map(|bucket| bucket.total).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(shelf.store.delete_counts(at(60_000)).await.unwrap(), 1);
    assert_eq!(shelf.store.summary(span, Duration::from_secs(60), 1).await.unwrap().total, 3);
}

#[tokio::test]
async fn what_is_beyond_the_maximum_goes_oldest_first() {
    let records: Vec<_> = (0..10).map(|n| record(n, "192.0.2.1", &n.to_string())).collect();
    let shelf = Shelf::with(&records).await;
    assert_eq!(shelf.store.delete_beyond(3).await.unwrap(), 7);
    assert_eq!(shelf.store.delete_beyond(3).await.unwrap(), 0);
    assert_eq!(shelf.messages(Filter::default()).await, ["9", "8", "7"]);
}

/// as many as fill a slice, of two addresses in turn
fn a_slice(from: u64) -> Vec<AuditRecord> {
    let address = |n: u64| if n.is_multiple_of(2) { "192.0.2.1" } else { "192.0.2.2" };
    (from..from + SLICE_RECORDS as u64).map(|n| record(n, address(n), &n.to_string())).collect()
}

/// how many slices there are
async fn slices(shelf: &Shelf) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM audit_slices").fetch_one(&shelf.store.readers).await.unwrap()
}

#[tokio::test]
async fn a_page_takes_the_newest_of_all_slices_also_of_records_that_came_late() {
    let shelf = Shelf::with(&a_slice(10)).await;
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
    assert_eq!(all.len() as i64, SLICE_RECORDS / 2 + 2);
    assert!(all.is_sorted_by(|a, b| a.timestamp > b.timestamp), "newest first, each once");
    assert_eq!(shelf.store.total(&whose).await.unwrap().count as i64, SLICE_RECORDS / 2 + 2);
    let alice = Filter { user_id: Some("alice".into()), until: Some(at(1_000_000)), ..Filter::default() };
    assert_eq!(shelf.messages(alice).await, ["late"]);
    let users = shelf.store.users(parse_network("192.0.2.0/24").unwrap(), at(0)).await.unwrap();
    assert_eq!(users, [("alice".to_owned(), at(1_000_000))]);
}

#[tokio::test]
async fn a_slice_goes_with_its_last_record() {
    let shelf = Shelf::with(&a_slice(0)).await;
    shelf.store.insert(&[&record(1_000_000, "192.0.2.1", "kept")]).await.unwrap();
    while shelf.store.delete_beyond(1).await.unwrap() > 0 {}
    assert_eq!((slices(&shelf).await, shelf.messages(Filter::default()).await), (1, vec!["kept".to_owned()]));
}

#[tokio::test]
async fn what_was_stored_before_there_were_slices_is_found_beside_what_comes() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let options = SqliteConnectOptions::new().filename(folder.path().join("data/audit.db")).create_if_missing(true);
    let before = SqlitePool::connect_with(options).await.unwrap();
    let mut first = migrations();
    first.migrations.to_mut().truncate(1);
    first.run(&before).await.unwrap();
    let old = record(1, "192.0.2.1", "old");
    sqlx::query("INSERT INTO audit VALUES (?, ?, 'VALIDATION_ERROR', 0, X'04C0000201', 'old', NULL, NULL, NULL, NULL, NULL, NULL, '{}')")
        .bind(&old.id)
        .bind(old.timestamp.as_millis() as i64)
        .execute(&before)
        .await
        .unwrap();
    before.close().await;
    let shelf = Shelf { store: AuditStore::open(&url(&folder)).await.unwrap(), folder };
    assert_eq!(shelf.store.insert(&[&old, &record(2, "192.0.2.1", "new")]).await.unwrap(), [false, true]);
    for filter in [Filter::default(), Filter { network: parse_network("192.0.2.1"), ..Filter::default() }] {
        assert_eq!(shelf.messages(filter).await, ["new", "old"]);
    }
}

#[tokio::test]
async fn a_store_has_one_owner_and_outlives_it() {
    let shelf = Shelf::with(&[record(1, "192.0.2.1", "kept")]).await;
    let second = AuditStore::open(&url(&shelf.folder)).await;
    assert!(matches!(second, Err(StoreError::InUse(_))));
    let Shelf { store, folder } = shelf;
    store.close().await;
    drop(store);
    let shelf = Shelf { store: AuditStore::open(&url(&folder)).await.unwrap(), folder };
    assert_eq!(shelf.messages(Filter::default()).await, ["kept"]);
}

#[tokio::test]
async fn another_kind_of_store_is_refused_without_its_password() {
    for url in ["postgres://picket:canary@db/picket", "sqlite:", "sqlite::memory:", "/var/lib/picket.db"] {
        let error = AuditStore::open(url).await.err().unwrap().to_string();
        assert!(error.contains("sqlite:PATH") && !error.contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn a_batch_that_repeats_some_is_stored_once_each_and_counted_once() {
    let shelf = Shelf::empty().await;
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
