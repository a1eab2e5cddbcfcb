//! Counts over a time, as dashboard and report show them, with a series that has no gaps.

use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::Mutex;

use super::Api;
use crate::store::{Bucket, Span, StoreError, Summary};

/// addresses in the list of those with the most records
const TOP_MAX: u32 = 10;
/// the most points of a series
const POINTS_MAX: u64 = 120;
/// lengths of a point that people can read
const STEPS_MS: [u64; 8] = [60_000, 300_000, 900_000, 3_600_000, 7_200_000, 21_600_000, 86_400_000, 604_800_000];
/// how old the last answer may be: open dashboards ask often, and the busiest addresses are counted record by record
const FRESH: Duration = Duration::from_secs(3);

#[derive(Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Analytics {
    pub(super) total: u64,
    pub(super) event_counts: BTreeMap<&'static str, u64>,
    pub(super) severity_counts: BTreeMap<&'static str, u64>,
    /// of refusals
    pub(super) reason_counts: BTreeMap<String, u64>,
    /// of what was noticed and passed
    pub(super) noticed_counts: BTreeMap<String, u64>,
    #[serde(rename = "topIPs")]
    pub(super) top_ips: Vec<TopAddress>,
    pub(super) series: Series,
}

#[derive(Clone, Serialize, JsonSchema)]
pub(super) struct TopAddress {
    pub(super) ip: IpAddr,
    pub(super) count: u64,
}

#[derive(Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Series {
    pub(super) bucket_ms: u64,
    pub(super) points: Vec<Bucket>,
}

/// the last answer for the last day; who finds it too old holds up the others until there is a new one
#[derive(Default)]
pub(crate) struct Cache(Mutex<Option<(Timestamp, Analytics)>>);

/// the last 24 hours, at most a few seconds old
pub(super) async fn last_day(api: &Api, now: Timestamp) -> Result<Analytics, StoreError> {
    let mut last = api.analytics.0.lock().await;
    if let Some((_, analytics)) = last.as_ref().filter(|(at, _)| now.since(*at) < FRESH) {
        return Ok(analytics.clone());
    }
    let span = Span { since: now.minus(Duration::from_secs(86_400)), until: now.plus(Duration::from_secs(1)) };
    let analytics = over(api, span).await?;
    *last = Some((now, analytics.clone()));
    Ok(analytics)
}

/// counted by whole minutes
pub(super) async fn over(api: &Api, span: Span) -> Result<Analytics, StoreError> {
    let bucket = bucket(span.until.since(span.since));
    let Summary { total, by_type, by_severity, by_reason, top_addresses, buckets } =
        api.store.summary(span, bucket, TOP_MAX).await?;
    let (noticed_counts, reason_counts) = by_reason.into_iter().partition(|(reason, _)| is_only_noticed(reason));
    Ok(Analytics {
        total,
        event_counts: by_type.into_iter().map(|(kind, count)| (kind.as_str(), count)).collect(),
        severity_counts: by_severity.into_iter().map(|(severity, count)| (severity.as_str(), count)).collect(),
        reason_counts,
        noticed_counts,
        top_ips: top_addresses.into_iter().map(|(ip, count)| TopAddress { ip, count }).collect(),
        series: Series { bucket_ms: millis(bucket), points: without_gaps(buckets, span, millis(bucket)) },
    })
}

fn is_only_noticed(reason: &str) -> bool {
    Reason::from_token(reason).is_some_and(Reason::is_only_noticed)
}

/// the length of a point, so that a series has enough of them and not too many
fn bucket(span: Duration) -> Duration {
    let step = STEPS_MS.into_iter().find(|step| millis(span) / step < POINTS_MAX);
    Duration::from_millis(step.unwrap_or_else(|| millis(span).div_ceil(POINTS_MAX)))
}

fn without_gaps(buckets: Vec<Bucket>, span: Span, bucket_ms: u64) -> Vec<Bucket> {
    let mut known: BTreeMap<_, _> = buckets.into_iter().map(|bucket| (bucket.at, bucket)).collect();
    let first = span.since.as_millis() / bucket_ms;
    let last = span.until.as_millis().saturating_sub(1) / bucket_ms;
    let times = (first..=last).map(|number| Timestamp::from_millis(number * bucket_ms));
    times.map(|at| known.remove(&at).unwrap_or(Bucket { at, total: 0, counts: BTreeMap::new() })).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_has_a_point_for_every_moment_and_never_too_many() {
        for span in [1, 3_600, 86_400, 7 * 86_400, 30 * 86_400, 100 * 365 * 86_400] {
            let (since, until) =
                (Timestamp::from_millis(1_000_000_000_007), Timestamp::from_millis(1_000_000_000_007 + span * 1000));
            let bucket = millis(bucket(until.since(since)));
            let points = without_gaps(Vec::new(), Span { since, until }, bucket);
            assert!((1..=121).contains(&points.len()), "{span}: {}", points.len());
            assert!(points[0].at <= since && points.last().unwrap().at < until);
        }
    }
}
