//! Every query of the audit store. Nothing outside this file and the migrations is SQL.

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};
use std::net::IpAddr;

use picket_shared::address;
use picket_shared::audit::{AuditRecord, EventType, Severity};
use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;

use super::filter::{address_key, address_of, like_pattern};
use super::{Cursor, Filter, Span};

const COLUMNS: &str =
    "id, timestamp, event_type, severity, ip, message, socket_id, user_id, event_name, route, node, reason, metadata";

/// which slices of the trail are searched; what no index by slice serves is searched as a whole
#[derive(Clone, Copy)]
enum Within {
    Whole,
    EverySlice,
    /// the one of the query around
    OuterSlice,
    Slice(i64),
}

impl Within {
    fn what_serves(filter: &Filter) -> Self {
        if has_sliced_index(filter) { Within::EverySlice } else { Within::Whole }
    }
}

/// a run of records as they came, with the times between which they lie
struct Slice {
    number: i64,
    newest: Timestamp,
}

/// records in one statement: the way to SQLite costs more than a record does there
const ROWS: usize = 64;

/// stores records; false if any was there already, and then what is stored is to be rolled back
pub(super) async fn insert_all(
    connection: &mut SqliteConnection,
    slice: i64,
    records: &[&AuditRecord],
) -> sqlx::Result<bool> {
    for chunk in records.chunks(ROWS) {
        if insert(connection, slice, chunk).await? != chunk.len() as u64 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// stores records; for each whether it is new
pub(super) async fn insert_one_by_one(
    connection: &mut SqliteConnection,
    slice: i64,
    records: &[&AuditRecord],
) -> sqlx::Result<Vec<bool>> {
    let mut new = Vec::with_capacity(records.len());
    for record in records {
        new.push(insert(connection, slice, &[*record]).await? == 1);
    }
    Ok(new)
}

/// how many were new
async fn insert(connection: &mut SqliteConnection, slice: i64, records: &[&AuditRecord]) -> sqlx::Result<u64> {
    let mut query = QueryBuilder::new(format!("INSERT INTO audit ({COLUMNS}, slice) "));
    query.push_values(records, |mut row, record| {
        let metadata = serde_json::to_string(&record.metadata).unwrap_or_else(|_| "{}".to_owned());
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
            .push_bind(metadata)
            .push_bind(slice);
    });
    query.push(" ON CONFLICT (id) DO NOTHING");
    // Statements of the usual lengths are prepared once.
    let is_usual = records.len() == ROWS || records.len() == 1;
    Ok(query.build().persistent(is_usual).execute(connection).await?.rows_affected())
}

/// the number of the slice that is being filled, or of the next when that one has `records_max`
pub(super) async fn open_slice(connection: &mut SqliteConnection, records_max: i64) -> sqlx::Result<i64> {
    let row = sqlx::query("SELECT COALESCE(MAX(slice), 0) + (COALESCE(records, 0) >= ?) FROM audit_slices")
        .bind(records_max)
        .fetch_one(connection)
        .await?;
    row.try_get(0)
}

/// `count` new records are in a slice, and none is older or newer than said
pub(super) async fn fill_slice(
    connection: &mut SqliteConnection,
    slice: i64,
    count: usize,
    (oldest, newest): (Timestamp, Timestamp),
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO audit_slices (slice, records, oldest, newest) VALUES (?, ?, ?, ?)
         ON CONFLICT (slice) DO UPDATE SET records = records + excluded.records,
         oldest = MIN(oldest, excluded.oldest), newest = MAX(newest, excluded.newest)",
    )
    .bind(slice)
    .bind(i64::try_from(count).unwrap_or(i64::MAX))
    .bind(stored_time(oldest))
    .bind(stored_time(newest))
    .execute(connection)
    .await
    .map(drop)
}

/// up to `limit` records after `cursor`, newest first
pub(super) async fn page(
    connection: &mut SqliteConnection,
    filter: &Filter,
    cursor: Option<&Cursor>,
    limit: u32,
) -> sqlx::Result<Vec<AuditRecord>> {
    if !has_sliced_index(filter) {
        return page_within(connection, Within::Whole, filter, cursor, limit).await;
    }
    let mut found: Vec<AuditRecord> = Vec::new();
    for slice in slices_with(connection, filter, cursor).await? {
        // Slices overlap where records came late.
        let is_whole = found.len() == limit as usize;
        if is_whole && found.last().is_some_and(|oldest| oldest.timestamp > slice.newest) {
            break;
        }
        found.extend(page_within(connection, Within::Slice(slice.number), filter, cursor, limit).await?);
        found.sort_unstable_by(|a, b| (b.timestamp, &b.id).cmp(&(a.timestamp, &a.id)));
        found.truncate(limit as usize);
    }
    Ok(found)
}

async fn page_within(
    connection: &mut SqliteConnection,
    within: Within,
    filter: &Filter,
    cursor: Option<&Cursor>,
    limit: u32,
) -> sqlx::Result<Vec<AuditRecord>> {
    let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM audit"));
    restrict(&mut query, within, filter, cursor);
    query.push(" ORDER BY timestamp DESC, id DESC LIMIT ").push_bind(i64::from(limit));
    query.build().fetch_all(connection).await?.iter().map(record).collect()
}

/// the slices that hold records of the filter's address, user and socket before `cursor`, the newest first
async fn slices_with(
    connection: &mut SqliteConnection,
    filter: &Filter,
    cursor: Option<&Cursor>,
) -> sqlx::Result<Vec<Slice>> {
    let whose = Filter {
        network: filter.network,
        user_id: filter.user_id.clone(),
        socket_id: filter.socket_id.clone(),
        ..Filter::default()
    };
    let mut query = QueryBuilder::new("SELECT slice, newest FROM audit_slices AS slices WHERE newest >= ");
    query.push_bind(filter.since.map_or(0, stored_time)).push(" AND oldest <= ");
    query.push_bind(cursor.map_or(i64::MAX, |cursor| stored_time(cursor.timestamp))).push(" AND oldest <= ");
    query.push_bind(filter.until.map_or(i64::MAX, stored_time)).push(" AND EXISTS (SELECT 1 FROM audit");
    restrict(&mut query, Within::OuterSlice, &whose, None);
    query.push(") ORDER BY newest DESC");
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(|row| Ok(Slice { number: row.try_get(0)?, newest: time(row, 1)? })).collect()
}

pub(super) async fn by_id(connection: &mut SqliteConnection, id: &str) -> sqlx::Result<Option<AuditRecord>> {
    let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM audit WHERE id = "));
    query.push_bind(id.to_owned());
    query.build().fetch_optional(connection).await?.as_ref().map(record).transpose()
}

/// how many records there are, counted up to `cap`
pub(super) async fn count(connection: &mut SqliteConnection, filter: &Filter, cap: u32) -> sqlx::Result<u64> {
    let mut query = QueryBuilder::new("SELECT COUNT(*) FROM (SELECT 1 FROM audit");
    restrict(&mut query, Within::what_serves(filter), filter, None);
    query.push(" LIMIT ").push_bind(i64::from(cap)).push(")");
    unsigned(&query.build().fetch_one(connection).await?, 0)
}

/// what is counted together
pub(super) type CountKey = (Timestamp, EventType, Severity, Option<Reason>);

/// adds to a minute's count
pub(super) async fn count_up(
    connection: &mut SqliteConnection,
    (minute, kind, severity, reason): CountKey,
    count: u64,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO audit_counts (minute, event_type, severity, reason, count) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (minute, event_type, severity, reason) DO UPDATE SET count = count + excluded.count",
    )
    .bind(stored_time(minute))
    .bind(kind.as_str())
    .bind(severity as i64)
    .bind(reason.map(Reason::token).unwrap_or_default())
    .bind(i64::try_from(count).unwrap_or(i64::MAX))
    .execute(connection)
    .await
    .map(drop)
}

