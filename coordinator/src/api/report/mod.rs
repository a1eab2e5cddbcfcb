//! `GET /report`: what happened over a time, as JSON, as a table, or as a page to print.

mod page;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use picket_shared::audit::{AuditRecord, EventType};
use picket_shared::clock::Timestamp;
use picket_shared::state::BlockOrigin;
use schemars::JsonSchema;
use serde::Serialize;
use std::time::Duration;

use super::analytics::{self, Analytics};
use super::auth::Caller;
use super::history::{self, HistoryEntry};
use super::input::{self, Query};
use super::nodes::Node;
use super::openapi::{self, Operation};
use super::problem::Problem;
use super::{Api, Shared, Success, csv};
use crate::scope::Scope;
use crate::store::{Filter, Span, StoreError};

/// records of one kind that are listed
const LISTED_MAX: u32 = 100;
/// names of periods, and their seconds
const PERIODS: [(&str, u64); 4] = [("1h", 3600), ("24h", 86_400), ("7d", 7 * 86_400), ("30d", 30 * 86_400)];

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    generated_at: Timestamp,
    period: Period,
    #[serde(flatten)]
    analytics: Analytics,
    /// records of refusals: those with a reason
    refusals: u64,
    blocks: BlockCounts,
    blocks_made: BlocksMade,
    /// what administrators did, the newest first, at most 100
    administration: Vec<AuditRecord>,
    /// the newest first, at most 100
    policy_changes: Vec<HistoryEntry>,
    policy_version: u64,
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Serialize, JsonSchema)]
struct Period {
    since: Timestamp,
    until: Timestamp,
}

/// in force when the report was made
#[derive(Serialize, JsonSchema)]
struct BlockCounts {
    manual: usize,
    automatic: usize,
}

/// in the time of the report
#[derive(Serialize, JsonSchema)]
struct BlocksMade {
    total: u64,
    /// the newest first, at most 100
    latest: Vec<AuditRecord>,
}

#[derive(Clone, Copy)]
enum Format {
    Json,
    Csv,
    Html,
}

pub(super) async fn get(State(api): Shared, _: Caller, mut query: Query) -> Result<Response, Problem> {
    let now = api.clock.now();
    let period = period(&mut query, now);
    let format = query.take("format", |text| match text {
        "json" => Ok(Format::Json),
        "csv" => Ok(Format::Csv),
        "html" => Ok(Format::Html),
        _ => Err("must be json, csv or html".to_owned()),
    });
    query.finish()?;
    let report = Report::over(&api, period, now).await?;
    match format.unwrap_or(Format::Json) {
        Format::Json => Ok(Success(report).into_response()),
        Format::Csv => {
            let name = "attachment; filename=\"picket-report.csv\"";
            Ok(([(CONTENT_TYPE, "text/csv; charset=utf-8"), (CONTENT_DISPOSITION, name)], table(&report))
                .into_response())
        }
        Format::Html => page::render(&report),
    }
}

pub(super) fn describe() -> Operation {
    Operation::new(Scope::AuditRead, "What happened over a time")
        .query("period", openapi::one_of(PERIODS.map(|(name, _)| name)), "until now; `24h` if nothing is given")
        .query("since", openapi::time(), "instead of a period: not before")
        .query("until", openapi::time(), "instead of a period: before")
        .query("format", openapi::one_of(["json", "csv", "html"]), "`json` if not given")
        .gives::<Report>("counted by whole minutes")
        .gives_text("text/csv", "a table; no cell is a formula")
        .gives_text("text/html", "a page to print, without scripts and other files")
}

fn period(query: &mut Query, now: Timestamp) -> Period {
    let named = query.take("period", |text| {
        let known = PERIODS.into_iter().find(|(name, _)| *name == text);
        known.map(|(_, seconds)| seconds).ok_or_else(|| "must be 1h, 24h, 7d or 30d".to_owned())
    });
    let (since, until) = (query.take("since", input::time), query.take("until", input::time));
    if named.is_some() && (since.is_some() || until.is_some()) {
        query.mistake("period", "give either a period or since and until");
    }
    // What happened in this very millisecond is in.
    let until = until.unwrap_or(now.plus(Duration::from_millis(1)));
    let since = since.unwrap_or(until.minus(Duration::from_secs(named.unwrap_or(86_400))));
    if since >= until {
        query.mistake("since", "must be before until");
    }
    Period { since, until }
}

