//! Counts by minute, so that dashboards and reports need not read records.

use std::net::IpAddr;

use picket_shared::address;
use picket_shared::audit::{EventType, Severity};
use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;

use super::super::database::Session;
use super::super::filter::address_of;
use super::super::statement::{Row, Statement, unreadable};
use super::super::stored::severity_of;
use super::super::{Span, stored_time};

/// what is counted together
pub(crate) type CountKey = (Timestamp, EventType, Severity, Option<Reason>);

/// adds to a minute's count
pub(crate) async fn count_up(
    session: &mut Session,
    (minute, kind, severity, reason): CountKey,
    count: u64,
) -> sqlx::Result<()> {
    let mut query =
        session.statement("INSERT INTO audit_counts (minute, event_type, severity, reason, count) VALUES (");
    query.bind(stored_time(minute)).push(", ").bind(kind.as_str()).push(", ").bind(severity as i64).push(", ");
    query.bind(reason.map(Reason::token).unwrap_or_default()).push(", ").bind(count).push(
        ") ON CONFLICT (minute, event_type, severity, reason) DO UPDATE SET count = audit_counts.count + excluded.count",
    );
    session.execute(query).await.map(drop)
}

pub(crate) async fn by_type(session: &mut Session, span: Span) -> sqlx::Result<Vec<(EventType, u64)>> {
    let rows = counted(session, "event_type", span).await?;
    rows.into_iter().map(|mut row| Ok((kind(&mut row, 0)?, row.unsigned(1)?))).collect()
}

pub(crate) async fn by_severity(session: &mut Session, span: Span) -> sqlx::Result<Vec<(Severity, u64)>> {
    let rows = counted(session, "severity", span).await?;
    rows.iter().map(|row| Ok((severity_of(row.integer(0)?)?, row.unsigned(1)?))).collect()
}

pub(crate) async fn by_reason(session: &mut Session, span: Span) -> sqlx::Result<Vec<(String, u64)>> {
    let rows = counted(session, "reason", span).await?;
    let named = rows.into_iter().map(|mut row| Ok((row.text(0)?, row.unsigned(1)?)));
    named.filter(|row| row.as_ref().map_or(true, |(reason, _): &(String, u64)| !reason.is_empty())).collect()
}

async fn counted(session: &mut Session, column: &'static str, span: Span) -> sqlx::Result<Vec<Row>> {
    let mut query =
        session.statement(format!("SELECT {column}, CAST(SUM(count) AS BIGINT) AS records FROM audit_counts"));
    within(&mut query, "minute", span);
    query.push(&format!(" GROUP BY {column} ORDER BY records DESC, {column}"));
    session.rows(query).await
}

/// counts by bucket of `bucket_ms` milliseconds and kind, oldest first
pub(crate) async fn series(
    session: &mut Session,
    span: Span,
    bucket_ms: u64,
) -> sqlx::Result<Vec<(Timestamp, EventType, u64)>> {
    let mut query = session.statement("SELECT minute / ");
    query.bind(bucket_ms.max(1)).push(" * ").bind(bucket_ms.max(1));
    query.push(" AS bucket, event_type, CAST(SUM(count) AS BIGINT) FROM audit_counts");
    within(&mut query, "minute", span);
    query.push(" GROUP BY bucket, event_type ORDER BY bucket, event_type");
    let rows = session.rows(query).await?.into_iter();
    rows.map(|mut row| Ok((Timestamp::from_millis(row.unsigned(0)?), kind(&mut row, 1)?, row.unsigned(2)?))).collect()
}

/// the addresses with the most records, most first
pub(crate) async fn busiest_addresses(
    session: &mut Session,
    span: Span,
    limit: u32,
) -> sqlx::Result<Vec<(IpAddr, u64)>> {
    let mut query = session.statement("SELECT ip, COUNT(*) AS records FROM audit");
    within(&mut query, "timestamp", span);
    // One more: those that were erased are together one address, which is none.
    query.push(" GROUP BY ip ORDER BY records DESC, ip LIMIT ").bind(limit.saturating_add(1));
    let mut busiest = Vec::new();
    for row in session.rows(query).await? {
        let key = row.bytes(0)?;
        if !key.is_empty() {
            let ip = address_of(key).map(address::canonical).ok_or_else(|| unreadable("address"))?;
            busiest.push((ip, row.unsigned(1)?));
        }
    }
    busiest.truncate(limit as usize);
    Ok(busiest)
}

/// deletes the counts of minutes before
pub(crate) async fn delete(session: &mut Session, before: Timestamp) -> sqlx::Result<u64> {
    let mut query = session.statement("DELETE FROM audit_counts WHERE minute < ");
    query.bind(stored_time(before));
    session.execute(query).await
}

fn within(query: &mut Statement, column: &'static str, span: Span) {
    query.push(" WHERE ").push(column).push(" >= ").bind(stored_time(span.since));
    query.push(" AND ").push(column).push(" < ").bind(stored_time(span.until));
}

fn kind(row: &mut Row, column: usize) -> sqlx::Result<EventType> {
    EventType::parse(&row.text(column)?).ok_or_else(|| unreadable("kind"))
}
