//! Queries that find records.

use std::collections::HashMap;
use std::time::Duration;

use picket_shared::audit::Severity;
use picket_shared::clock::Timestamp;

use super::super::database::Session;
use super::super::filter::{Cursor, Filter, address_key, like_pattern};
use super::super::growth::Position;
use super::super::statement::Statement;
use super::super::stored::{COLUMNS, Stored};
use super::super::{Span, stored_time};

/// which slices of the trail are searched; what no index by slice serves is searched as a whole
#[derive(Clone, Copy)]
enum Within<'a> {
    Whole,
    /// the one of the query around
    OuterSlice,
    Slices(&'a [Slice]),
}

/// Slices that one search for a text reads, where nothing else says which records to read: 32,768 records, some 40 ms.
pub(crate) const TEXT_SLICES_MAX: usize = 2;
/// slices that one query reads at most
const SLICES_AT_ONCE_MAX: usize = 64;

/// a run of records as they came, with the times between which they lie
struct Slice {
    number: i64,
    newest: u64,
}

/// what a search found, the newest first
pub(crate) struct Found {
    pub(crate) records: Vec<Stored>,
    /// only what is from then on was read; `None`: all of the trail, or as much as was asked for
    pub(crate) read_to: Option<Timestamp>,
}

/// up to `limit` records after `cursor`, newest first
pub(crate) async fn page(
    session: &mut Session,
    filter: &Filter,
    cursor: Option<&Cursor>,
    limit: u32,
) -> sqlx::Result<Found> {
    if !has_sliced_index(filter) && filter.text.is_none() {
        let mut records = Vec::new();
        for filter in by_severity(filter) {
            records.extend(page_within(session, Within::Whole, &filter, cursor, limit).await?);
        }
        newest_first(&mut records, limit);
        return Ok(Found { records, read_to: None });
    }
    let slices = slices_with(session, filter, cursor).await?;
    let (mut found, mut searched) = (Vec::<Stored>::new(), 0);
    while let Some(slice) = slices.get(searched) {
        // Slices overlap where records came late.
        let is_whole = found.len() == limit as usize;
        if is_whole && found.last().is_some_and(|oldest| oldest.timestamp > slice.newest) {
            break;
        }
        // The next search begins earlier than this one, however many slices overlap.
        let gets_on = cursor.is_none_or(|cursor| slice.newest + 1 < stored_time(cursor.timestamp).unsigned_abs());
        if searched >= TEXT_SLICES_MAX && !has_sliced_index(filter) && gets_on {
            found.retain(|record| record.timestamp > slice.newest);
            return Ok(Found { records: found, read_to: Some(Timestamp::from_millis(slice.newest + 1)) });
        }
        let next = at_once(&slices, searched, filter);
        found.extend(page_within(session, Within::Slices(next), filter, cursor, limit).await?);
        newest_first(&mut found, limit);
        searched += next.len();
    }
    Ok(Found { records: found, read_to: None })
}

fn newest_first(records: &mut Vec<Stored>, limit: u32) {
    records.sort_unstable_by(|a, b| (b.timestamp, &b.id).cmp(&(a.timestamp, &a.id)));
    records.truncate(limit as usize);
}

/// The index of kinds has the severities between kind and time.
fn by_severity(filter: &Filter) -> Vec<Filter> {
    match (filter.event_type, filter.severity) {
        (Some(_), None) => {
            Severity::ALL.into_iter().map(|severity| Filter { severity: Some(severity), ..filter.clone() }).collect()
        }
        _ => vec![filter.clone()],
    }
}

/// The slices that the next query reads. Who is busy fills a page from the first, who is seldom seen is in many: each query reads
/// more of them than all before.
fn at_once<'a>(slices: &'a [Slice], searched: usize, filter: &Filter) -> &'a [Slice] {
    let number = if has_sliced_index(filter) { (3 * searched + 1).min(SLICES_AT_ONCE_MAX) } else { 1 };
    &slices[searched..slices.len().min(searched + number)]
}

/// up to `limit` records of a span after `cursor`, oldest first
pub(crate) async fn in_order(
    session: &mut Session,
    span: Span,
    cursor: Option<&Cursor>,
    limit: u32,
) -> sqlx::Result<Vec<Stored>> {
    // SQLite looks up the first bound that it finds, so that one is at the cursor already.
    let since = cursor.map_or(span.since, |cursor| cursor.timestamp.max(span.since));
    let span = Filter { since: Some(since), until: Some(span.until), ..Filter::default() };
    let mut query = session.statement(format!("SELECT {COLUMNS} FROM audit"));
    restrict(&mut query, Within::Whole, &span, None);
    if let Some(cursor) = cursor {
        query.push(" AND (timestamp, id) > (").bind(stored_time(cursor.timestamp)).push(", ").bind(cursor.id.as_str());
        query.push(")");
    }
    query.push(" ORDER BY timestamp, id LIMIT ").bind(limit);
    session.rows(query).await?.into_iter().map(Stored::of).collect()
}

