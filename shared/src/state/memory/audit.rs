//! The audit stream as a bounded queue between the node and the coordinator of one process.

use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;
use tokio::sync::Notify;

use super::Memory;
use crate::audit::AuditRecord;
use crate::state::{AuditLog, EntryId, StateError};

/// records that are held for the reader; when full the writer's outbox waits, and drops what it cannot hold
const RECORDS_MAX: usize = 65_536;

#[derive(Default)]
pub(super) struct Stream {
    records: Mutex<Records>,
    arrived: Notify,
}

#[derive(Default)]
struct Records {
    last: u64,
    held: VecDeque<(EntryId, AuditRecord)>,
}

impl Stream {
    fn peek(&self, last: EntryId, max: usize) -> Vec<(EntryId, AuditRecord)> {
        self.records.lock().held.iter().filter(|(id, _)| *id > last).take(max).cloned().collect()
    }
}

#[async_trait]
impl AuditLog for Memory {
    async fn append(&self, records: &[AuditRecord]) -> Result<(), StateError> {
        let mut stream = self.audit.records.lock();
        if stream.held.len() + records.len() > RECORDS_MAX {
            return Err(StateError(format!("the audit stream holds {} records and is full", stream.held.len())));
        }
        for record in records {
            stream.last += 1;
            let id = EntryId { millis: 0, sequence: stream.last };
            stream.held.push_back((id, record.clone()));
        }
        self.audit.arrived.notify_one();
        Ok(())
    }

    async fn read(&self, max: usize, wait: Duration) -> Result<Vec<(EntryId, AuditRecord)>, StateError> {
        let found = self.audit.peek(EntryId::START, max);
        if !found.is_empty() || tokio::time::timeout(wait, self.audit.arrived.notified()).await.is_err() {
            return Ok(found);
        }
        Ok(self.audit.peek(EntryId::START, max))
    }

    async fn read_on(&self, last: EntryId, max: usize) -> Result<Vec<(EntryId, AuditRecord)>, StateError> {
        Ok(self.audit.peek(last, max))
    }

    async fn acknowledge(&self, stored: &[EntryId]) -> Result<(), StateError> {
        let stored: HashSet<_> = stored.iter().collect();
        self.audit.records.lock().held.retain(|(id, _)| !stored.contains(id));
        Ok(())
    }

    async fn lag(&self) -> Result<u64, StateError> {
        Ok(self.audit.records.lock().held.len() as u64)
    }

    /// what was never encoded can be read
    async fn dead_letters(&self) -> Result<u64, StateError> {
        Ok(0)
    }
}
