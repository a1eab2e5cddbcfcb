//! Queries about hash chains: writers, checkpoints, and the gaps that retention leaves.

use std::collections::{BTreeMap, HashSet};

use picket_shared::audit::AuditRecord;

use super::super::chain::{self, Hash, Head};
use super::super::database::Session;
use super::super::stored::{COLUMNS, Stored};

/// records that were deleted: from `first` to `last`, and the hash of the last
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) hash: Hash,
}

/// a hash that a chain had at a record
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) seq: u64,
    pub(crate) hash: Hash,
}

/// where a writer's chain ended; `None` if it is not there, or not any more
pub(crate) async fn head(session: &mut Session, name: &str) -> sqlx::Result<Option<Head>> {
    Ok(writers(session).await?.into_iter().find(|head| head.name == name))
}

/// begins a writer's chain
pub(crate) async fn begin(session: &mut Session, name: &str, now: u64) -> sqlx::Result<Head> {
    let query = session.statement("SELECT COALESCE(MAX(number), 0) + 1 FROM audit_writers");
    let number = session.row(query).await?.map_or(Ok(1), |row| row.integer(0))?;
    let head = Head { number, name: name.to_owned(), seq: 0, hash: chain::first(name), checkpoint_at: now };
    let mut query = session.statement("INSERT INTO audit_writers (number, name, began, seq, hash) VALUES (");
    query.bind(number).push(", ").bind(name).push(", ").bind(now).push(", 0, ").bind(head.hash).push(")");
    session.execute(query).await?;
    Ok(head)
}

/// where each chain ends, the oldest first
pub(crate) async fn writers(session: &mut Session) -> sqlx::Result<Vec<Head>> {
    let query = session.statement(
        "SELECT number, name, seq, hash, COALESCE((SELECT MAX(timestamp) FROM audit_checkpoints WHERE writer = number), began)
         FROM audit_writers ORDER BY number",
    );
    let rows = session.rows(query).await?.into_iter();
    rows.map(|mut row| {
        Ok(Head {
            number: row.integer(0)?,
            name: row.text(1)?,
            seq: row.unsigned(2)?,
            hash: row.array(3)?,
            checkpoint_at: row.unsigned(4)?,
        })
    })
    .collect()
}

/// how far each chain goes, by the number of its writer
pub(crate) async fn ends(session: &mut Session) -> sqlx::Result<BTreeMap<i64, u64>> {
    let query = session.statement("SELECT number, seq FROM audit_writers");
    session.rows(query).await?.iter().map(|row| Ok((row.integer(0)?, row.unsigned(1)?))).collect()
}

/// fails where the writer was forgotten meanwhile, because nothing was left of its chain
pub(crate) async fn move_head(session: &mut Session, head: &Head) -> sqlx::Result<()> {
    let mut query = session.statement("UPDATE audit_writers SET seq = ");
    query.bind(head.seq).push(", hash = ").bind(head.hash).push(" WHERE number = ").bind(head.number);
    query.push(" AND name = ").bind(head.name.as_str());
    match session.execute(query).await? {
        0 => Err(sqlx::Error::RowNotFound),
        _ => Ok(()),
    }
}

pub(crate) async fn add_checkpoint(session: &mut Session, head: &Head, now: u64) -> sqlx::Result<()> {
    let mut query = session.statement("INSERT INTO audit_checkpoints (writer, seq, hash, timestamp) VALUES (");
    query.bind(head.number).push(", ").bind(head.seq).push(", ").bind(head.hash).push(", ").bind(now);
    query.push(") ON CONFLICT (writer, seq) DO NOTHING");
    session.execute(query).await.map(drop)
}

pub(crate) async fn checkpoints(session: &mut Session, writer: i64) -> sqlx::Result<Vec<Checkpoint>> {
    let mut query = session.statement("SELECT seq, hash FROM audit_checkpoints WHERE writer = ");
    query.bind(writer);
    let rows = session.rows(query).await?;
    rows.iter().map(|row| Ok(Checkpoint { seq: row.unsigned(0)?, hash: row.array(1)? })).collect()
}

