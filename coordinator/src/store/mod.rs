//! The audit store: an embedded SQL database with one writer, and readers that never make it wait.
//!
//! One coordinator owns it: a lock file beside it makes a second refuse to start.

mod filter;
mod queries;

pub use filter::{Cursor, Filter};

use ipnet::IpNet;
use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use picket_shared::audit::{AuditRecord, EventType, Severity};
use picket_shared::clock::Timestamp;

/// totals are exact up to here
pub const TOTAL_MAX: u32 = 10_000;
/// readers at once
const READERS_MAX: u32 = 4;
/// how long a query waits for a connection or for another process's lock
const WAIT_MAX: Duration = Duration::from_secs(5);
/// records deleted in one step, so that writes are not held up
const DELETE_STEP: u32 = 5_000;
/// what each connection keeps of the file; negative means KiB to SQLite
const CACHE_KIB: &str = "-32768";
/// pages in the write-ahead log after which they are written back
const CHECKPOINT_PAGES: &str = "8192";
/// records after which another slice begins. The indices over addresses, users and sockets, which come in no order, are kept by
/// slice: those of the slice that is being filled are few pages, and stay in the cache; a search looks into each slice
const SLICE_RECORDS: i64 = 16_384;
const MINUTE_MS: u64 = 60_000;
/// users listed for an address
const USERS_MAX: u32 = 100;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("`{0}` is not an audit store of this version; write sqlite:PATH")]
    Scheme(String),
    #[error("cannot create the folder {0}")]
    Folder(PathBuf, #[source] std::io::Error),
    #[error("cannot lock {0}")]
    Lock(PathBuf, #[source] std::io::Error),
    #[error("{0} belongs to another coordinator that is running")]
    InUse(PathBuf),
    #[error("cannot bring the audit store up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("the audit store failed")]
    Query(#[from] sqlx::Error),
}

#[derive(Clone)]
pub struct AuditStore {
    writer: SqlitePool,
    readers: SqlitePool,
    /// held as long as the store is open
    _lock: Arc<File>,
}

/// one page of the trail
#[derive(Clone, Debug)]
pub struct Page {
    pub records: Vec<AuditRecord>,
    /// where the next page starts; `None` after the last
    pub next: Option<Cursor>,
}

/// how many records a filter finds
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    pub count: u64,
    /// there may be more
    pub is_lower_bound: bool,
}

/// from `since` until before `until`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub since: Timestamp,
    pub until: Timestamp,
}

impl Span {
    /// the minutes that it touches: counts are kept by the minute
    fn whole_minutes(self) -> Self {
        let last = Timestamp::from_millis(self.until.as_millis().saturating_add(MINUTE_MS - 1));
        Span { since: minute(self.since), until: minute(last) }
    }
}

/// the beginning of a moment's minute
fn minute(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.as_millis() / MINUTE_MS * MINUTE_MS)
}

/// counts over a time
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    pub total: u64,
    pub by_type: Vec<(EventType, u64)>,
    pub by_severity: Vec<(Severity, u64)>,
    pub by_reason: Vec<(String, u64)>,
    pub top_addresses: Vec<(IpAddr, u64)>,
    pub buckets: Vec<Bucket>,
}

/// the counts of one stretch of a time series
#[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct Bucket {
    pub at: Timestamp,
    pub total: u64,
    pub counts: BTreeMap<EventType, u64>,
}

