//! SQLite: an embedded file with one owner, one writer, and readers that never make it wait.

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use std::fs::File;
use std::path::{Path, PathBuf};

use picket_shared::reason::Reason;

use super::chain::Sealed;
use super::database::{Database, Pool, migrator};
use super::filter::address_key;
use super::statement::Dialect;
use super::{READERS_MAX, StoreError, WAIT_MAX, stored_time};

/// what each connection keeps of the file; negative means KiB to SQLite
const CACHE_KIB: &str = "-32768";
/// pages in the write-ahead log after which they are written back
const CHECKPOINT_PAGES: &str = "8192";
/// records in one statement: the way to SQLite costs more than a record does there
const ROWS: usize = 64;

/// opens a file that nobody else has open, creating file, folder and tables as needed
pub(super) async fn open(path: &Path) -> Result<(Database, File), StoreError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| StoreError::Folder(folder.to_owned(), error))?;
    }
    let lock = lock(path)?;
    create(path)?;
    let options = options(path).create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    // What is erased or deleted is overwritten where that costs no further page.
    let options = options.pragma("secure_delete", "FAST").pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
    let writer = SqlitePoolOptions::new().max_connections(1).acquire_timeout(WAIT_MAX);
    let writer = writer.connect_with(options.clone()).await?;
    migrations().run(&writer).await?;
    let readers = SqlitePoolOptions::new().max_connections(READERS_MAX).acquire_timeout(WAIT_MAX);
    let readers = readers.connect_with(options.read_only(true)).await?;
    let database = Database { dialect: Dialect::Sqlite, writer: Pool::Sqlite(writer), readers: Pool::Sqlite(readers) };
    Ok((database, lock))
}

/// opens a file to read, also while a coordinator has it
pub(super) async fn open_to_read(path: &Path) -> Result<Database, StoreError> {
    let readers = SqlitePoolOptions::new().max_connections(READERS_MAX).acquire_timeout(WAIT_MAX);
    let readers = Pool::Sqlite(readers.connect_with(options(path).read_only(true)).await?);
    Ok(Database { dialect: Dialect::Sqlite, writer: readers.clone(), readers })
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        // With a write-ahead log a power cut may lose the last commits, never the file; the audit log holds what is not acknowledged.
        .synchronous(SqliteSynchronous::Normal)
        // Records of many addresses touch many pages of the indices: they are kept, and written back seldom.
        .pragma("cache_size", CACHE_KIB)
        .busy_timeout(WAIT_MAX)
}

/// a new file that nobody else may read; what SQLite puts beside it is like it
fn create(path: &Path) -> Result<(), StoreError> {
    let mut options = File::options();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(|error| StoreError::Create(path.to_owned(), error))
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

pub(super) fn migrations() -> Migrator {
    migrator(&[
        ("audit", include_str!("migrations/0001_audit.sql")),
        ("slices", include_str!("migrations/0002_slices.sql")),
        ("chains", include_str!("migrations/0003_chains.sql")),
        ("kinds", include_str!("migrations/0004_kinds.sql")),
    ])
}

/// stores records; answers how many were new
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    slice: i64,
    mut records: impl Iterator<Item = Sealed<'_>>,
) -> sqlx::Result<u64> {
    let mut new = 0;
    let mut next = statement(slice, &mut records);
    while let Some((mut query, rows)) = next.take() {
        // Statements of the usual lengths are prepared once.
        let query = query.build().persistent(rows == ROWS || rows == 1);
        // The thread of SQLite stores some while this one makes the next statement.
        let making = async { next = statement(slice, &mut records) };
        let (done, ()) = tokio::join!(biased; query.execute(&mut *connection), making);
        new += done?.rows_affected();
    }
    Ok(new)
}

/// a statement that stores the next records, if there are any, and how many these are
fn statement<'r>(slice: i64, records: &mut impl Iterator<Item = Sealed<'r>>) -> Option<(QueryBuilder<Sqlite>, usize)> {
    let records: Vec<_> = records.take(ROWS).collect();
    let rows = records.len();
    if rows == 0 {
        return None;
    }
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO audit (id, timestamp, event_type, severity, ip, message, socket_id, user_id, event_name, route, node, reason, \
         metadata, slice, writer, seq, salt, hash, bytes) ",
    );
    query.push_values(records, |mut row, sealed| {
        let (record, bytes) = (sealed.record, sealed.bytes());
        row.push_bind(record.id.clone())
            .push_bind(stored_time(record.timestamp))
            .push_bind(record.event_type.as_str())
            .push_bind(record.severity as i64)
            .push_bind(address_key(record.ip))
            .push_bind(record.message.clone())
            .push_bind(record.socket_id.clone())
            .push_bind(record.user_id.clone())
            .push_bind(record.event_name.clone())
            .push_bind(record.route.clone())
            .push_bind(record.node.clone())
            .push_bind(record.reason.map(Reason::token))
            .push_bind(sealed.metadata)
            .push_bind(slice)
            .push_bind(sealed.writer)
            .push_bind(i64::try_from(sealed.seq).unwrap_or(i64::MAX))
            .push_bind(sealed.salt.to_vec())
            .push_bind(sealed.hash.to_vec())
            .push_bind(bytes);
    });
    query.push(" ON CONFLICT (id) DO NOTHING");
    Some((query, rows))
}

#[cfg(test)]
mod tests;
