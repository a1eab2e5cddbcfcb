//! The report as a page that needs nothing else: no script, no other file, and a policy that lets none in. Its charts are drawn here.

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use std::collections::BTreeMap;

use picket_shared::audit::EventType;

use super::{Report, act, policy_change};
use crate::api::problem::Problem;

const CHART_WIDTH: f64 = 720.0;
const CHART_HEIGHT: f64 = 140.0;
/// kinds with a colour of their own; the others share one
const OWN_KINDS: usize = 5;
const OTHERS: &str = "others";

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    nonce: &'a str,
    report: &'a Report,
    chart: Chart,
    tables: Vec<Table>,
    lists: Vec<List>,
}

/// bars over time, stacked by kind
struct Chart {
    width: f64,
    height: f64,
    highest: u64,
    bars: Vec<Bar>,
    legend: Vec<Key>,
}

struct Bar {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    colour: usize,
    label: String,
}

struct Key {
    colour: usize,
    name: &'static str,
}

struct Table {
    title: &'static str,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    count: u64,
    /// of the largest count, in percent
    share: u64,
}

struct List {
    title: &'static str,
    lines: Vec<String>,
}

pub(super) fn render(report: &Report) -> Result<Response, Problem> {
    let nonce = picket_shared::random::hex(16);
    let page = Page { nonce: &nonce, report, chart: chart(report), tables: tables(report), lists: lists(report) };
    let html = page.render().map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
    );
    Ok(([(CONTENT_TYPE, "text/html; charset=utf-8".to_owned()), (CONTENT_SECURITY_POLICY, policy)], html)
        .into_response())
}

fn chart(report: &Report) -> Chart {
    let points = &report.analytics.series.points;
    let highest = points.iter().map(|point| point.total).max().unwrap_or(0);
    let own = most_frequent(report);
    let width = CHART_WIDTH / points.len().max(1) as f64;
    let mut bars = Vec::new();
    for (place, point) in points.iter().enumerate() {
        let mut ground = CHART_HEIGHT;
        for (colour, name, count) in parts(&point.counts, &own) {
            let height = count as f64 / highest.max(1) as f64 * CHART_HEIGHT;
            ground -= height;
            let label = format!("{}: {count} {name}", point.at);
            bars.push(Bar { x: place as f64 * width, y: ground, width: (width - 1.0).max(0.5), height, colour, label });
        }
    }
    let has_others = bars.iter().any(|bar| bar.colour == own.len());
    let names = own.iter().map(|kind| kind.as_str()).chain(has_others.then_some(OTHERS));
    let legend = names.enumerate().map(|(colour, name)| Key { colour, name }).collect();
    Chart { width: CHART_WIDTH, height: CHART_HEIGHT, highest, bars, legend }
}

/// the kinds with the most records, most first
fn most_frequent(report: &Report) -> Vec<EventType> {
    let count = |kind: &EventType| report.analytics.event_counts.get(kind.as_str()).copied().unwrap_or(0);
    let mut kinds: Vec<_> = EventType::ALL.into_iter().filter(|kind| count(kind) > 0).collect();
    kinds.sort_by_key(|kind| std::cmp::Reverse(count(kind)));
    kinds.truncate(OWN_KINDS);
    kinds
}

/// what a bar is made of: colour, name and count
fn parts(counts: &BTreeMap<EventType, u64>, own: &[EventType]) -> Vec<(usize, &'static str, u64)> {
    let count = |kind: &EventType| counts.get(kind).copied().unwrap_or(0);
    let named = own.iter().enumerate().map(|(colour, kind)| (colour, kind.as_str(), count(kind)));
    let others = counts.iter().filter(|(kind, _)| !own.contains(kind)).map(|(_, count)| count).sum();
    named.chain([(own.len(), OTHERS, others)]).filter(|(_, _, count)| *count > 0).collect()
}

fn tables(report: &Report) -> Vec<Table> {
    let analytics = &report.analytics;
    let owned = |(name, count): (&&'static str, &u64)| ((*name).to_owned(), *count);
    let reasons = |counts: &BTreeMap<String, u64>| counts.iter().map(|(name, count)| (name.clone(), *count)).collect();
    vec![
        table("Refusals by reason", reasons(&analytics.reason_counts)),
        table("Noticed and passed, by reason", reasons(&analytics.noticed_counts)),
        table("Records by kind", analytics.event_counts.iter().map(owned).collect()),
        table("Records by severity", analytics.severity_counts.iter().map(owned).collect()),
        table(
            "Addresses with the most records",
            analytics.top_ips.iter().map(|top| (top.ip.to_string(), top.count)).collect(),
        ),
    ]
}

fn table(title: &'static str, mut rows: Vec<(String, u64)>) -> Table {
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let most = rows.first().map_or(1, |(_, count)| *count).max(1);
    let rows = rows.into_iter().map(|(name, count)| Row { name, count, share: count * 100 / most });
    Table { title, rows: rows.collect() }
}

fn lists(report: &Report) -> Vec<List> {
    vec![
        List { title: "Newest blocks", lines: report.blocks_made.latest.iter().map(act).collect() },
        List { title: "Administration", lines: report.administration.iter().map(act).collect() },
        List { title: "Policy", lines: report.policy_changes.iter().map(policy_change).collect() },
    ]
}
