//! `GET /report`: what happened over a time, as JSON, as a table, or as a page to print.

mod page;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use picket_shared::clock::Timestamp;
use picket_shared::state::BlockOrigin;
use schemars::JsonSchema;
use serde::Serialize;
use std::time::Duration;

use super::analytics::{self, Analytics};
use super::auth::Caller;
use super::input::{self, Query};
use super::nodes::Node;
use super::openapi::{self, Operation};
use super::problem::Problem;
use super::{Api, Shared, Success, csv};
use crate::scope::Scope;
use crate::store::Span;

/// names of periods, and their seconds
const PERIODS: [(&str, u64); 4] = [("1h", 3600), ("24h", 86_400), ("7d", 7 * 86_400), ("30d", 30 * 86_400)];

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    generated_at: Timestamp,
    period: Period,
    #[serde(flatten)]
    analytics: Analytics,
    blocks: BlockCounts,
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
        Ok(Report {
            generated_at: now,
            period,
            analytics: analytics::over(api, Span { since: period.since, until: period.until }).await?,
            blocks: BlockCounts { manual: blocks.len() - automatic, automatic },
            policy_version: api.policy.version(),
            nodes: api.state.nodes.nodes(now).await?.into_iter().map(Node::from).collect(),
        })
    }
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
    row("blocks", "manual", report.blocks.manual as u64);
    row("blocks", "automatic", report.blocks.automatic as u64);
    analytics.series.points.iter().for_each(|point| row("time", &point.at.to_string(), point.total));
    text
}