async fn page_within(
    session: &mut Session,
    within: Within<'_>,
    filter: &Filter,
    cursor: Option<&Cursor>,
    limit: u32,
) -> sqlx::Result<Vec<Stored>> {
    let mut query = session.statement(format!("SELECT {COLUMNS} FROM audit"));
    restrict(&mut query, within, filter, cursor);
    query.push(" ORDER BY ");
    time(&mut query, within, filter).push(" DESC, id DESC LIMIT ").bind(limit);
    session.rows(query).await?.into_iter().map(Stored::of).collect()
}

/// the slices that hold records of the filter's address (all, if it says none), user and socket before `cursor`, the newest first
async fn slices_with(session: &mut Session, filter: &Filter, cursor: Option<&Cursor>) -> sqlx::Result<Vec<Slice>> {
    let whose = Filter {
        network: filter.network,
        user_id: filter.user_id.clone(),
        socket_id: filter.socket_id.clone(),
        ..Filter::default()
    };
    let mut query = session.statement("SELECT slice, newest FROM audit_slices AS slices WHERE newest >= ");
    query.bind(filter.since.map_or(0, stored_time)).push(" AND oldest <= ");
    query.bind(cursor.map_or(i64::MAX, |cursor| stored_time(cursor.timestamp))).push(" AND oldest <= ");
    query.bind(filter.until.map_or(i64::MAX, stored_time)).push(" AND EXISTS (SELECT 1 FROM audit");
    restrict(&mut query, Within::OuterSlice, &whose, None);
    // The bounds keep PostgreSQL from making a join of it, for which it would read all records.
    query.push(" LIMIT 1 OFFSET 0) ORDER BY newest DESC");
    let rows = session.rows(query).await?;
    rows.iter().map(|row| Ok(Slice { number: row.integer(0)?, newest: row.unsigned(1)? })).collect()
}

pub(crate) async fn by_id(session: &mut Session, id: &str) -> sqlx::Result<Option<Stored>> {
    let mut query = session.statement(format!("SELECT {COLUMNS} FROM audit WHERE id = "));
    query.bind(id);
    session.row(query).await?.map(Stored::of).transpose()
}

pub(crate) async fn position(session: &mut Session, id: &str) -> sqlx::Result<Option<Position>> {
    let mut query = session.statement("SELECT writer, seq FROM audit WHERE writer IS NOT NULL AND id = ");
    query.bind(id);
    let row = session.row(query).await?;
    row.map(|row| Ok(Position { writer: row.integer(0)?, seq: row.unsigned(1)? })).transpose()
}

/// how many records there are, counted up to `cap`, and whether all were looked at
pub(crate) async fn count(session: &mut Session, filter: &Filter, cap: u32) -> sqlx::Result<(u64, bool)> {
    if !has_sliced_index(filter) && filter.text.is_none() {
        let mut count = 0;
        for filter in by_severity(filter) {
            let left = u32::try_from(u64::from(cap).saturating_sub(count)).unwrap_or(u32::MAX);
            count += count_within(session, Within::Whole, &filter, left).await?;
        }
        return Ok((count, true));
    }
    let slices = slices_with(session, filter, None).await?;
    let read = if has_sliced_index(filter) { slices.len() } else { slices.len().min(TEXT_SLICES_MAX) };
    let (mut count, mut searched) = (0, 0);
    while searched < read && count < u64::from(cap) {
        let next = at_once(&slices[..read], searched, filter);
        let left = u32::try_from(u64::from(cap) - count).unwrap_or(u32::MAX);
        count += count_within(session, Within::Slices(next), filter, left).await?;
        searched += next.len();
    }
    Ok((count, read == slices.len()))
}

async fn count_within(session: &mut Session, within: Within<'_>, filter: &Filter, cap: u32) -> sqlx::Result<u64> {
    let mut query = session.statement("SELECT COUNT(*) FROM (SELECT 1 FROM audit");
    restrict(&mut query, within, filter, None);
    query.push(" LIMIT ").bind(cap).push(") AS found");
    session.row(query).await?.map_or(Ok(0), |row| row.unsigned(0))
}

/// users seen where the filter says, the most recent first
pub(crate) async fn users(
    session: &mut Session,
    filter: &Filter,
    limit: u32,
) -> sqlx::Result<Vec<(String, Timestamp)>> {
    let mut seen = HashMap::<String, Timestamp>::new();
    for slices in slices_with(session, filter, None).await?.chunks(SLICES_AT_ONCE_MAX) {
        let mut query = session.statement("SELECT user_id, MAX(timestamp) AS seen FROM audit");
        restrict(&mut query, Within::Slices(slices), filter, None);
        query.push(" AND user_id IS NOT NULL GROUP BY user_id ORDER BY seen DESC LIMIT ").bind(limit);
        for mut row in session.rows(query).await? {
            let (user, time) = (row.text(0)?, Timestamp::from_millis(row.unsigned(1)?));
            seen.entry(user).and_modify(|last| *last = time.max(*last)).or_insert(time);
        }
    }
    let mut seen: Vec<_> = seen.into_iter().collect();
    seen.sort_unstable_by(|(a, a_seen), (b, b_seen)| (b_seen, a).cmp(&(a_seen, b)));
    seen.truncate(limit as usize);
    Ok(seen)
}