pub(super) async fn counts_by_type(
    connection: &mut SqliteConnection,
    span: Span,
) -> sqlx::Result<Vec<(EventType, u64)>> {
    let rows = counted(connection, "event_type", span).await?;
    rows.iter().map(|row| Ok((parsed(row, 0, EventType::parse)?, unsigned(row, 1)?))).collect()
}

pub(super) async fn counts_by_severity(
    connection: &mut SqliteConnection,
    span: Span,
) -> sqlx::Result<Vec<(Severity, u64)>> {
    let rows = counted(connection, "severity", span).await?;
    rows.iter().map(|row| Ok((severity(row, 0)?, unsigned(row, 1)?))).collect()
}

pub(super) async fn counts_by_reason(
    connection: &mut SqliteConnection,
    span: Span,
) -> sqlx::Result<Vec<(String, u64)>> {
    let rows = counted(connection, "reason", span).await?;
    let named = rows.iter().map(|row| Ok((row.try_get::<String, _>(0)?, unsigned(row, 1)?)));
    named.filter(|row| row.as_ref().map_or(true, |(reason, _): &(String, u64)| !reason.is_empty())).collect()
}

async fn counted(connection: &mut SqliteConnection, column: &'static str, span: Span) -> sqlx::Result<Vec<SqliteRow>> {
    let mut query = QueryBuilder::new(format!("SELECT {column}, SUM(count) AS records FROM audit_counts"));
    within(&mut query, "minute", span);
    query.push(format!(" GROUP BY {column} ORDER BY records DESC, {column}"));
    query.build().fetch_all(connection).await
}

