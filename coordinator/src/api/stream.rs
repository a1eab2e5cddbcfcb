//! `GET /stream`: audit records and metrics as they happen, as server-sent events. Who comes back with `Last-Event-ID` hears what it
//! missed; who reads too slowly hears how many it lost.

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use futures_util::stream;
use http::HeaderMap;
use picket_shared::audit::AuditRecord;
use picket_shared::clock::Timestamp;
use serde::Serialize;
use serde_json::json;
use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Interval, MissedTickBehavior, Sleep};

use super::auth::{Caller, InUse};
use super::input::Query;
use super::metrics::ClusterMetrics;
use super::openapi::{self, Operation};
use super::problem::Problem;
use super::{Api, Shared, audit_logs};
use crate::scope::Scope;
use crate::store::{Cursor, Filter, StoreError, Stored};
use crate::tail::News;

/// streams at once
const STREAMS_MAX: usize = 32;
const BUSY_RETRY: Duration = Duration::from_secs(10);
/// records that are told again to who comes back
const MISSED_MAX: u32 = 1000;
const METRICS_PERIOD: Duration = Duration::from_secs(3);
const HEARTBEAT: Duration = Duration::from_secs(15);
/// how long one lasts: then its listener comes back, and is asked for its credential again
const LIFE: Duration = Duration::from_secs(15 * 60);
/// how soon it comes back
const RETURN_AFTER: Duration = Duration::from_secs(2);
const LAST_EVENT_ID: &str = "Last-Event-ID";
/// how much later than what was heard last a record of an earlier time may have been stored by another coordinator; who comes back is
/// told again what another one stored of that time
const LATE_MAX: Duration = Duration::from_secs(30);
/// hex digits of a record's id that are its time
const ID_TIME_DIGITS: usize = 12;

/// places for streams
pub(crate) struct Streams(Arc<Semaphore>);

impl Default for Streams {
    fn default() -> Self {
        Streams(Arc::new(Semaphore::new(STREAMS_MAX)))
    }
}

pub(super) async fn get(
    State(api): Shared,
    _: Caller,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, Problem> {
    let filter = audit_logs::filter(&mut query);
    query.finish()?;
    let last = last_event(&headers)?;
    let place = api.streams.0.clone().try_acquire_owned();
    let place = place.map_err(|_| Problem::unavailable("too many streams at once").retry_after(BUSY_RETRY))?;
    // It listens before it looks back: what comes between is told twice, and the second time left out.
    let live = api.tail.listen().await?;
    let missed = match last {
        Some(last) => Missed::since(&api, &filter, last).await?,
        None => Missed::default(),
    };
    let mut metrics = tokio::time::interval(METRICS_PERIOD);
    metrics.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let listener = Listener {
        told: missed.records.iter().map(|record| record.id.clone()).collect(),
        missed,
        live,
        filter,
        metrics,
        end: Box::pin(tokio::time::sleep(LIFE)),
        stopped: Box::pin(api.tasks.stopped()),
        session: api.gate.session_in_use(&headers),
        api,
        greeted: false,
        _place: place,
    };
    let events = stream::unfold(listener, Listener::advance);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("alive")).into_response())
}

pub(super) fn describe() -> Operation {
    let operation = Operation::new(Scope::AuditRead, "Audit records and metrics as they happen, as server-sent events")
        .about(
            "`audit` events have a record as data and its id as event id, `metrics` events what `GET \
             /metrics` gives. `lost` says how many records are not told: to a slow reader, or to who comes back \
             late. `isLowerBound`: there may be more; `isUpperBound`: the filters would have found some of \
             them. A comment every 15 s says that it lives; after 15 \
             minutes it ends, and its listener comes back; that of a login ends with the logout.",
        )
        .header(
            LAST_EVENT_ID,
            openapi::any_text(),
            "the id of the last record that was heard: what came after it is told first",
        );
    audit_logs::describe_filter(operation).gives_text("text/event-stream", "until it ends")
}

