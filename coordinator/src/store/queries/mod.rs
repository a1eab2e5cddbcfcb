//! Every query of the audit store that both databases answer. Nothing outside this folder, the databases' own and their migrations is SQL.

pub(super) mod chains;
pub(super) mod counts;
pub(super) mod removal;
pub(super) mod search;
pub(super) mod slices;

use super::database::Session;

pub(super) async fn ping(session: &mut Session) -> sqlx::Result<()> {
    let query = session.statement("SELECT 1 FROM audit_slices LIMIT 0");
    session.rows(query).await.map(drop)
}
