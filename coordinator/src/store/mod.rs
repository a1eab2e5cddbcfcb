//! The audit store: a SQL database with one writer at a time, and readers that never make it wait. SQLite belongs to one
//! coordinator, which a lock file beside it says; PostgreSQL is for several.

mod chain;
mod database;
mod filter;
mod growth;
mod page;
mod people;
mod postgres;
mod queries;
mod removal;
mod sqlite;
mod statement;
mod stored;
mod summary;
mod verify;
mod writing;

pub use filter::{Cursor, Filter};
pub(crate) use growth::Ends;
pub(crate) use removal::{Bounds, Cause};
pub(crate) use stored::Stored;
pub use summary::{Bucket, Span, Summary};
pub use verify::{
    Absence, Broken, Checkpoint, CheckpointError, ExportError, Uncompared, Unproven, Verdict, verify_export,
    verify_store,
};

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use picket_shared::clock::Timestamp;
use tokio::sync::Mutex;

use chain::Head;
use database::Database;

/// readers at once
const READERS_MAX: u32 = 4;
/// how long a query waits for a connection or for another process's lock
const WAIT_MAX: Duration = Duration::from_secs(5);
/// how long the store may take to say that it is there: less than a probe of Kubernetes waits
const CHECK_WAIT: Duration = Duration::from_secs(2);
/// how long storing a batch may take: a server that is gone without a word is not waited for until the network gives it up
const INSERT_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("`{0}` is not an audit store; write sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE")]
    Scheme(String),
    #[error(
        "the URL of the audit store cannot be read; write postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full"
    )]
    Url,
    #[error("the authorities that vouch for the audit store's server (sslrootcert), {0}, cannot be read")]
    Authorities(PathBuf, #[source] std::io::Error),
    #[error("the audit store's server does not prove that it is the one in the URL (sslmode, sslrootcert)")]
    Unproven(#[source] sqlx::Error),
    #[error("cannot create the folder {0}")]
    Folder(PathBuf, #[source] std::io::Error),
    #[error("cannot create or write {0}")]
    Create(PathBuf, #[source] std::io::Error),
    #[error("cannot lock {0}")]
    Lock(PathBuf, #[source] std::io::Error),
    #[error("{0} belongs to another coordinator that is running")]
    InUse(PathBuf),
    #[error("cannot bring the audit store up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("the audit store did not take records within {} s", INSERT_WAIT.as_secs())]
    Slow,
    #[error("the audit store did not answer within {} s", CHECK_WAIT.as_secs())]
    Silent,
    #[error("the audit store failed")]
    Query(#[from] sqlx::Error),
}

#[derive(Clone)]
pub struct AuditStore {
    database: Database,
    end: Arc<Mutex<End>>,
    /// held as long as the store is open; a server needs none
    _lock: Option<Arc<File>>,
}

/// the end of this process's chain
#[derive(Default)]
struct End {
    /// the chain's name once it is begun
    writer: Option<String>,
    /// `None` until it is read from the store
    head: Option<Head>,
    /// ids of records of which it is not known whether they were committed
    doubtful: Vec<String>,
}

/// where a store is
enum Place {
    File(PathBuf),
    Server(String),
}

impl Place {
    fn of(url: &str) -> Result<Self, StoreError> {
        match url.split_once(':') {
            Some(("sqlite", rest)) => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if !path.is_empty() && !path.starts_with(':') {
                    return Ok(Place::File(PathBuf::from(path)));
                }
            }
            Some(("postgres" | "postgresql", _)) => return Ok(Place::Server(url.to_owned())),
            _ => {}
        }
        // What follows may hold a password.
        Err(StoreError::Scheme(format!("{}:…", url.split(':').next().unwrap_or_default())))
    }
}

impl AuditStore {
    /// opens `sqlite:PATH` or `postgres://…`, creating what is missing
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let (database, lock) = match Place::of(url)? {
            Place::File(path) => {
                let (database, lock) = sqlite::open(&path).await?;
                (database, Some(Arc::new(lock)))
            }
            Place::Server(url) => (postgres::open(&url).await?, None),
        };
        Ok(AuditStore { database, end: Arc::default(), _lock: lock })
    }

    /// whether the store answers, within [`CHECK_WAIT`]
    pub async fn check(&self) -> Result<(), StoreError> {
        let ping = async {
            let mut session = self.database.read().await?;
            Ok(queries::ping(&mut session).await?)
        };
        tokio::time::timeout(CHECK_WAIT, ping).await.unwrap_or(Err(StoreError::Silent))
    }

    /// ends the connections; what is committed is on disk
    pub async fn close(&self) {
        self.database.close().await;
    }
}

/// a store to read, also while a coordinator has it
async fn open_to_read(url: &str) -> Result<Database, StoreError> {
    match Place::of(url)? {
        Place::File(path) => sqlite::open_to_read(&path).await,
        Place::Server(url) => postgres::open_to_read(&url).await,
    }
}

fn stored_time(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod laws;