/// the place in the trail that a record's id names
fn last_event(headers: &HeaderMap) -> Result<Option<Cursor>, Problem> {
    let Some(value) = headers.get(LAST_EVENT_ID) else {
        return Ok(None);
    };
    let id = value.to_str().ok().filter(|id| id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let millis = id.and_then(|id| u64::from_str_radix(id.get(..ID_TIME_DIGITS)?, 16).ok());
    let place =
        millis.zip(id).map(|(millis, id)| Cursor { timestamp: Timestamp::from_millis(millis), id: id.to_owned() });
    place.map(Some).ok_or_else(|| Problem::mistake(LAST_EVENT_ID, "must be the id of an event of this stream"))
}

/// what happened while nobody listened
#[derive(Default)]
struct Missed {
    /// older ones that are not told
    lost: Option<Lost>,
    /// each coordinator's as it stored them
    records: VecDeque<AuditRecord>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Lost {
    records: u64,
    /// there may be more
    is_lower_bound: bool,
    /// they are of all kinds, and the filters would have found some of them
    is_upper_bound: bool,
}

impl Missed {
    /// What was stored after the last one that was heard: by the same coordinator in the order of storing, by others not much earlier.
    async fn since(api: &Api, filter: &Filter, last: Cursor) -> Result<Self, Problem> {
        let heard = api.store.position(&last.id).await?;
        // Of a record that is gone nothing is known but its time.
        let late = if heard.is_some() { LATE_MAX } else { Duration::ZERO };
        let earliest = last.timestamp.minus(late);
        let since = filter.since.map_or(earliest, |since| since.max(earliest));
        let filter = Filter { since: Some(since), heard, ..filter.clone() };
        let mut page = api.store.stored_page(&filter, None, MISSED_MAX).await?;
        // As they were stored, so that the last one that is heard says what was.
        page.records.sort_by_cached_key(Stored::order);
        let records = page
            .records
            .into_iter()
            .map(Stored::into_record)
            .filter(|record| !record.as_ref().is_ok_and(|record| record.id == last.id));
        let records: VecDeque<_> = records.collect::<Result<_, _>>().map_err(StoreError::from)?;
        let lost = match page.next {
            None => None,
            Some(_) => {
                let total = api.store.total(&filter).await?;
                let lost = total.count.saturating_sub(records.len() as u64);
                Some(Lost { records: lost, is_lower_bound: total.is_lower_bound, is_upper_bound: false })
            }
        };
        Ok(Missed { lost, records })
    }
}

struct Listener {
    api: Arc<Api>,
    filter: Filter,
    missed: Missed,
    live: Receiver<News>,
    /// what was told of the past, and may come again
    told: HashSet<String>,
    metrics: Interval,
    end: Pin<Box<Sleep>>,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    session: Option<InUse>,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    async fn advance(mut self) -> Option<(Result<Event, axum::Error>, Self)> {
        let event = self.next().await?;
        Some((event, self))
    }

    /// the next event; `None` when the stream ends
    async fn next(&mut self) -> Option<Result<Event, axum::Error>> {
        if !std::mem::replace(&mut self.greeted, true) {
            return Some(Ok(Event::default().retry(RETURN_AFTER).comment("picket")));
        }
        if let Some(lost) = self.missed.lost.take() {
            return Some(Event::default().event("lost").json_data(lost));
        }
        if let Some(record) = self.missed.records.pop_front() {
            return Some(told(&record));
        }
        loop {
            tokio::select! {
                () = &mut self.stopped => return None,
                () = &mut self.end => return None,
                () = logged_out(&self.api, &mut self.session) => return None,
                heard = self.live.recv() => match heard {
                    Ok(News::Record(record)) if self.told.contains(&record.id) || !self.filter.finds(&record) => {}
                    Ok(News::Record(record)) => return Some(told(&record)),
                    Ok(News::LeftOut(records)) | Err(RecvError::Lagged(records)) => {
                        let is_upper_bound = self.filter != Filter::default();
                        let lost = Lost { records, is_lower_bound: false, is_upper_bound };
                        return Some(Event::default().event("lost").json_data(lost));
                    }
                    Err(RecvError::Closed) => return None,
                },
                _ = self.metrics.tick() => {
                    let now = self.api.clock.now();
                    let event = Event::default().event("metrics");
                    return Some(match self.api.state.nodes.nodes(now).await {
                        Ok(nodes) => event.json_data(ClusterMetrics::of(nodes, now)),
                        // The state is away; health says so.
                        Err(_) => Ok(Event::default().comment("no metrics")),
                    });
                }
            }
        }
    }
}

/// never, without a session
async fn logged_out(api: &Api, session: &mut Option<InUse>) {
    match session {
        Some(session) => api.gate.sessions.ended(session).await,
        None => std::future::pending().await,
    }
}

fn told(record: &AuditRecord) -> Result<Event, axum::Error> {
    Event::default().event("audit").id(&record.id).json_data(json!(record))
}
