//! PostgreSQL: a server that several coordinators share. One of them writes at a time.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, SqlSafeStr};
use std::path::PathBuf;
use std::str::FromStr;
use url::Url;

use picket_shared::reason::Reason;

use super::chain::Sealed;
use super::database::{Database, Pool};
use super::filter::address_key;
use super::statement::Dialect;
use super::{READERS_MAX, StoreError, WAIT_MAX, stored_time};

/// connections that write: ingest, and what retention or an administrator deletes
const WRITERS_MAX: u32 = 2;
/// how long a statement may wait for another coordinator's
const LOCK_WAIT: &str = "30s";

/// connects, and creates the tables as needed
pub(super) async fn open(url: &str) -> Result<Database, StoreError> {
    let options = options(url)?;
    let writer = PgPoolOptions::new().max_connections(WRITERS_MAX).acquire_timeout(WAIT_MAX);
    let writer = writer.connect_with(options.clone()).await.map_err(not_connected)?;
    migrations().run(&writer).await?;
    let readers = PgPoolOptions::new().max_connections(READERS_MAX).acquire_timeout(WAIT_MAX);
    let readers = readers.connect_with(options).await?;
    Ok(Database { dialect: Dialect::Postgres, writer: Pool::Postgres(writer), readers: Pool::Postgres(readers) })
}

/// connects to read
pub(super) async fn open_to_read(url: &str) -> Result<Database, StoreError> {
    let readers = PgPoolOptions::new().max_connections(READERS_MAX).acquire_timeout(WAIT_MAX);
    let readers = Pool::Postgres(readers.connect_with(options(url)?).await.map_err(not_connected)?);
    Ok(Database { dialect: Dialect::Postgres, writer: readers.clone(), readers })
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
    let audit =
        Migration::new(1, "audit".into(), MigrationType::Simple, include_str!("0001_audit.sql").into_sql_str(), false);
    Migrator::with_migrations(vec![audit])
}

/// stores records; answers how many were new
pub(super) async fn insert(connection: &mut PgConnection, slice: i64, records: &[Sealed<'_>]) -> sqlx::Result<u64> {
    // One statement for any number of records: a column each.
    let insert = sqlx::query(
        "INSERT INTO audit (id, timestamp, event_type, severity, ip, message, socket_id, user_id, event_name, route, node, reason, \
         metadata, slice, writer, seq, salt, hash, bytes) \
         SELECT id, timestamp, event_type, severity, ip, message, socket_id, user_id, event_name, route, node, reason, \
         metadata, $14, writer, seq, salt, hash, bytes \
         FROM UNNEST($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::bytea[], $6::text[], $7::text[], $8::text[], \
         $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $15::bigint[], $16::bigint[], $17::bytea[], \
         $18::bytea[], $19::bigint[]) \
         AS new (id, timestamp, event_type, severity, ip, message, socket_id, user_id, event_name, route, node, reason, \
         metadata, writer, seq, salt, hash, bytes) \
         ON CONFLICT (id) DO NOTHING",
    );
    fn column<'a, T>(records: &'a [Sealed<'a>], value: impl Fn(&'a Sealed<'a>) -> T) -> Vec<T> {
        records.iter().map(value).collect()
    }
    let done = insert
        .bind(column(records, |sealed| &*sealed.record.id))
        .bind(column(records, |sealed| stored_time(sealed.record.timestamp)))
        .bind(column(records, |sealed| sealed.record.event_type.as_str()))
        .bind(column(records, |sealed| sealed.record.severity as i64))
        .bind(column(records, |sealed| address_key(sealed.record.ip)))
        .bind(column(records, |sealed| &*sealed.record.message))
        .bind(column(records, |sealed| sealed.record.socket_id.as_deref()))
        .bind(column(records, |sealed| sealed.record.user_id.as_deref()))
        .bind(column(records, |sealed| sealed.record.event_name.as_deref()))
        .bind(column(records, |sealed| sealed.record.route.as_deref()))
        .bind(column(records, |sealed| sealed.record.node.as_deref()))
        .bind(column(records, |sealed| sealed.record.reason.map(Reason::token)))
        .bind(column(records, |sealed| &*sealed.metadata))
        .bind(slice)
        .bind(column(records, |sealed| sealed.writer))
        .bind(column(records, |sealed| i64::try_from(sealed.seq).unwrap_or(i64::MAX)))
        .bind(column(records, |sealed| &sealed.salt[..]))
        .bind(column(records, |sealed| &sealed.hash[..]))
        .bind(column(records, Sealed::bytes));
    Ok(done.execute(connection).await?.rows_affected())
}
