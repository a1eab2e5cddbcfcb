//! Queries that delete and erase.

use picket_shared::audit::{EventType, Severity};
use picket_shared::clock::Timestamp;

use super::super::chain::{Hash, Salt};
use super::super::database::Session;
use super::super::people;
use super::super::stored::{COLUMNS, ERASED, Stored};
use super::super::stored_time;

/// a record that goes
pub(crate) struct Victim {
    pub(crate) id: String,
    pub(crate) slice: i64,
    pub(crate) bytes: u64,
    /// writer, number in its chain, and hash
    pub(crate) link: Option<(i64, u64, Hash)>,
}

/// up to `limit` of the oldest records; of one severity and before a time, if said
pub(crate) async fn oldest(
    session: &mut Session,
    aged: Option<(Severity, Timestamp)>,
    limit: u32,
) -> sqlx::Result<Vec<Victim>> {
    let mut query = session.statement("SELECT id, slice, bytes, writer, seq, hash FROM audit");
    if let Some((severity, before)) = aged {
        query.push(" WHERE severity = ").bind(severity as i64).push(" AND ").push_time_of_index();
        query.push(" < ").bind(stored_time(before)).push(" ORDER BY ").push_time_of_index();
    } else {
        query.push(" ORDER BY timestamp");
    }
    query.push(" LIMIT ").bind(limit);
    let rows = session.rows(query).await?.into_iter();
    rows.map(|mut row| {
        let link = match row.maybe_integer(3)? {
            None => None,
            Some(writer) => Some((writer, row.unsigned(4)?, row.array(5)?)),
        };
        Ok(Victim { id: row.text(0)?, slice: row.integer(1)?, bytes: row.unsigned(2)?, link })
    })
    .collect()
}

pub(crate) async fn delete(session: &mut Session, victims: &[Victim]) -> sqlx::Result<()> {
    const IDS: usize = 500;
    for chunk in victims.chunks(IDS) {
        let mut query = session.statement("DELETE FROM audit WHERE id IN ");
        query.bind_all(chunk.iter().map(|victim| victim.id.as_str()));
        session.execute(query).await?;
    }
    Ok(())
}

/// up to `limit` of administration's own records after a time and id that may name a user, the oldest first
pub(crate) async fn administration_naming(
    session: &mut Session,
    user_id: &str,
    (timestamp, id): (u64, &str),
    limit: u32,
) -> sqlx::Result<Vec<Stored>> {
    let quoted = serde_json::to_string(user_id).unwrap_or_default();
    let mut query = session.statement(format!("SELECT {COLUMNS} FROM audit WHERE event_type IN "));
    query.bind_all(people::kinds().map(EventType::as_str));
    query.push(" AND ").push_contains("metadata", &quoted);
    query.push(" AND (timestamp, id) > (").bind(timestamp).push(", ").bind(id);
    query.push(") ORDER BY timestamp, id LIMIT ").bind(limit);
    session.rows(query).await?.into_iter().map(Stored::of).collect()
}

/// takes from a record what it says of a person, its salt too; the commitment stays
pub(crate) async fn erase(session: &mut Session, id: &str, commitment: Option<Hash>) -> sqlx::Result<()> {
    let mut query = session.statement("UPDATE audit SET ip = ");
    query.bind(Vec::<u8>::new()).push(", message = ").bind(ERASED);
    query.push(", socket_id = NULL, user_id = NULL, metadata = '{}', salt = NULL");
    if let Some(commitment) = commitment {
        query.push(", commitment = ").bind(commitment);
    }
    query.push(" WHERE id = ").bind(id);
    session.execute(query).await.map(drop)
}

/// puts other metadata in the place of a record's own; `link` is the salt of what it says from now on, and the commitment to what it
/// said when it was written
pub(crate) async fn restate(
    session: &mut Session,
    id: &str,
    metadata: &str,
    link: Option<(Salt, Hash)>,
) -> sqlx::Result<()> {
    let mut query = session.statement("UPDATE audit SET metadata = ");
    query.bind(metadata);
    if let Some((salt, commitment)) = link {
        query.push(", salt = ").bind(salt).push(", commitment = ").bind(commitment);
    }
    query.push(" WHERE id = ").bind(id);
    session.execute(query).await.map(drop)
}

/// the key under which erased people are told apart
pub(crate) async fn subject_key(session: &mut Session) -> sqlx::Result<Hash> {
    let query = session.statement("SELECT subject_key FROM audit_facts");
    session.row(query).await?.ok_or(sqlx::Error::RowNotFound)?.array(0)
}
