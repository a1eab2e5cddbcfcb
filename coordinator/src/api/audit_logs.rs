//! `GET /audit-logs`: the trail by filters, newest first, page by page.

use axum::extract::State;
use picket_shared::address::NetworkText;
use picket_shared::audit::{AuditRecord, EventType, IDENTIFIER_BYTES_MAX, Severity, printable};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::auth::Caller;
use super::input::{self, Query};
use super::openapi::{self, Operation};
use super::{Answer, Shared, Success};
use crate::scope::Scope;
use crate::store::{Cursor, Filter};

const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 1000;
const CURSOR_BYTES_MAX: usize = 128;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Logs {
    logs: Vec<AuditRecord>,
    /// how many records the filters find, up to a bound
    total: u64,
    total_is_lower_bound: bool,
    /// whether any filter was given
    filtered: bool,
    next_cursor: Option<String>,
}

pub(super) async fn get(State(api): Shared, _: Caller, mut query: Query) -> Answer<Logs> {
    let filter = filter(&mut query);
    let limit = query.take("limit", input::number(1, LIMIT_MAX)).unwrap_or(LIMIT_DEFAULT);
    let cursor = query
        .take("cursor", |text| Cursor::decode(text).ok_or_else(|| "is not a cursor of an earlier page".to_owned()));
    query.finish()?;
    let (page, total) = tokio::try_join!(api.store.page(&filter, cursor.as_ref(), limit), api.store.total(&filter))?;
    Ok(Success(Logs {
        logs: page.records,
        total: total.count,
        total_is_lower_bound: total.is_lower_bound,
        filtered: filter != Filter::default(),
        next_cursor: page.next.map(|cursor| cursor.encode()),
    }))
}

pub(super) fn describe() -> Operation {
    let operation = Operation::new(Scope::AuditRead, "The audit trail, newest first, page by page")
        .about(
            "A cursor names a place in the trail, not a number of records: records that come later change \
             no page. The next page is asked for with the same filters. A search for `text` alone reads up to 32,768 \
             records for a page: it may find few, and the next page goes on.",
        )
        .query("limit", openapi::integer(1, LIMIT_MAX), "records of a page; 100 if not given")
        .query("cursor", openapi::text(CURSOR_BYTES_MAX), "`nextCursor` of the page before");
    describe_filter(operation).gives::<Logs>("a page").example(json!({
        "logs": [{
            "id": "019ab80ee4001f0c2d5e6a7b8c9d0e1f", "timestamp": "2026-01-31T12:00:00.000Z", "eventType": "INVALID_ORIGIN",
            "severity": "high", "ip": "198.51.100.7", "message": "this origin is not allowed", "route": "/ws", "node": "edge-1", "reason": "origin_not_allowed",
        }],
        "total": 1, "totalIsLowerBound": false, "filtered": true, "nextCursor": null,
    }))
}

/// the parameters that [`filter`] takes
pub(super) fn describe_filter(operation: Operation) -> Operation {
    operation
        .query("eventType", openapi::one_of(EventType::ALL.map(EventType::as_str)), "what happened")
        .query("severity", openapi::one_of(Severity::ALL.map(Severity::as_str)), "exactly this one")
        .query("ip", openapi::network(), "an address, or all of a prefix")
        .query("userId", openapi::text(IDENTIFIER_BYTES_MAX), "whose")
        .query("socketId", openapi::text(IDENTIFIER_BYTES_MAX), "of which connection")
        .query("since", openapi::time(), "not before")
        .query("until", openapi::time(), "before")
        .query("text", openapi::text(IDENTIFIER_BYTES_MAX), "in message, metadata, reason or event name")
}

/// the filters of listing and export
pub(super) fn filter(query: &mut Query) -> Filter {
    Filter {
        event_type: query.take("eventType", input::one_of(EventType::ALL, EventType::as_str)),
        severity: query.take("severity", input::one_of(Severity::ALL, Severity::as_str)),
        network: query.take("ip", input::network),
        user_id: query.take("userId", input::user),
        socket_id: query.take("socketId", input::text(IDENTIFIER_BYTES_MAX)),
        since: query.take("since", input::time),
        until: query.take("until", input::time),
        text: query.take("text", input::text(IDENTIFIER_BYTES_MAX)),
        heard: None,
    }
}

/// a filter as its parameters were given
pub(super) fn told(filter: &Filter) -> Map<String, Value> {
    let Filter { event_type, severity, network, user_id, socket_id, since, until, text, heard: _ } = filter;
    let parameters = [
        ("eventType", event_type.map(|kind| kind.as_str().to_owned())),
        ("severity", severity.map(|severity| severity.as_str().to_owned())),
        ("ip", network.map(|network| NetworkText(network).to_string())),
        ("userId", user_id.clone()),
        ("socketId", socket_id.clone()),
        ("since", since.map(|time| time.to_string())),
        ("until", until.map(|time| time.to_string())),
        ("text", text.clone()),
    ];
    let given = |(name, value): (&str, Option<String>)| {
        Some((name.to_owned(), printable(&value?, IDENTIFIER_BYTES_MAX).into()))
    };
    parameters.into_iter().filter_map(given).collect()
}