/// up to `limit` records of a user, in any order
pub(crate) async fn of_user(session: &mut Session, user_id: &str, limit: u32) -> sqlx::Result<Vec<Stored>> {
    let filter = Filter { user_id: Some(user_id.to_owned()), ..Filter::default() };
    let mut found = Vec::new();
    for slices in slices_with(session, &filter, None).await?.chunks(SLICES_AT_ONCE_MAX) {
        let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        if left == 0 {
            break;
        }
        let mut query = session.statement(format!("SELECT {COLUMNS} FROM audit"));
        restrict(&mut query, Within::Slices(slices), &filter, None);
        query.push(" LIMIT ").bind(left);
        for row in session.rows(query).await? {
            found.push(Stored::of(row)?);
        }
    }
    Ok(found)
}

/// whether it asks for an address, a user or a socket: their indices are kept by slice
fn has_sliced_index(filter: &Filter) -> bool {
    filter.network.is_some() || filter.user_id.is_some() || filter.socket_id.is_some()
}

fn restrict(query: &mut Statement, within: Within<'_>, filter: &Filter, cursor: Option<&Cursor>) {
    let mut word = " WHERE ";
    let mut also = |query: &mut Statement| {
        query.push(std::mem::replace(&mut word, " AND "));
    };
    match within {
        Within::Whole => {}
        Within::OuterSlice => {
            also(query);
            query.push("slice = slices.slice");
        }
        Within::Slices(slices) => {
            also(query);
            query.push("slice IN ").bind_all(slices.iter().map(|slice| slice.number));
        }
    }
    // The filters before a column find fewer than it does.
    let by_identity = filter.user_id.is_some() || filter.socket_id.is_some();
    let by_address = by_identity || filter.network.is_some();
    if let Some(kind) = filter.event_type {
        also(query);
        column(query, "event_type", "|| ''", by_address).push(" = ").bind(kind.as_str());
    }
    if let Some(severity) = filter.severity {
        also(query);
        column(query, "severity", "+ 0", by_address).push(" = ").bind(severity as i64);
    }
    if let Some(network) = filter.network {
        also(query);
        column(query, "ip", "|| ''", by_identity);
        if network.prefix_len() == network.max_prefix_len() {
            query.push(" = ").bind(address_key(network.addr()));
        } else {
            query.push(" BETWEEN ").bind(address_key(network.network()));
            query.push(" AND ").bind(address_key(network.broadcast()));
        }
    }
    for (column, value) in [("user_id", &filter.user_id), ("socket_id", &filter.socket_id)] {
        if let Some(value) = value {
            also(query);
            query.push(column).push(" = ").bind(value.as_str());
        }
    }
    if let Some(since) = filter.since {
        also(query);
        time(query, within, filter).push(" >= ").bind(stored_time(since));
    }
    // The row of the cursor bounds no index of PostgreSQL's that has the time as an expression. And as in `in_order`: a later bound
    // than the cursor's would be the one that SQLite begins at.
    let end = cursor.map(|cursor| cursor.timestamp.plus(Duration::from_millis(1)));
    if let Some(until) = [filter.until, end].into_iter().flatten().min() {
        also(query);
        time(query, within, filter).push(" < ").bind(stored_time(until));
    }
    if let Some(text) = &filter.text {
        also(query);
        let pattern = like_pattern(text);
        for (place, column) in ["message", "metadata", "reason", "event_name"].into_iter().enumerate() {
            query.push(if place == 0 { "(" } else { " OR " }).push(column).push_like(&pattern);
        }
        query.push(")");
    }
    if let Some(heard) = filter.heard {
        also(query);
        query.push("(writer IS NULL OR writer <> ").bind(heard.writer).push(" OR seq > ").bind(heard.seq).push(")");
    }
    if let Some(cursor) = cursor {
        also(query);
        query.push("(timestamp, id) < (").bind(stored_time(cursor.timestamp)).push(", ").bind(cursor.id.as_str());
        query.push(")");
    }
}

fn column<'a>(query: &'a mut Statement, name: &str, same: &str, is_unindexed: bool) -> &'a mut Statement {
    if is_unindexed { query.push_unindexed(name, same) } else { query.push(name) }
}

/// the time as the index has it that serves the search
fn time<'q>(query: &'q mut Statement, within: Within<'_>, filter: &Filter) -> &'q mut Statement {
    match (within, filter.event_type, filter.severity) {
        (Within::Whole, None, None) => query.push("timestamp"),
        _ => query.push_time_of_index(),
    }
}
