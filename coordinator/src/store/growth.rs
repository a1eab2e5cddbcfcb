//! What is new in the trail since somebody looked, in the order in which it was stored: each chain is followed by its numbers, which
//! come in the order of its commits, whatever the times of the records are.

use std::collections::BTreeMap;

use picket_shared::audit::AuditRecord;

use super::queries::{chains, search};
use super::{AuditStore, StoreError};

/// a record's place in the trail: its chain, and its number there
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub(super) writer: i64,
    pub(super) seq: u64,
}

/// how far each chain goes, or was read
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends(BTreeMap<i64, u64>);

impl Ends {
    /// up to where a chain was read; one that ends before is not the one that was read
    fn of(&self, writer: i64, end: u64) -> u64 {
        self.0.get(&writer).copied().filter(|read| *read <= end).unwrap_or(0)
    }

    /// how many records came after these that are at `ends`
    pub(crate) fn until(&self, ends: &Ends) -> u64 {
        ends.0.iter().map(|(writer, end)| end - self.of(*writer, *end)).sum()
    }
}

impl AuditStore {
    /// where the trail ends
    pub(crate) async fn ends(&self) -> Result<Ends, StoreError> {
        let mut session = self.database.read().await?;
        Ok(Ends(chains::ends(&mut session).await?))
    }

    /// Up to `limit` records that were stored after `read`, which moves on. A record that this version cannot read is left out.
    pub(crate) async fn grown(&self, read: &mut Ends, ends: &Ends, limit: u32) -> Result<Vec<AuditRecord>, StoreError> {
        let mut session = self.database.read().await?;
        let mut records = Vec::new();
        // A chain that was forgotten is not read on.
        read.0.retain(|writer, _| ends.0.contains_key(writer));
        for (writer, end) in &ends.0 {
            let (from, left) =
                (read.of(*writer, *end), limit.saturating_sub(records.len().try_into().unwrap_or(limit)));
            if from == *end || left == 0 {
                continue;
            }
            let run = chains::run(&mut session, *writer, from, left).await?;
            // Fewer than asked for: retention has deleted what else there was up to the end.
            let is_all = run.len() < left as usize;
            let last = run.last().and_then(|stored| stored.link.as_ref()).map_or(from, |link| link.seq);
            read.0.insert(*writer, if is_all { last.max(*end) } else { last });
            for stored in run {
                match stored.into_record() {
                    Ok(record) => records.push(record),
                    Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "a record cannot be read"),
                }
            }
        }
        Ok(records)
    }

    /// where a record lies; `None` if it is not there, or in no chain
    pub(crate) async fn position(&self, id: &str) -> Result<Option<Position>, StoreError> {
        let mut session = self.database.read().await?;
        Ok(search::position(&mut session, id).await?)
    }
}
