//! Counts over a time, as dashboard and report show them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use picket_shared::audit::{EventType, Severity};
use picket_shared::clock::Timestamp;

use super::queries::counts;
use super::{AuditStore, StoreError};

const MINUTE_MS: u64 = 60_000;

/// from `since` until before `until`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub since: Timestamp,
    pub until: Timestamp,
}

impl Span {
    /// the minutes that it touches: counts are kept by the minute
    fn whole_minutes(self) -> Self {
        let last = Timestamp::from_millis(self.until.as_millis().saturating_add(MINUTE_MS - 1));
        Span { since: minute(self.since), until: minute(last) }
    }
}

/// the beginning of a moment's minute
pub(super) fn minute(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.as_millis() / MINUTE_MS * MINUTE_MS)
}

/// counts over a time
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    pub total: u64,
    pub by_type: Vec<(EventType, u64)>,
    pub by_severity: Vec<(Severity, u64)>,
    pub by_reason: Vec<(String, u64)>,
    pub top_addresses: Vec<(IpAddr, u64)>,
    pub buckets: Vec<Bucket>,
}

/// the counts of one stretch of a time series
#[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct Bucket {
    pub at: Timestamp,
    pub total: u64,
    pub counts: BTreeMap<EventType, u64>,
}

impl AuditStore {
    /// everything a dashboard or report says about a span
    pub async fn summary(&self, span: Span, bucket: Duration, top: u32) -> Result<Summary, StoreError> {
        let mut session = self.database.read().await?;
        let span = span.whole_minutes();
        let bucket_ms = u64::try_from(bucket.as_millis()).unwrap_or(u64::MAX);
        let by_type = counts::by_type(&mut session, span).await?;
        Ok(Summary {
            total: by_type.iter().map(|(_, count)| count).sum(),
            by_type,
            by_severity: counts::by_severity(&mut session, span).await?,
            by_reason: counts::by_reason(&mut session, span).await?,
            top_addresses: counts::busiest_addresses(&mut session, span, top).await?,
            buckets: buckets(counts::series(&mut session, span, bucket_ms).await?),
        })
    }
}

fn buckets(counts: Vec<(Timestamp, EventType, u64)>) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    for (at, kind, count) in counts {
        if buckets.last().is_none_or(|bucket| bucket.at != at) {
            buckets.push(Bucket { at, total: 0, counts: BTreeMap::new() });
        }
        if let Some(bucket) = buckets.last_mut() {
            bucket.total += count;
            bucket.counts.insert(kind, count);
        }
    }
    buckets
}