/// counts by bucket of `bucket_ms` milliseconds and kind, oldest first
pub(super) async fn series(
    connection: &mut SqliteConnection,
    span: Span,
    bucket_ms: u64,
) -> sqlx::Result<Vec<(Timestamp, EventType, u64)>> {
    let width = i64::try_from(bucket_ms).unwrap_or(i64::MAX).max(1);
    let mut query = QueryBuilder::new("SELECT minute / ");
    query.push_bind(width).push(" * ").push_bind(width).push(" AS bucket, event_type, SUM(count) FROM audit_counts");
    within(&mut query, "minute", span);
    query.push(" GROUP BY bucket, event_type ORDER BY bucket, event_type");
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(|row| Ok((time(row, 0)?, parsed(row, 1, EventType::parse)?, unsigned(row, 2)?))).collect()
}

/// the addresses with the most records, most first
pub(super) async fn busiest_addresses(
    connection: &mut SqliteConnection,
    span: Span,
    limit: u32,
) -> sqlx::Result<Vec<(IpAddr, u64)>> {
    let mut query = QueryBuilder::new("SELECT ip, COUNT(*) AS records FROM audit");
    within(&mut query, "timestamp", span);
    query.push(" GROUP BY ip ORDER BY records DESC, ip LIMIT ").push_bind(i64::from(limit));
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(|row| Ok((ip(row, 0)?, unsigned(row, 1)?))).collect()
}

fn within(query: &mut QueryBuilder<Sqlite>, column: &'static str, span: Span) {
    query.push(" WHERE ").push(column).push(" >= ").push_bind(stored_time(span.since));
    query.push(" AND ").push(column).push(" < ").push_bind(stored_time(span.until));
}

/// deletes the counts of minutes before
pub(super) async fn delete_counts(connection: &mut SqliteConnection, before: Timestamp) -> sqlx::Result<u64> {
    let done =
        sqlx::query("DELETE FROM audit_counts WHERE minute < ?").bind(stored_time(before)).execute(connection).await?;
    Ok(done.rows_affected())
}

/// users seen, the most recent first
pub(super) async fn users(
    connection: &mut SqliteConnection,
    filter: &Filter,
    limit: u32,
) -> sqlx::Result<Vec<(String, Timestamp)>> {
    let mut query = QueryBuilder::new("SELECT user_id, MAX(timestamp) AS seen FROM audit");
    restrict(&mut query, Within::what_serves(filter), filter, None);
    let already = filter != &Filter::default();
    query
        .push(if already { " AND " } else { " WHERE " })
        .push("user_id IS NOT NULL GROUP BY user_id ORDER BY seen DESC LIMIT ");
    query.push_bind(i64::from(limit));
    query.build().fetch_all(connection).await?.iter().map(|row| Ok((row.try_get(0)?, time(row, 1)?))).collect()
}

/// how many rows the table can hold at most; exact while nothing but the oldest is deleted
pub(super) async fn rows_at_most(connection: &mut SqliteConnection) -> sqlx::Result<u64> {
    let row = sqlx::query("SELECT COALESCE((SELECT MAX(rowid) FROM audit) - (SELECT MIN(rowid) FROM audit) + 1, 0)")
        .fetch_one(connection)
        .await?;
    unsigned(&row, 0)
}

