//! PostgreSQL: a server that several coordinators share. One of them writes at a time.

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection};
use std::path::PathBuf;
use std::str::FromStr;
use url::Url;

use picket_shared::reason::Reason;

use super::chain::Sealed;
use super::database::{Database, Pool, migrator};
use super::filter::address_key;
use super::statement::Dialect;
use super::{READERS_MAX, StoreError, WAIT_MAX, stored_time};

/// connections that write: ingest, and what retention or an administrator deletes
const WRITERS_MAX: u32 = 2;
/// records in one statement: enough that the way to the server does not count, few enough that it need not wait for them
const ROWS: usize = 512;
/// how long a statement may wait for another coordinator's
const LOCK_WAIT: &str = "30s";

/// how long a query of a coordinator may take
const READ_WAIT: &str = "30s";

/// connects, and creates the tables as needed
pub(super) async fn open(url: &str) -> Result<Database, StoreError> {
    let options = options(url)?;
    let writer = pool(WRITERS_MAX).connect_with(options.clone()).await.map_err(not_connected)?;
    migrations().run(&writer).await?;
    let readers = pool(READERS_MAX).connect_with(options.options([("statement_timeout", READ_WAIT)])).await?;
    Ok(Database { dialect: Dialect::Postgres, writer: Pool::Postgres(writer), readers: Pool::Postgres(readers) })
}

/// connects to read
pub(super) async fn open_to_read(url: &str) -> Result<Database, StoreError> {
    let readers = Pool::Postgres(pool(READERS_MAX).connect_with(options(url)?).await.map_err(not_connected)?);
    Ok(Database { dialect: Dialect::Postgres, writer: readers.clone(), readers })
}

/// a connection that does not answer when it is given back, because its server is gone without a word, is closed at once
fn pool(connections_max: u32) -> PgPoolOptions {
    let pool = PgPoolOptions::new().max_connections(connections_max).acquire_timeout(WAIT_MAX);
    pool.after_release(|connection, _| {
        Box::pin(async move {
            tokio::time::timeout(WAIT_MAX, connection.ping()).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
            Ok(true)
        })
    })
}

/// A wrong certificate comes as an error of the network, whose kind only its words tell.
fn not_connected(error: sqlx::Error) -> StoreError {
    let is_of_tls = matches!(&error, sqlx::Error::Tls(_)) || error.to_string().contains("invalid peer certificate");
    if is_of_tls { StoreError::Unproven(error) } else { error.into() }
}

fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let parsed = Url::parse(url).map_err(|_| StoreError::Url)?;
    if let Some((_, path)) = parsed.query_pairs().find(|(name, _)| name == "sslrootcert") {
        let path = PathBuf::from(path.as_ref());
        std::fs::File::open(&path).map_err(|error| StoreError::Authorities(path, error))?;
    }
    let options = PgConnectOptions::from_str(url).map_err(|_| StoreError::Url)?;
    // A plan for any value is a bad one where times are asked for: each value gets its own.
    let settings =
        [("plan_cache_mode", "force_custom_plan"), ("lock_timeout", LOCK_WAIT), ("client_min_messages", "warning")];
    Ok(options.application_name("picket").options(settings))
}

fn migrations() -> Migrator {
    migrator(&[
        ("audit", include_str!("migrations/0001_audit.sql")),
        ("kinds", include_str!("migrations/0002_kinds.sql")),
    ])
}

/// stores records; answers how many were new
pub(super) async fn insert(
    connection: &mut PgConnection,
    slice: i64,
    mut records: impl Iterator<Item = Sealed<'_>>,
) -> sqlx::Result<u64> {
    let mut new = 0;
    let mut next = Columns::of(&mut records);
    while let Some(columns) = next.take() {
        // The server stores some while this process seals the next.
        let sealing = async { next = Columns::of(&mut records) };
        let (done, ()) = tokio::join!(biased; columns.insert(slice, connection), sealing);
        new += done?;
    }
    Ok(new)
}

/// some records, column by column: one statement stores any number of them
#[derive(Default)]
struct Columns<'r> {
    id: Vec<&'r str>,
    timestamp: Vec<i64>,
    event_type: Vec<&'static str>,
    severity: Vec<i64>,
    ip: Vec<Vec<u8>>,
    message: Vec<&'r str>,
    socket_id: Vec<Option<&'r str>>,
    user_id: Vec<Option<&'r str>>,
    event_name: Vec<Option<&'r str>>,
    route: Vec<Option<&'r str>>,
    node: Vec<Option<&'r str>>,
    reason: Vec<Option<&'static str>>,
    metadata: Vec<String>,
    writer: Vec<i64>,
    seq: Vec<i64>,
    salt: Vec<[u8; 16]>,
    hash: Vec<[u8; 32]>,
    bytes: Vec<i64>,
}

impl<'r> Columns<'r> {
    /// the next records, if there are any
    fn of(records: &mut impl Iterator<Item = Sealed<'r>>) -> Option<Self> {
        let mut columns = Columns::default();
        for sealed in records.take(ROWS) {
            columns.add(sealed);
        }
        (!columns.id.is_empty()).then_some(columns)
    }

    fn add(&mut self, sealed: Sealed<'r>) {
        let record = sealed.record;
        self.bytes.push(sealed.bytes());
        self.id.push(&record.id);
        self.timestamp.push(stored_time(record.timestamp));
        self.event_type.push(record.event_type.as_str());
        self.severity.push(record.severity as i64);
        self.ip.push(address_key(record.ip));
        self.message.push(&record.message);
        self.socket_id.push(record.socket_id.as_deref());
        self.user_id.push(record.user_id.as_deref());
        self.event_name.push(record.event_name.as_deref());
        self.route.push(record.route.as_deref());
        self.node.push(record.node.as_deref());
        self.reason.push(record.reason.map(Reason::token));
        self.metadata.push(sealed.metadata);
        self.writer.push(sealed.writer);
        self.seq.push(i64::try_from(sealed.seq).unwrap_or(i64::MAX));
        self.salt.push(sealed.salt);
        self.hash.push(sealed.hash);
    }

    async fn insert(self, slice: i64, connection: &mut PgConnection) -> sqlx::Result<u64> {
        let insert = sqlx::query(
            "INSERT INTO audit (id, timestamp, event_type, severity, ip, message, socket_id, user_id, event_name, route, node, \
             reason, metadata, slice, writer, seq, salt, hash, bytes) \
             SELECT id, timestamp, event_type, severity, ip, message, socket_id, user_id, event_name, route, node, reason, \
             metadata, $14, writer, seq, salt, hash, bytes \
             FROM UNNEST($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::bytea[], $6::text[], $7::text[], $8::text[], \
             $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $15::bigint[], $16::bigint[], $17::bytea[], \
             $18::bytea[], $19::bigint[]) \
             AS new (id, timestamp, event_type, severity, ip, message, socket_id, user_id, event_name, route, node, reason, \
             metadata, writer, seq, salt, hash, bytes) \
             ON CONFLICT (id) DO NOTHING",
        );
        let insert = insert.bind(self.id).bind(self.timestamp).bind(self.event_type).bind(self.severity).bind(self.ip);
        let insert = insert.bind(self.message).bind(self.socket_id).bind(self.user_id).bind(self.event_name);
        let insert = insert.bind(self.route).bind(self.node).bind(self.reason).bind(self.metadata).bind(slice);
        let insert = insert.bind(self.writer).bind(self.seq).bind(self.salt).bind(self.hash).bind(self.bytes);
        Ok(insert.execute(connection).await?.rows_affected())
    }
}
