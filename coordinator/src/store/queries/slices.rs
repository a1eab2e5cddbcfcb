//! Queries about slices: runs of records as they came, each counted.

use picket_shared::clock::Timestamp;

use super::super::database::Session;
use super::super::stored_time;

/// what the trail holds
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// the number of the slice that is being filled, or of the next when that one has `records_max`
pub(crate) async fn open(session: &mut Session, records_max: u64) -> sqlx::Result<i64> {
    let query = session.statement("SELECT slice, records FROM audit_slices ORDER BY slice DESC LIMIT 1");
    let Some(last) = session.row(query).await? else {
        return Ok(0);
    };
    Ok(last.integer(0)? + i64::from(last.unsigned(1)? >= records_max))
}

/// new records are in a slice, and none is older or newer than said
pub(crate) async fn fill(
    session: &mut Session,
    slice: i64,
    added: Size,
    (oldest, newest): (Timestamp, Timestamp),
) -> sqlx::Result<()> {
    let mut query = session.statement("INSERT INTO audit_slices (slice, records, oldest, newest, bytes) VALUES (");
    query.bind(slice).push(", ").bind(added.records).push(", ").bind(stored_time(oldest)).push(", ");
    query.bind(stored_time(newest)).push(", ").bind(added.bytes).push(
        ") ON CONFLICT (slice) DO UPDATE SET records = audit_slices.records + excluded.records,
         bytes = audit_slices.bytes + excluded.bytes,
         oldest = CASE WHEN excluded.oldest < audit_slices.oldest THEN excluded.oldest ELSE audit_slices.oldest END,
         newest = CASE WHEN excluded.newest > audit_slices.newest THEN excluded.newest ELSE audit_slices.newest END",
    );
    session.execute(query).await.map(drop)
}

/// takes records and bytes out of a slice; the last record takes the slice along
pub(crate) async fn drain(session: &mut Session, slice: i64, removed: Size) -> sqlx::Result<()> {
    let mut query = session.statement("UPDATE audit_slices SET records = records - ");
    query.bind(removed.records).push(", bytes = bytes - ").bind(removed.bytes).push(" WHERE slice = ").bind(slice);
    session.execute(query).await?;
    let mut query = session.statement("DELETE FROM audit_slices WHERE records <= 0 AND slice = ");
    query.bind(slice);
    session.execute(query).await.map(drop)
}

pub(crate) async fn size(session: &mut Session) -> sqlx::Result<Size> {
    let query = session.statement(
        "SELECT CAST(COALESCE(SUM(records), 0) AS BIGINT), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM audit_slices",
    );
    let row = session.row(query).await?;
    row.map_or(Ok(Size::default()), |row| Ok(Size { records: row.unsigned(0)?, bytes: row.unsigned(1)? }))
}
