//! `GET /audit-logs/export`: everything that the filters find, streamed page by page. The bytes end early if the store fails.

use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use picket_shared::audit::{AuditRecord, EventType, Severity};
use picket_shared::reason::Reason;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::auth::Caller;
use super::input::{self, Query};
use super::openapi::{self, Operation};
use super::problem::Problem;
use super::{Shared, audit_logs, csv, ocsf};
use crate::scope::Scope;
use crate::store::{AuditStore, Cursor, Filter, StoreError, Stored};

/// records read at once
const PAGE: u32 = 1000;
/// exports at once
const EXPORTS_MAX: usize = 4;
const BUSY_RETRY: Duration = Duration::from_secs(10);

/// places for exports
pub(crate) struct Slots(Arc<Semaphore>);

impl Default for Slots {
    fn default() -> Self {
        Slots(Arc::new(Semaphore::new(EXPORTS_MAX)))
    }
}

#[derive(Clone, Copy)]
enum Format {
    Ndjson,
    Csv,
    Ocsf,
}

impl Format {
    const ALL: [Format; 3] = [Format::Ndjson, Format::Csv, Format::Ocsf];

    fn as_str(self) -> &'static str {
        match self {
            Format::Ndjson => "ndjson",
            Format::Csv => "csv",
            Format::Ocsf => "ocsf",
        }
    }
}

pub(super) async fn get(
    State(api): Shared,
    caller: Caller,
    path: MatchedPath,
    mut query: Query,
) -> Result<Response, Problem> {
    let filter = audit_logs::filter(&mut query);
    let format = query.take("format", input::one_of(Format::ALL, Format::as_str));
    query.finish()?;
    let slot = api.exports.0.clone().try_acquire_owned();
    let slot = slot.map_err(|_| Problem::unavailable("too many exports at once").retry_after(BUSY_RETRY))?;
    let format = format.unwrap_or(Format::Ndjson);
    let (kind, name) = match format {
        Format::Ndjson => ("application/x-ndjson", "attachment; filename=\"picket-audit.ndjson\""),
        Format::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"picket-audit.csv\""),
        Format::Ocsf => ("application/x-ndjson", "attachment; filename=\"picket-audit.ocsf.ndjson\""),
    };
    api.record(EventType::AdminAction, Severity::Medium, &caller, "audit trail exported", |record| {
        record
            .with("method", "GET")
            .with("path", path.as_str())
            .with("format", format.as_str())
            .with("filter", audit_logs::told(&filter))
    });
    let export = Export { store: api.store.clone(), filter, format, next: Next::First, _slot: slot };
    Ok((
        [(CONTENT_TYPE, kind), (CONTENT_DISPOSITION, name)],
        Body::from_stream(stream::try_unfold(export, Export::advance)),
    )
        .into_response())
}

pub(super) fn describe() -> Operation {
    let operation = Operation::new(Scope::AuditRead, "Everything that the filters find, streamed");
    audit_logs::describe_filter(operation.records_itself())
        .query("format", openapi::one_of(Format::ALL.map(Format::as_str)), "`ndjson` if not given")
        .gives_text("application/x-ndjson", "one record in a line with its place in a hash chain, or one OCSF event; the bytes end early if the store fails")
        .gives_text("text/csv", "a table; no cell is a formula")
}

struct Export {
    store: AuditStore,
    filter: Filter,
    format: Format,
    next: Next,
    _slot: OwnedSemaphorePermit,
}

enum Next {
    First,
    After(Cursor),
    End,
}

impl Export {
    async fn advance(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        let (cursor, head) = match self.next {
            Next::First => (None, self.head()),
            Next::After(cursor) => (Some(cursor), String::new()),
            Next::End => return Ok(None),
        };
        let page = self.store.stored_page(&self.filter, cursor.as_ref(), PAGE).await?;
        self.next = page.next.map_or(Next::End, Next::After);
        let mut text = head;
        for record in page.records {
            text += &self.line(record)?;
        }
        Ok(Some((Bytes::from(text), self)))
    }

    fn head(&self) -> String {
        match self.format {
            Format::Ndjson | Format::Ocsf => String::new(),
            Format::Csv => csv::line([
                "id",
                "timestamp",
                "eventType",
                "severity",
                "ip",
                "message",
                "socketId",
                "userId",
                "eventName",
                "route",
                "node",
                "reason",
                "metadata",
            ]),
        }
    }

    fn line(&self, record: Stored) -> Result<String, StoreError> {
        Ok(match self.format {
            Format::Ndjson => record.to_json()? + "\n",
            Format::Csv => csv_line(&record.into_record()?),
            Format::Ocsf => format!("{}\n", ocsf::event(&record.into_record()?)),
        })
    }
}

fn csv_line(record: &AuditRecord) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let metadata = if record.metadata.is_empty() {
        String::new()
    } else {
        serde_json::to_string(&record.metadata).unwrap_or_default()
    };
    let cells = [
        record.id.clone(),
        record.timestamp.to_string(),
        record.event_type.as_str().to_owned(),
        record.severity.as_str().to_owned(),
        record.ip.to_string(),
        record.message.clone(),
        text(&record.socket_id),
        text(&record.user_id),
        text(&record.event_name),
        text(&record.route),
        text(&record.node),
        record.reason.map(Reason::token).unwrap_or_default().to_owned(),
        metadata,
    ];
    csv::line(cells.iter().map(String::as_str))
}
