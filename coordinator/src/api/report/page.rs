//! The report as a page that needs nothing else: no script, no other file, and a policy that lets none in.

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};

use super::Report;
use crate::api::problem::Problem;

const CHART_WIDTH: u64 = 720;
const CHART_HEIGHT: u64 = 120;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    nonce: &'a str,
    report: &'a Report,
    chart: Chart,
    tables: Vec<Table>,
}

struct Chart {
    width: u64,
    height: u64,
    highest: u64,
    bars: Vec<Bar>,
}

struct Bar {
    x: u64,
    y: u64,
    width: u64,
    height: u64,
    label: String,
}

struct Table {
    title: &'static str,
    rows: Vec<(String, u64)>,
}

pub(super) fn render(report: &Report) -> Result<Response, Problem> {
    let nonce = picket_shared::random::hex(16);
    let page = Page { nonce: &nonce, report, chart: chart(report), tables: tables(report) };
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
    let width = (CHART_WIDTH / (points.len() as u64).max(1)).max(1);
    let bars = (0..).zip(points).map(|(place, point)| {
        let height = (point.total * CHART_HEIGHT).checked_div(highest).unwrap_or(0);
        Bar {
            x: place * width,
            y: CHART_HEIGHT - height,
            width: (width - 1).max(1),
            height,
            label: format!("{}: {}", point.at, point.total),
        }
    });
    let bars: Vec<_> = bars.collect();
    Chart { width: width * points.len() as u64, height: CHART_HEIGHT, highest, bars }
}

fn tables(report: &Report) -> Vec<Table> {
    let analytics = &report.analytics;
    let most_first = |rows: Vec<(String, u64)>| {
        let mut rows = rows;
        rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        rows
    };
    let owned = |(name, count): (&&'static str, &u64)| ((*name).to_owned(), *count);
    vec![
        Table { title: "By kind", rows: most_first(analytics.event_counts.iter().map(owned).collect()) },
        Table { title: "By severity", rows: most_first(analytics.severity_counts.iter().map(owned).collect()) },
        Table {
            title: "By reason",
            rows: most_first(analytics.reason_counts.iter().map(|(name, count)| (name.clone(), *count)).collect()),
        },
        Table {
            title: "Addresses with the most records",
            rows: analytics.top_ips.iter().map(|top| (top.ip.to_string(), top.count)).collect(),
        },
    ]
}
