//! The way of a record out of the data path: a bounded queue that never makes its caller wait.
//!
//! When it is full the lowest severity goes first, and what was dropped is counted exactly and recorded itself.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

use super::sampling::Sampler;
use super::{AuditRecord, EventType, Severity};
use crate::clock::{Clock, Timestamp};
use crate::state::AuditLog;

/// how many records may wait for the audit log; 64 s at 1,000 records a second
pub const OUTBOX_RECORDS_MAX: usize = 65_536;
/// how many records go to the audit log in one step
const BATCH_RECORDS_MAX: usize = 512;
/// how long a record waits for others, so that they share the way
const GATHER: Duration = Duration::from_millis(10);
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// how long the queue may be silent until it is looked whether samples are due
const SAMPLES_EVERY: Duration = Duration::from_secs(1);

/// a bounded queue of audit records, one per process, in front of the audit log
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

struct Shared {
    queues: Mutex<Queues>,
    wake: Notify,
    capacity: usize,
    /// an outage of the audit log was said already
    waiting: AtomicBool,
}

#[derive(Default)]
struct Queues {
    /// one queue per severity, lowest first
    by_severity: [VecDeque<AuditRecord>; Severity::ALL.len()],
    /// since the last notice
    dropped: u64,
    dropped_total: u64,
    /// says how many were dropped, until the log has it: one at a time and beside the queues, so that it displaces nothing, is
    /// never dropped, and tells the log the same however often it is sent
    notice: Option<AuditRecord>,
    sampler: Sampler,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::with_capacity(OUTBOX_RECORDS_MAX)
    }
}

impl Outbox {
    pub fn with_capacity(capacity: usize) -> Self {
        Outbox {
            shared: Arc::new(Shared {
                queues: Mutex::default(),
                wake: Notify::new(),
                capacity,
                waiting: AtomicBool::new(false),
            }),
        }
    }

    /// takes a record and returns at once
    pub fn record(&self, record: AuditRecord) {
        let mut queues = self.shared.queues.lock();
        let mut sampler = std::mem::take(&mut queues.sampler);
        sampler.take(record, |record| queues.push(record, self.shared.capacity));
        queues.sampler = sampler;
        drop(queues);
        self.shared.wake.notify_one();
    }

    /// how many records were dropped since the start
    pub fn dropped_total(&self) -> u64 {
        self.shared.queues.lock().dropped_total
    }

    /// moves records to the audit log until `stop` resolves, then flushes what is left
    pub async fn deliver(self, log: Arc<dyn AuditLog>, clock: Arc<dyn Clock>, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            let gathered = async {
                self.shared.wake.notified().await;
                tokio::time::sleep(GATHER).await;
            };
            let stopping = tokio::select! {
                () = gathered => false,
                () = tokio::time::sleep(SAMPLES_EVERY) => false,
                () = &mut stop => true,
            };
            self.release_samples((!stopping).then(|| clock.now()));
            self.flush(&*log, &*clock).await;
            if stopping {
                return;
            }
        }
    }

    /// queues what stands for windows of the sampler that are over by then, or for all
    fn release_samples(&self, now: Option<Timestamp>) {
        let mut queues = self.shared.queues.lock();
        let mut sampler = std::mem::take(&mut queues.sampler);
        let push = |record| queues.push(record, self.shared.capacity);
        match now {
            Some(now) => sampler.end(now, push),
            None => sampler.end_all(push),
        }
        queues.sampler = sampler;
    }

    /// appends until the queue is empty or the log fails; then the records wait for the next try
    async fn flush(&self, log: &dyn AuditLog, clock: &dyn Clock) {
        loop {
            let batch = self.next_batch(clock);
            if batch.is_empty() {
                return;
            }
            if let Err(error) = log.append(&batch).await {
                if !self.shared.waiting.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "audit log not reachable, records wait");
                }
                self.put_back(batch);
                tokio::time::sleep(RETRY_DELAY).await;
                self.shared.wake.notify_one();
                return;
            }
            self.confirm(&batch);
            if self.shared.waiting.swap(false, Ordering::Relaxed) {
                tracing::info!("audit log reachable again");
            }
        }
    }

    fn next_batch(&self, clock: &dyn Clock) -> Vec<AuditRecord> {
        let mut queues = self.shared.queues.lock();
        let mut batch = Vec::new();
        for queue in queues.by_severity.iter_mut().rev() {
            let take = queue.len().min(BATCH_RECORDS_MAX - batch.len());
            batch.extend(queue.drain(..take));
        }
        if queues.notice.is_none() && queues.dropped > 0 {
            let dropped = std::mem::take(&mut queues.dropped);
            queues.notice = Some(drop_notice(dropped, clock));
        }
        batch.extend(queues.notice.clone());
        batch
    }

    /// the log has these
    fn confirm(&self, batch: &[AuditRecord]) {
        let mut queues = self.shared.queues.lock();
        queues.notice = queues.notice.take().filter(|notice| batch.iter().all(|record| record.id != notice.id));
    }

    fn put_back(&self, batch: Vec<AuditRecord>) {
        let mut queues = self.shared.queues.lock();
        let notice = queues.notice.as_ref().map(|notice| notice.id.clone());
        for record in batch.into_iter().filter(|record| Some(&record.id) != notice.as_ref()) {
            queues.push(record, self.shared.capacity);
        }
    }
}

