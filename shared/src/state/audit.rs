//! The audit stream between nodes and coordinators: at least once, in order of arrival.

use async_trait::async_trait;
use std::time::Duration;

use super::StateError;
use crate::audit::AuditRecord;

#[async_trait]
pub trait AuditLog: Send + Sync {
    /// adds all records or none; when it returns they are held until a reader acknowledges them
    async fn append(&self, records: &[AuditRecord]) -> Result<(), StateError>;

    /// up to `max` records that nobody acknowledged, waiting at most `wait` for the first. Reading again without
    /// acknowledging gives them again; what another reader was given and leaves unacknowledged too long comes here
    async fn read(&self, max: usize, wait: Duration) -> Result<Vec<(EntryId, AuditRecord)>, StateError>;

    /// up to `max` of the records after `last` that nobody acknowledged, without waiting: a reader goes on while it stores what it
    /// was given. What another reader left may come too, and lies before
    async fn read_on(&self, last: EntryId, max: usize) -> Result<Vec<(EntryId, AuditRecord)>, StateError>;

    /// these entries are stored and need not be held
    async fn acknowledge(&self, stored: &[EntryId]) -> Result<(), StateError>;

    /// how many records are held and not acknowledged
    async fn lag(&self) -> Result<u64, StateError>;

    /// how many entries could not be read as records and were put aside
    async fn dead_letters(&self) -> Result<u64, StateError>;
}

/// the place of a record in the audit stream: a time in ms, and a number within it
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    pub millis: u64,
    pub sequence: u64,
}

impl EntryId {
    /// before every entry
    pub const START: EntryId = EntryId { millis: 0, sequence: 0 };
}

impl std::fmt::Display for EntryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}
