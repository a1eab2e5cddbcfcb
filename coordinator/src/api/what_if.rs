//! `POST /config/what-if`: whom of the last hours a proposed policy would have refused, from a replay over the audit trail. It changes
//! nothing. The trail is read in pages, so that ingest is not held up, and one replay is under way at a time.

use axum::extract::State;
use http::StatusCode;
use picket_shared::clock::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::auth::Caller;
use super::config::{PolicyPatch, judge, patched};
use super::input::{self, JsonValue, Query};
use super::openapi::{self, Operation};
use super::problem::Problem;
use super::{Answer, Shared, Success};
use crate::forecast::{Forecast, NotJudged, OfRule, Replay};
use crate::scope::Scope;
use crate::store::{AuditStore, Span, StoreError};

const HOURS_DEFAULT: u32 = 24;
const HOURS_MAX: u32 = 7 * 24;
/// records read at once
const PAGE: u32 = 1000;
/// what one replay may cost; the rest of the span is then left out, and the answer says from where on
const BUDGET: Budget = Budget { records: 500_000, time: Duration::from_secs(15) };
const BUSY_RETRY: Duration = Duration::from_secs(5);

/// the place of the one replay that is under way
pub(crate) struct Turn(Arc<Semaphore>);

impl Default for Turn {
    fn default() -> Self {
        Turn(Arc::new(Semaphore::new(1)))
    }
}

impl Turn {
    fn take(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let free = self.0.clone().try_acquire_owned();
        free.map_err(|_| Problem::too_many("another replay is under way", BUSY_RETRY))
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WhatIf {
    /// the version of the policy that the change was laid on
    version: u64,
    since: Timestamp,
    until: Timestamp,
    /// whether all records of that time were read
    complete: bool,
    /// up to where they were read
    read_until: Timestamp,
    records: u64,
    /// the oldest of them: what is older was deleted, or there was nothing
    first_record: Option<Timestamp>,
    /// records that nodes had to drop at that time: nothing is known of them
    dropped: u64,
    rules: Vec<OfRule>,
    /// settings of the change of which the trail holds no evidence
    not_judged: Vec<NotJudged>,
}

pub(super) async fn post(
    State(api): Shared,
    _: Caller,
    mut query: Query,
    JsonValue(patch): JsonValue,
) -> Answer<WhatIf> {
    let hours = query.take("hours", input::number(1, HOURS_MAX)).unwrap_or(HOURS_DEFAULT);
    query.finish()?;
    let (current, rules) = judge(&api, None, patched(&patch)?).await?;
    let _turn = api.what_if.take()?;
    let until = api.clock.now();
    let span = Span { since: until.minus(Duration::from_secs(u64::from(hours) * 3600)), until };
    let (read, forecast) = read(&api.store, span, Replay::new(current.policy, rules), BUDGET).await?;
    let Forecast { rules, not_judged, dropped } = forecast;
    Ok(Success(WhatIf {
        version: current.version,
        since: span.since,
        until,
        complete: read.is_complete,
        read_until: read.until,
        records: read.records,
        first_record: read.first,
        dropped,
        rules,
        not_judged,
    }))
}

pub(super) fn describe() -> Operation {
    Operation::new((Scope::AuditRead, Scope::ConfigRead), "Whom a change of the policy would have refused")
        .about(
            "Takes what `PUT /config` takes, and changes nothing: the policy with the change is replayed over the audit trail. By rule: what \
             passed and would have been refused, what was refused and would pass, and whom that concerns. What the trail holds no evidence \
             of is named in `notJudged`, and `null` in `rules`.",
        )
        .query("hours", openapi::integer(1, HOURS_MAX), "how far back; 24 if not given")
        .body::<PolicyPatch>(json!({ "cors": { "allowedOrigins": ["https://app.example.com"] } }))
        .gives::<WhatIf>("what would have been different")
        .fails(StatusCode::TOO_MANY_REQUESTS, "another replay is under way at this coordinator; or too many failed logins")
        .with_header("Retry-After", "seconds")
}

#[derive(Clone, Copy)]
struct Budget {
    records: u64,
    time: Duration,
}

/// how far a replay came
struct Read {
    records: u64,
    first: Option<Timestamp>,
    until: Timestamp,
    is_complete: bool,
}

async fn read(
    store: &AuditStore,
    span: Span,
    mut replay: Replay,
    budget: Budget,
) -> Result<(Read, Forecast), StoreError> {
    let ends = Instant::now() + budget.time;
    let mut read = Read { records: 0, first: None, until: span.since, is_complete: false };
    let mut cursor = None;
    while read.records < budget.records && Instant::now() < ends {
        let page = store.page_in_order(span, cursor.as_ref(), PAGE).await?;
        for record in &page.records {
            replay.see(record);
        }
        read.records += page.records.len() as u64;
        read.first = read.first.or_else(|| page.records.first().map(|record| record.timestamp));
        read.until = page.records.last().map_or(read.until, |record| record.timestamp);
        cursor = page.next;
        if cursor.is_none() {
            read = Read { until: span.until, is_complete: true, ..read };
            break;
        }
    }
    Ok((read, replay.end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
    use picket_shared::audit::{AuditRecord, EventType, Severity};
    use picket_shared::policy::{Environment, Policy, Rules};

    #[test]
    fn a_second_replay_is_told_when_to_come_back() {
        let turn = Turn::default();
        let first = turn.take().unwrap();
        let answer = turn.take().unwrap_err().into_response();
        assert_eq!(
            (answer.status(), &answer.headers()["retry-after"]),
            (StatusCode::TOO_MANY_REQUESTS, &"5".parse().unwrap())
        );
        drop(first);
        assert!(turn.take().is_ok());
    }

    #[tokio::test]
    async fn what_a_replay_may_cost_is_bounded_and_the_answer_says_how_far_it_came() {
        let folder = tempfile::tempdir().unwrap();
        let store = AuditStore::open(&format!("sqlite:{}", folder.path().join("audit.db").display())).await.unwrap();
        let at = |n: u64| Timestamp::from_millis(1_764_000_000_000 + n);
        let ip = [192, 0, 2, 1].into();
        let record = |n| AuditRecord::new(EventType::ConnectionAttempt, Severity::Low, ip, "in", at(n));
        let records: Vec<_> = (0..2500).map(record).collect();
        store.insert(&records.iter().collect::<Vec<_>>()).await.unwrap();
        let replay = || {
            let rules = Rules::compile(Policy::default(), Environment::Production).unwrap();
            Replay::new(Policy::default(), rules)
        };
        let span = Span { since: at(0), until: at(10_000) };
        let of = async |records, time| {
            let (read, _) = read(&store, span, replay(), Budget { records, time }).await.unwrap();
            (read.records, read.first, read.until, read.is_complete)
        };
        let minute = Duration::from_secs(60);
        assert_eq!(of(10_000, minute).await, (2500, Some(at(0)), at(10_000), true));
        assert_eq!(of(1500, minute).await, (2000, Some(at(0)), at(1999), false));
        assert_eq!(of(10_000, Duration::ZERO).await, (0, None, at(0), false));
    }
}