impl Report {
    async fn over(api: &Api, period: Period, now: Timestamp) -> Result<Self, Problem> {
        let blocks = api.state.blocks.load(now).await?.blocks;
        let automatic = blocks.iter().filter(|block| block.origin == BlockOrigin::Automatic).count();
        let analytics = analytics::over(api, Span { since: period.since, until: period.until }).await?;
        let made = records(api, EventType::IpBlocked, period).await?;
        let mut administration: Vec<_> = made.iter().filter(|record| is_by_hand(record)).cloned().collect();
        for kind in [EventType::IpUnblocked, EventType::PolicyChanged, EventType::AdminAction] {
            administration.extend(records(api, kind, period).await?);
        }
        administration.sort_by(|a, b| (b.timestamp, &b.id).cmp(&(a.timestamp, &a.id)));
        administration.truncate(LISTED_MAX as usize);
        let within = |entry: &HistoryEntry| (period.since..period.until).contains(&entry.at);
        let history = history::entries(api, LISTED_MAX as usize).await?;
        Ok(Report {
            generated_at: now,
            period,
            refusals: analytics.reason_counts.values().sum(),
            blocks: BlockCounts { manual: blocks.len() - automatic, automatic },
            blocks_made: BlocksMade {
                total: analytics.event_counts.get(EventType::IpBlocked.as_str()).copied().unwrap_or(0),
                latest: made,
            },
            administration,
            policy_changes: history.into_iter().filter(within).collect(),
            analytics,
            policy_version: api.policy.version(),
            nodes: api.state.nodes.nodes(now).await?.into_iter().map(Node::from).collect(),
        })
    }
}

/// the newest of a kind
async fn records(api: &Api, kind: EventType, period: Period) -> Result<Vec<AuditRecord>, StoreError> {
    let (since, until) = (Some(period.since), Some(period.until));
    let filter = Filter { event_type: Some(kind), since, until, ..Filter::default() };
    Ok(api.store.page(&filter, None, LISTED_MAX).await?.records)
}

fn is_by_hand(record: &AuditRecord) -> bool {
    record.metadata.contains_key("actor")
}

fn table(report: &Report) -> String {
    let mut text = csv::line(["section", "name", "count"]);
    let mut row =
        |section: &str, name: &str, count: u64| text.push_str(&csv::line([section, name, &count.to_string()]));
    let analytics = &report.analytics;
    row("period", &format!("{} to {}", report.period.since, report.period.until), analytics.total);
    analytics.event_counts.iter().for_each(|(kind, count)| row("eventType", kind, *count));
    analytics.severity_counts.iter().for_each(|(severity, count)| row("severity", severity, *count));
    analytics.reason_counts.iter().for_each(|(reason, count)| row("reason", reason, *count));
    analytics.top_ips.iter().for_each(|top| row("ip", &top.ip.to_string(), top.count));
    row("refusals", "all", report.refusals);
    row("blocks made", "all", report.blocks_made.total);
    row("blocks", "manual", report.blocks.manual as u64);
    row("blocks", "automatic", report.blocks.automatic as u64);
    analytics.series.points.iter().for_each(|point| row("time", &point.at.to_string(), point.total));
    report.blocks_made.latest.iter().for_each(|record| row("block", &act(record), 1));
    report.administration.iter().for_each(|record| row("administration", &act(record), 1));
    report.policy_changes.iter().for_each(|entry| row("policy", &policy_change(entry), 1));
    text
}

/// an act in one line
fn act(record: &AuditRecord) -> String {
    let detail = |key: &str| record.metadata.get(key).and_then(|value| value.as_str());
    let about = detail("network").or_else(|| detail("path")).unwrap_or_default();
    let (by, why) = (detail("actor").unwrap_or("picket"), detail("reason").unwrap_or_default());
    [record.timestamp.to_string().as_str(), by, &record.message, about, why]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn policy_change(entry: &HistoryEntry) -> String {
    let paths = entry.changes.iter().flatten().map(|change| change.path.as_str()).collect::<Vec<_>>().join(", ");
    format!("{} {} version {} {paths}", entry.at, entry.by, entry.version)
}
