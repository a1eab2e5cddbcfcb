//! `GET /dashboard`: one answer for the first look: numbers, the newest records, the last day.

use axum::extract::State;
use picket_shared::audit::AuditRecord;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

use super::analytics::{self, Series, TopAddress};
use super::auth::Caller;
use super::input::NoQuery;
use super::metrics::ClusterMetrics;
use super::openapi::Operation;
use super::{Answer, Shared, Success};
use crate::scope::Scope;
use crate::store::Filter;

const RECENT: u32 = 50;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Dashboard {
    /// `null` while the shared state does not answer
    metrics: Option<ClusterMetrics>,
    recent_logs: Vec<AuditRecord>,
    analytics: DayAnalytics,
    time_series: Series,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DayAnalytics {
    event_counts: BTreeMap<&'static str, u64>,
    severity_counts: BTreeMap<&'static str, u64>,
    reason_counts: BTreeMap<String, u64>,
    noticed_counts: BTreeMap<String, u64>,
    #[serde(rename = "topIPs")]
    top_ips: Vec<TopAddress>,
    #[serde(rename = "totalEvents24h")]
    total_events_24h: u64,
}

pub(super) async fn get(State(api): Shared, _: Caller, _: NoQuery) -> Answer<Dashboard> {
    let now = api.clock.now();
    let metrics = api.state.nodes.nodes(now).await.ok().map(|nodes| ClusterMetrics::of(nodes, now));
    let recent_logs = api.store.page(&Filter::default(), None, RECENT).await?.records;
    let day = analytics::last_day(&api, now).await?;
    Ok(Success(Dashboard {
        metrics,
        recent_logs,
        analytics: DayAnalytics {
            event_counts: day.event_counts,
            severity_counts: day.severity_counts,
            reason_counts: day.reason_counts,
            noticed_counts: day.noticed_counts,
            top_ips: day.top_ips,
            total_events_24h: day.total,
        },
        time_series: day.series,
    }))
}

pub(super) fn describe() -> Operation {
    Operation::new(Scope::AuditRead, "Numbers, the newest records and the last day, for a first look")
        .gives::<Dashboard>("counts of the last day are at most a few seconds old")
}