/// the next `limit` records of a chain after `after`
pub(crate) async fn run(session: &mut Session, writer: i64, after: u64, limit: u32) -> sqlx::Result<Vec<Stored>> {
    let mut query = session.statement(format!("SELECT {COLUMNS} FROM audit WHERE writer = "));
    query.bind(writer).push(" AND seq > ").bind(after).push(" ORDER BY seq LIMIT ").bind(limit);
    session.rows(query).await?.into_iter().map(Stored::of).collect()
}

/// the gaps that touch what lies from `first` to `last`
pub(crate) async fn gaps(session: &mut Session, writer: i64, first: u64, last: u64) -> sqlx::Result<Vec<Gap>> {
    let mut query = session.statement("SELECT first, last, hash FROM audit_gaps WHERE writer = ");
    query.bind(writer).push(" AND last >= ").bind(first).push(" AND first <= ").bind(last).push(" ORDER BY first");
    let rows = session.rows(query).await?;
    rows.iter().map(|row| Ok(Gap { first: row.unsigned(0)?, last: row.unsigned(1)?, hash: row.array(2)? })).collect()
}

/// puts gaps in the place of those that were in their range
pub(crate) async fn replace_gaps(session: &mut Session, writer: i64, gaps: &[Gap]) -> sqlx::Result<()> {
    const ROWS: usize = 100;
    let (Some(first), Some(last)) = (gaps.first(), gaps.last()) else {
        return Ok(());
    };
    let mut query = session.statement("DELETE FROM audit_gaps WHERE writer = ");
    query.bind(writer).push(" AND first >= ").bind(first.first).push(" AND first <= ").bind(last.last);
    session.execute(query).await?;
    for rows in gaps.chunks(ROWS) {
        let mut query = session.statement("INSERT INTO audit_gaps (writer, first, last, hash) VALUES ");
        for (place, gap) in rows.iter().enumerate() {
            query.push(if place == 0 { "(" } else { ", (" }).bind(writer).push(", ").bind(gap.first).push(", ");
            query.bind(gap.last).push(", ").bind(gap.hash).push(")");
        }
        session.execute(query).await?;
    }
    Ok(())
}

/// which of the records are stored already
pub(crate) async fn known(session: &mut Session, records: &[&AuditRecord]) -> sqlx::Result<HashSet<String>> {
    const IDS: usize = 500;
    let mut known = HashSet::new();
    for chunk in records.chunks(IDS) {
        let mut query = session.statement("SELECT id FROM audit WHERE id IN ");
        query.bind_all(chunk.iter().map(|record| record.id.as_str()));
        for mut row in session.rows(query).await? {
            known.insert(row.text(0)?);
        }
    }
    Ok(known)
}

/// how many records no chain holds, and how many may be so
pub(crate) async fn unchained(session: &mut Session) -> sqlx::Result<(u64, u64)> {
    let query = session.statement(
        "SELECT (SELECT COUNT(*) FROM audit WHERE writer IS NULL OR writer NOT IN (SELECT number FROM audit_writers)),
         unchained FROM audit_facts",
    );
    session.row(query).await?.map_or(Ok((0, 0)), |row| Ok((row.unsigned(0)?, row.unsigned(1)?)))
}

/// forgets chains of which nothing is left, begun before; answers how many
pub(crate) async fn forget(session: &mut Session, before: u64) -> sqlx::Result<u64> {
    const GONE: &str = "(SELECT number FROM audit_writers WHERE seq > 0 AND EXISTS (SELECT 1 FROM audit_gaps WHERE writer = number \
                        AND first = 1 AND last = seq) AND began < ";
    let mut forgotten = 0;
    for (table, column) in [("audit_checkpoints", "writer"), ("audit_writers", "number")] {
        let mut query = session.statement(format!("DELETE FROM {table} WHERE {column} IN {GONE}"));
        query.bind(before).push(")");
        forgotten = session.execute(query).await?;
    }
    let query = session.statement("DELETE FROM audit_gaps WHERE writer NOT IN (SELECT number FROM audit_writers)");
    session.execute(query).await?;
    Ok(forgotten)
}
