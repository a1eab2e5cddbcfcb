//! The audit stream: one group of readers, acknowledged after the commit, trimmed below what every group has acknowledged.

use async_trait::async_trait;
use fred::types::Value;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

use super::link::Lane;
use super::reply::{Reply, integer, unexpected};
use super::scripts::Script;
use super::{Redis, millis, number, wire};
use crate::audit::{AuditRecord, Severity};
use crate::state::{AuditLog, EntryId, StateError};

const GROUP: &str = "coordinators";
/// entries that the stream holds; when full the writer's outbox waits, and drops and counts what it cannot hold
pub(super) const ENTRIES_MAX: u64 = 1_000_000;
/// how long a reader may leave entries unacknowledged before another takes them
const TAKEN_OVER_AFTER: Duration = Duration::from_secs(10);
/// how often an entry that cannot be read is delivered before it is put aside
const DELIVERIES_MAX: u64 = 3;
const DEAD_LETTERS_MAX: u64 = 10_000;
/// a reader without entries that was not heard of for so long is forgotten
const READER_FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);
/// how late a reader is that stood still
const STOOD_STILL_AFTER: Duration = Duration::from_secs(1);
/// how often a reader looks for new entries while it waits
const LOOK_PERIOD: Duration = Duration::from_millis(50);

#[async_trait]
impl AuditLog for Redis {
    async fn append(&self, records: &[AuditRecord]) -> Result<(), StateError> {
        let mut arguments = vec![number(ENTRIES_MAX)];
        for record in records {
            arguments.push(Value::Bytes(wire::encode(record)?.into()));
        }
        // Who appends needs no permission on the dead letters.
        let [stream, _] = self.keys.audit();
        let append = &self.scripts.audit_append;
        let held = integer(&self.link.call(Lane::Durable, append, vec![stream.clone()], arguments).await?)?;
        if held < 0 {
            return Err(StateError(format!("the audit stream holds {} records and is full", held.unsigned_abs())));
        }
        if records.iter().any(|record| record.severity == Severity::Critical) {
            // It narrows what a failover loses, and promises nothing.
            let reached = self.reaches_a_replica(&stream).await;
            tracing::debug!(reached, "critical records on a replica");
        }
        Ok(())
    }

    async fn read(&self, max: usize, wait: Duration) -> Result<Vec<(EntryId, AuditRecord)>, StateError> {
        let deadline = Instant::now() + wait;
        loop {
            let records = self.look(EntryId::START, max).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            if !records.is_empty() || left.is_zero() {
                return Ok(records);
            }
            tokio::time::sleep(LOOK_PERIOD.min(left)).await;
            // What a process took that stood still would wait until it is taken over: another one may read by now.
            if deadline.elapsed() > STOOD_STILL_AFTER {
                return Ok(Vec::new());
            }
        }
    }

    async fn read_on(&self, last: EntryId, max: usize) -> Result<Vec<(EntryId, AuditRecord)>, StateError> {
        self.look(last, max).await
    }

    async fn acknowledge(&self, stored: &[EntryId]) -> Result<(), StateError> {
        let mut arguments = vec![GROUP.into()];
        arguments.extend(stored.iter().map(|id| id.to_string().into()));
        self.call_audit(&self.scripts.audit_acknowledge, arguments).await?;
        Ok(())
    }

    async fn lag(&self) -> Result<u64, StateError> {
        let lag = self.call_audit(&self.scripts.audit_lag, vec![GROUP.into()]).await?;
        Ok(integer(&lag)?.unsigned_abs())
    }

    async fn dead_letters(&self) -> Result<u64, StateError> {
        let number = self.call_audit(&self.scripts.audit_dead, vec![]).await?;
        Ok(integer(&number)?.unsigned_abs())
    }
}

impl Redis {
    async fn call_audit(&self, script: &Script, arguments: Vec<Value>) -> Result<Value, StateError> {
        self.link.call(Lane::Upkeep, script, self.keys.audit().into(), arguments).await
    }

    /// reads once; what is no record is put aside when it came too often
    async fn look(&self, last: EntryId, max: usize) -> Result<Vec<(EntryId, AuditRecord)>, StateError> {
        let forget = match self.readers_tidied.swap(true, Ordering::Relaxed) {
            false => millis(READER_FORGOTTEN_AFTER),
            true => Value::from_static_str(""),
        };
        let arguments = vec![
            GROUP.into(),
            self.id.as_str().into(),
            number(max as u64),
            millis(TAKEN_OVER_AFTER),
            forget,
            last.to_string().into(),
        ];
        let mut reply = Reply::from(self.call_audit(&self.scripts.audit_read, arguments).await?);
        let (mut records, mut poison) = (Vec::new(), Vec::new());
        while !reply.is_empty() {
            let id = reply.text()?;
            match reply.bytes()?.and_then(|bytes| wire::decode(&bytes)) {
                Some(record) => records.push((entry_id(&id)?, record)),
                None => poison.push(id),
            }
        }
        if !poison.is_empty() {
            self.bury(poison).await?;
        }
        Ok(records)
    }

    async fn bury(&self, poison: Vec<String>) -> Result<(), StateError> {
        let mut arguments = vec![GROUP.into(), number(DELIVERIES_MAX), number(DEAD_LETTERS_MAX)];
        arguments.extend(poison.into_iter().map(Value::from));
        let buried = integer(&self.call_audit(&self.scripts.audit_bury, arguments).await?)?;
        (0..buried).for_each(|_| self.skip_corrupt("audit record"));
        Ok(())
    }
}

fn entry_id(text: &str) -> Result<EntryId, StateError> {
    let (millis, sequence) = text.split_once('-').ok_or_else(unexpected)?;
    let number = |text: &str| text.parse().map_err(|_| unexpected());
    Ok(EntryId { millis: number(millis)?, sequence: number(sequence)? })
}
