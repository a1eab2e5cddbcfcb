//! What holds for the embedded file only: it has one owner, and grows with the program.

use sqlx::SqlitePool;

use super::*;
use crate::store::{AuditStore, Filter, verify_store};
use picket_shared::address::parse_network;
use picket_shared::audit::{AuditRecord, EventType, Severity};
use picket_shared::clock::Timestamp;

fn url(folder: &tempfile::TempDir) -> String {
    format!("sqlite:{}", folder.path().join("data/audit.db").display())
}

fn record(millis: u64, message: &str) -> AuditRecord {
    let now = Timestamp::from_millis(1_764_000_000_000 + millis);
    AuditRecord::new(EventType::ValidationError, Severity::Low, "192.0.2.1".parse().unwrap(), message, now)
}

async fn messages(store: &AuditStore, filter: &Filter) -> Vec<String> {
    let page = store.page(filter, None, 100).await.unwrap();
    page.records.into_iter().map(|record| record.message).collect()
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
    let old = record(1, "old");
    sqlx::query("INSERT INTO audit VALUES (?, ?, 'VALIDATION_ERROR', 0, X'04C0000201', 'old', NULL, NULL, NULL, NULL, NULL, NULL, '{}')")
        .bind(&old.id)
        .bind(old.timestamp.as_millis() as i64)
        .execute(&before)
        .await
        .unwrap();
    before.close().await;
    let store = AuditStore::open(&url(&folder)).await.unwrap();
    assert_eq!(store.insert(&[&old, &record(2, "new")]).await.unwrap(), [false, true]);
    for filter in [Filter::default(), Filter { network: parse_network("192.0.2.1"), ..Filter::default() }] {
        assert_eq!(messages(&store, &filter).await, ["new", "old"]);
    }
    let verdict = verify_store(&url(&folder), &[], |_| {}).await.unwrap();
    assert_eq!((verdict.checked, verdict.unchained, verdict.broken), (1, 1, None), "the old one belongs to no chain");
}

#[tokio::test]
async fn a_store_has_one_owner_and_outlives_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = AuditStore::open(&url(&folder)).await.unwrap();
    store.insert(&[&record(1, "kept")]).await.unwrap();
    assert!(matches!(AuditStore::open(&url(&folder)).await, Err(StoreError::InUse(_))));
    assert_eq!(verify_store(&url(&folder), &[], |_| {}).await.unwrap().checked, 1, "who only reads may");
    store.close().await;
    drop(store);
    let store = AuditStore::open(&url(&folder)).await.unwrap();
    assert_eq!(messages(&store, &Filter::default()).await, ["kept"]);
}

#[tokio::test]
async fn r15_another_kind_of_store_is_refused_without_its_password() {
    for url in [
        "mysql://picket:canary@db/picket",
        "postgres://picket:canary@db:x/y",
        "sqlite:",
        "sqlite::memory:",
        "/var/lib/picket.db",
    ] {
        let error = AuditStore::open(url).await.err().unwrap();
        let told = format!("{error} {error:?}");
        assert!(told.contains("postgres://USER") || matches!(error, StoreError::Url), "{told}");
        assert!(!told.contains("canary"), "{told}");
    }
}
