//! `GET /report`: what happened over a time, as JSON, as a table, or as a page to print.

mod page;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use picket_shared::audit::{AuditRecord, EventType, Severity};
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

/// records of one kind and severity that are listed
const LISTED_MAX: u32 = 100;
/// blocks read at once, and how often: among so many those by hand are looked for
const BLOCKS_READ: u32 = 1000;
const BLOCK_PAGES_MAX: u32 = 50;
/// what administrators do, beside blocks
const ADMINISTRATION: [EventType; 4] =
    [EventType::IpUnblocked, EventType::PolicyChanged, EventType::AdminLogin, EventType::AdminAction];
/// names of periods, and their seconds
const PERIODS: [(&str, u64); 4] = [("1h", 3600), ("24h", 86_400), ("7d", 7 * 86_400), ("30d", 30 * 86_400)];

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    generated_at: Timestamp,
    period: Period,
    #[serde(flatten)]
    analytics: Analytics,
    /// records with a reason for which something was refused
    refusals: u64,
    /// records with a reason that something was noticed for, which passed
    noticed: u64,
    blocks: BlockCounts,
    blocks_made: BlocksMade,
    /// what administrators did, logins included, the newest first; of each kind and severity at most 100, so that many of one hide no other
    administration: Vec<AuditRecord>,
    /// false where so many blocks were made that those by hand were looked for among the newest 50,000 alone
    administration_complete: bool,
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
        let Made { latest, by_hand: mut administration, search } = made(api, period).await?;
        for (kind, severity) in
            ADMINISTRATION.into_iter().flat_map(|kind| Severity::ALL.map(|severity| (kind, severity)))
        {
            let filter = Filter { severity: Some(severity), ..of(kind, period) };
            administration.extend(api.store.page(&filter, None, LISTED_MAX).await?.records);
        }
        administration.sort_by(|a, b| (b.timestamp, &b.id).cmp(&(a.timestamp, &a.id)));
        let within = |entry: &HistoryEntry| (period.since..period.until).contains(&entry.at);
        let history = history::entries(api, LISTED_MAX as usize).await?;
        Ok(Report {
            generated_at: now,
            period,
            refusals: analytics.reason_counts.values().sum(),
            noticed: analytics.noticed_counts.values().sum(),
            blocks: BlockCounts { manual: blocks.len() - automatic, automatic },
            blocks_made: BlocksMade {
                total: analytics.event_counts.get(EventType::IpBlocked.as_str()).copied().unwrap_or(0),
                latest,
            },
            administration,
            administration_complete: search == Search::Complete,
            policy_changes: history.into_iter().filter(within).collect(),
            analytics,
            policy_version: api.policy.version(),
            nodes: api.state.nodes.nodes(now).await?.into_iter().map(Node::from).collect(),
        })
    }
}

/// the newest records of blocks, and of those by hand
struct Made {
    latest: Vec<AuditRecord>,
    by_hand: Vec<AuditRecord>,
    search: Search,
}

#[derive(PartialEq, Eq)]
enum Search {
    Complete,
    GivenUp,
}

/// looks on behind automatic blocks until there are enough by hand
async fn made(api: &Api, period: Period) -> Result<Made, StoreError> {
    let (filter, listed) = (of(EventType::IpBlocked, period), LISTED_MAX as usize);
    let (mut made, mut cursor) = (Made { latest: Vec::new(), by_hand: Vec::new(), search: Search::GivenUp }, None);
    for _ in 0..BLOCK_PAGES_MAX {
        let page = api.store.page(&filter, cursor.as_ref(), BLOCKS_READ).await?;
        if made.latest.is_empty() {
            made.latest = page.records.iter().take(listed).cloned().collect();
        }
        made.by_hand.extend(page.records.into_iter().filter(is_by_hand));
        cursor = page.next;
        if cursor.is_none() || made.by_hand.len() >= listed {
            made.search = Search::Complete;
            break;
        }
    }
    made.by_hand.truncate(listed);
    Ok(made)
}

fn of(kind: EventType, period: Period) -> Filter {
    Filter { event_type: Some(kind), since: Some(period.since), until: Some(period.until), ..Filter::default() }
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
    analytics.noticed_counts.iter().for_each(|(reason, count)| row("noticed", reason, *count));
    analytics.top_ips.iter().for_each(|top| row("ip", &top.ip.to_string(), top.count));
    row("refusals", "all", report.refusals);
    row("noticed", "all", report.noticed);
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
    let address = record.ip.to_string();
    let (by, about) = match record.event_type {
        EventType::AdminLogin => (detail("account").filter(|name| !name.is_empty()).unwrap_or("somebody"), &*address),
        _ => (detail("actor").unwrap_or("picket"), about),
    };
    let why = detail("reason").or_else(|| detail("because")).unwrap_or_default();
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