fn drop_notice(dropped: u64, clock: &dyn Clock) -> AuditRecord {
    let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let message = format!("{dropped} audit records were dropped");
    AuditRecord::new(EventType::AuditDropped, Severity::Critical, nobody, message, clock.now()).with("dropped", dropped)
}

impl Queues {
    fn push(&mut self, record: AuditRecord, capacity: usize) {
        let severity = record.severity as usize;
        if self.by_severity.iter().map(VecDeque::len).sum::<usize>() >= capacity && !self.make_room(severity) {
            self.count_drop(&record);
            return;
        }
        self.by_severity[severity].push_back(record);
    }

    /// drops the oldest record of the lowest severity that is not above `severity`
    fn make_room(&mut self, severity: usize) -> bool {
        let Some(lowest) = self.by_severity[..=severity].iter_mut().find(|queue| !queue.is_empty()) else {
            return false;
        };
        let Some(oldest) = lowest.pop_front() else {
            return false;
        };
        self.count_drop(&oldest);
        true
    }

    fn count_drop(&mut self, record: &AuditRecord) {
        self.dropped += record.weight();
        self.dropped_total += record.weight();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn record(severity: Severity) -> AuditRecord {
        AuditRecord::new(
            EventType::ValidationError,
            severity,
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            "x",
            Timestamp::from_millis(1),
        )
    }

    #[test]
    fn x22_on_overflow_the_lowest_severity_goes_first_and_the_count_is_exact() {
        let outbox = Outbox::with_capacity(3);
        for severity in
            [Severity::Low, Severity::Critical, Severity::Low, Severity::High, Severity::High, Severity::Low]
        {
            outbox.record(record(severity));
        }
        let batch = outbox.next_batch(&ManualClock::at(Timestamp::from_millis(5)));
        let kept: Vec<_> = batch.iter().map(|r| (r.event_type, r.severity)).collect();
        assert_eq!(
            kept,
            [
                (EventType::ValidationError, Severity::Critical),
                (EventType::ValidationError, Severity::High),
                (EventType::ValidationError, Severity::High),
                (EventType::AuditDropped, Severity::Critical),
            ]
        );
        assert_eq!(batch[3].metadata["dropped"], 3);
    }

    #[test]
    fn x22_notices_neither_displace_records_nor_multiply_while_the_log_is_away() {
        let (outbox, clock) = (Outbox::with_capacity(2), ManualClock::at(Timestamp::from_millis(5)));
        let overflows = || (0..5).for_each(|_| outbox.record(record(Severity::Critical)));
        overflows();
        for _ in 0..10 {
            let batch = outbox.next_batch(&clock);
            assert_eq!(batch.len(), 3, "the queue and one notice");
            outbox.put_back(batch);
        }
        assert_eq!(outbox.dropped_total(), 3);

        let (mut kept, mut told) = (0, 0);
        overflows();
        loop {
            let batch = outbox.next_batch(&clock);
            if batch.is_empty() {
                break;
            }
            outbox.confirm(&batch);
            let (notices, records): (Vec<_>, Vec<_>) =
                batch.iter().partition(|record| record.event_type == EventType::AuditDropped);
            kept += records.len() as u64;
            told += notices.iter().filter_map(|notice| notice.metadata.get("dropped")?.as_u64()).sum::<u64>();
        }
        println!("x22: 10 recorded, {kept} kept, {told} told as dropped");
        assert_eq!((kept + told, outbox.dropped_total()), (10, told));
    }
}