/// deletes up to `limit` of the records that were stored first
pub(super) async fn delete_oldest(connection: &mut SqliteConnection, limit: u32) -> sqlx::Result<u64> {
    let done = sqlx::query("DELETE FROM audit WHERE rowid IN (SELECT rowid FROM audit ORDER BY rowid LIMIT ?)")
        .bind(i64::from(limit))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// forgets the slices before the oldest record's
pub(super) async fn delete_empty_slices(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM audit_slices WHERE slice < (SELECT slice FROM audit ORDER BY rowid LIMIT 1)")
        .execute(connection)
        .await
        .map(drop)
}

pub(super) async fn ping(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query("SELECT 1 FROM audit LIMIT 1").fetch_optional(connection).await.map(drop)
}

/// whether it asks for an address, a user or a socket: their indices are kept by slice
fn has_sliced_index(filter: &Filter) -> bool {
    filter.network.is_some() || filter.user_id.is_some() || filter.socket_id.is_some()
}

fn restrict(query: &mut QueryBuilder<Sqlite>, within: Within, filter: &Filter, cursor: Option<&Cursor>) {
    let mut word = " WHERE ";
    let mut also = |query: &mut QueryBuilder<Sqlite>| {
        query.push(std::mem::replace(&mut word, " AND "));
    };
    if !matches!(within, Within::Whole) {
        also(query);
    }
    match within {
        Within::Whole => {}
        Within::EverySlice => drop(query.push("slice IN (SELECT slice FROM audit_slices)")),
        Within::OuterSlice => drop(query.push("slice = slices.slice")),
        Within::Slice(number) => drop(query.push("slice = ").push_bind(number)),
    }
    // A `+` keeps a column's index out of the plan: the planner knows no frequencies, and the filters before it find fewer.
    let by_identity = filter.user_id.is_some() || filter.socket_id.is_some();
    let by_address = by_identity || filter.network.is_some();
    if let Some(kind) = filter.event_type {
        also(query);
        query.push(if by_address { "+event_type = " } else { "event_type = " }).push_bind(kind.as_str());
    }
    if let Some(severity) = filter.severity {
        also(query);
        let second = by_address || filter.event_type.is_some();
        query.push(if second { "+severity = " } else { "severity = " }).push_bind(severity as i64);
    }
    if let Some(network) = filter.network {
        also(query);
        query.push(if by_identity { "+ip" } else { "ip" });
        if network.prefix_len() == network.max_prefix_len() {
            query.push(" = ").push_bind(address_key(network.addr()));
        } else {
            query
                .push(" BETWEEN ")
                .push_bind(address_key(network.network()))
                .push(" AND ")
                .push_bind(address_key(network.broadcast()));
        }
    }
    for (column, value) in [("user_id", &filter.user_id), ("socket_id", &filter.socket_id)] {
        if let Some(value) = value {
            also(query);
            query.push(column).push(" = ").push_bind(value.clone());
        }
    }
    if let Some(since) = filter.since {
        also(query);
        query.push("timestamp >= ").push_bind(stored_time(since));
    }
    if let Some(until) = filter.until {
        also(query);
        query.push("timestamp < ").push_bind(stored_time(until));
    }
    if let Some(text) = &filter.text {
        also(query);
        let pattern = like_pattern(text);
        for (place, column) in ["message", "metadata", "reason", "event_name"].into_iter().enumerate() {
            query
                .push(if place == 0 { "(" } else { " OR " })
                .push(column)
                .push(" LIKE ")
                .push_bind(pattern.clone())
                .push(r" ESCAPE '\'");
        }
        query.push(")");
    }
    if let Some(cursor) = cursor {
        also(query);
        query
            .push("(timestamp, id) < (")
            .push_bind(stored_time(cursor.timestamp))
            .push(", ")
            .push_bind(cursor.id.clone())
            .push(")");
    }
}

fn record(row: &SqliteRow) -> sqlx::Result<AuditRecord> {
    let metadata: String = row.try_get("metadata")?;
    let reason: Option<String> = row.try_get("reason")?;
    Ok(AuditRecord {
        id: row.try_get("id")?,
        timestamp: time(row, 1)?,
        event_type: parsed(row, 2, EventType::parse)?,
        severity: severity(row, 3)?,
        ip: ip(row, 4)?,
        message: row.try_get("message")?,
        socket_id: row.try_get("socket_id")?,
        user_id: row.try_get("user_id")?,
        event_name: row.try_get("event_name")?,
        route: row.try_get("route")?,
        node: row.try_get("node")?,
        reason: reason.as_deref().and_then(Reason::from_token),
        metadata: serde_json::from_str(&metadata).map_err(|error| sqlx::Error::Decode(error.into()))?,
    })
}

fn stored_time(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn time(row: &SqliteRow, column: usize) -> sqlx::Result<Timestamp> {
    unsigned(row, column).map(Timestamp::from_millis)
}

fn unsigned(row: &SqliteRow, column: usize) -> sqlx::Result<u64> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0))
}

fn severity(row: &SqliteRow, column: usize) -> sqlx::Result<Severity> {
    let number: i64 = row.try_get(column)?;
    Severity::ALL.into_iter().find(|severity| *severity as i64 == number).ok_or_else(|| unreadable("severity"))
}

fn ip(row: &SqliteRow, column: usize) -> sqlx::Result<IpAddr> {
    let key: Vec<u8> = row.try_get(column)?;
    address_of(&key).map(address::canonical).ok_or_else(|| unreadable("address"))
}

fn parsed<T>(row: &SqliteRow, column: usize, parse: impl Fn(&str) -> Option<T>) -> sqlx::Result<T> {
    let text: String = row.try_get(column)?;
    parse(&text).ok_or_else(|| unreadable("kind"))
}

fn unreadable(what: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(format!("a stored {what} is not known").into())
}
