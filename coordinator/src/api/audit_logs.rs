//! `GET /audit-logs`: the trail by filters, newest first, page by page.

use axum::extract::State;
use picket_shared::audit::{AuditRecord, EventType, IDENTIFIER_BYTES_MAX, Severity};
use serde::Serialize;

use super::auth::Caller;
use super::input::{self, Query};
use super::{Answer, Shared, Success};
use crate::store::{Cursor, Filter};

const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 1000;

#[derive(Serialize)]
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
    let page = api.store.page(&filter, cursor.as_ref(), limit).await?;
    let total = api.store.total(&filter).await?;
    Ok(Success(Logs {
        logs: page.records,
        total: total.count,
        total_is_lower_bound: total.is_lower_bound,
        filtered: filter != Filter::default(),
        next_cursor: page.next.map(|cursor| cursor.encode()),
    }))
}

/// the filters of listing and export
pub(super) fn filter(query: &mut Query) -> Filter {
    Filter {
        event_type: query.take("eventType", input::one_of(EventType::ALL, EventType::as_str)),
        severity: query.take("severity", input::one_of(Severity::ALL, Severity::as_str)),
        network: query.take("ip", input::network),
        user_id: query.take("userId", input::text(IDENTIFIER_BYTES_MAX)),
        socket_id: query.take("socketId", input::text(IDENTIFIER_BYTES_MAX)),
        since: query.take("since", input::time),
        until: query.take("until", input::time),
        text: query.take("text", input::text(IDENTIFIER_BYTES_MAX)),
    }
}