impl AuditStore {
    /// opens `sqlite:PATH`, creating file, folder and tables as needed
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let path = path_of(url)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| StoreError::Folder(folder.to_owned(), error))?;
        }
        let lock = lock(&path)?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // With a write-ahead log a power cut may lose the last commits, never the file; the audit log holds what is not acknowledged.
            .synchronous(SqliteSynchronous::Normal)
            // Records of many addresses touch many pages of the indices: they are kept, and written back seldom.
            .pragma("cache_size", CACHE_KIB)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .busy_timeout(WAIT_MAX);
        let writer =
            SqlitePoolOptions::new().max_connections(1).acquire_timeout(WAIT_MAX).connect_with(options.clone()).await?;
        migrations().run(&writer).await?;
        let readers = SqlitePoolOptions::new().max_connections(READERS_MAX).acquire_timeout(WAIT_MAX);
        let readers = readers.connect_with(options.read_only(true)).await?;
        Ok(AuditStore { writer, readers, _lock: Arc::new(lock) })
    }

    /// stores all records or none; answers for each whether it is new
    pub async fn insert(&self, records: &[&AuditRecord]) -> Result<Vec<bool>, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let slice = queries::open_slice(&mut transaction, SLICE_RECORDS).await?;
        let new = if queries::insert_all(&mut transaction, slice, records).await? {
            vec![true; records.len()]
        } else {
            // Some are there already. Which, only single steps tell.
            transaction.rollback().await?;
            transaction = self.writer.begin().await?;
            queries::insert_one_by_one(&mut transaction, slice, records).await?
        };
        let times = records.iter().map(|record| record.timestamp);
        if let Some(span) = times.clone().min().zip(times.max()) {
            let count = new.iter().filter(|new| **new).count();
            queries::fill_slice(&mut transaction, slice, count, span).await?;
        }
        for (key, count) in counts(records, &new) {
            queries::count_up(&mut transaction, key, count).await?;
        }
        transaction.commit().await?;
        Ok(new)
    }

    /// up to `limit` records older than `cursor`, newest first
    pub async fn page(&self, filter: &Filter, cursor: Option<&Cursor>, limit: u32) -> Result<Page, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let mut records = queries::page(&mut connection, filter, cursor, limit.saturating_add(1)).await?;
        let more = records.len() > limit as usize;
        records.truncate(limit as usize);
        let last = records.last().filter(|_| more);
        let next = last.map(|record| Cursor { timestamp: record.timestamp, id: record.id.clone() });
        Ok(Page { records, next })
    }

    pub async fn find(&self, id: &str) -> Result<Option<AuditRecord>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        Ok(queries::by_id(&mut connection, id).await?)
    }

    pub async fn total(&self, filter: &Filter) -> Result<Total, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let count = queries::count(&mut connection, filter, TOTAL_MAX + 1).await?;
        let cap = u64::from(TOTAL_MAX);
        Ok(Total { count: count.min(cap), is_lower_bound: count > cap })
    }

    /// everything a dashboard or report says about a span
    pub async fn summary(&self, span: Span, bucket: Duration, top: u32) -> Result<Summary, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let span = span.whole_minutes();
        let bucket_ms = u64::try_from(bucket.as_millis()).unwrap_or(u64::MAX);
        let by_type = queries::counts_by_type(&mut connection, span).await?;
        Ok(Summary {
            total: by_type.iter().map(|(_, count)| count).sum(),
            by_type,
            by_severity: queries::counts_by_severity(&mut connection, span).await?,
            by_reason: queries::counts_by_reason(&mut connection, span).await?,
            top_addresses: queries::busiest_addresses(&mut connection, span, top).await?,
            buckets: buckets(queries::series(&mut connection, span, bucket_ms).await?),
        })
    }

    /// the users seen at an address or in a prefix, the most recent first
    pub async fn users(&self, network: IpNet, since: Timestamp) -> Result<Vec<(String, Timestamp)>, StoreError> {
        let filter = Filter { network: Some(network), since: Some(since), ..Filter::default() };
        let mut connection = self.readers.acquire().await?;
        Ok(queries::users(&mut connection, &filter, USERS_MAX).await?)
    }

    /// deletes one step of what is beyond `records_max`, oldest first; says how many it deleted
    pub async fn delete_beyond(&self, records_max: u64) -> Result<u64, StoreError> {
        let mut connection = self.writer.acquire().await?;
        let beyond = queries::rows_at_most(&mut connection).await?.saturating_sub(records_max);
        let step = u32::try_from(beyond).unwrap_or(u32::MAX).min(DELETE_STEP);
        if step == 0 {
            return Ok(0);
        }
        let deleted = queries::delete_oldest(&mut connection, step).await?;
        queries::delete_empty_slices(&mut connection).await?;
        Ok(deleted)
    }

    /// forgets how many records there were in minutes before
    pub async fn delete_counts(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut connection = self.writer.acquire().await?;
        Ok(queries::delete_counts(&mut connection, before).await?)
    }

    /// whether the store answers
    pub async fn check(&self) -> Result<(), StoreError> {
        let mut connection = self.readers.acquire().await?;
        Ok(queries::ping(&mut connection).await?)
    }

    /// ends the connections; what is committed is on disk
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// how many new records fall into each count
fn counts(records: &[&AuditRecord], new: &[bool]) -> BTreeMap<queries::CountKey, u64> {
    let mut counts = BTreeMap::new();
    for (record, _) in records.iter().zip(new).filter(|(_, new)| **new) {
        let key = (minute(record.timestamp), record.event_type, record.severity, record.reason);
        *counts.entry(key).or_default() += 1;
    }
    counts
}

fn path_of(url: &str) -> Result<PathBuf, StoreError> {
    let path = url.strip_prefix("sqlite:").map(|rest| rest.strip_prefix("//").unwrap_or(rest)).unwrap_or_default();
    if path.is_empty() || path.starts_with(':') {
        // A URL of a server may hold a password.
        let scheme = url.split(':').next().unwrap_or_default();
        return Err(StoreError::Scheme(format!("{scheme}:…")));
    }
    Ok(PathBuf::from(path))
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let unusable = |error| StoreError::Lock(lock_path.clone(), error);
    let file = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
        Err(std::fs::TryLockError::Error(error)) => Err(unusable(error)),
    }
}

fn migrations() -> Migrator {
    let files =
        [("audit", include_str!("migrations/0001_audit.sql")), ("slices", include_str!("migrations/0002_slices.sql"))];
    let migrations = (1..).zip(files).map(|(version, (name, sql))| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
}

fn buckets(counts: Vec<(Timestamp, EventType, u64)>) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    for (at, kind, count) in counts {
        if buckets.last().is_none_or(|bucket| bucket.at != at) {
            buckets.push(Bucket { at, total: 0, counts: BTreeMap::new() });
        }
        if let Some(bucket) = buckets.last_mut() {
            bucket.total += count;
            bucket.counts.insert(kind, count);
        }
    }
    buckets
}

#[cfg(test)]
mod tests;
