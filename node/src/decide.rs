//! The one place where outcomes are recorded: once each, as audit record, metric, span and count.
//!
//! Checks decide and say nothing; whoever runs a pipeline comes here with what it answered.

use picket_shared::appeal::AppealCode;
use picket_shared::audit::{AuditRecord, EXCERPT_BYTES_MAX, EventType, IDENTIFIER_BYTES_MAX, Severity, printable};
use picket_shared::hex;
use picket_shared::reason::Reason;
use picket_shared::state::Refused;
use picket_shared::telemetry::Trace;
use picket_shared::token::Principal;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::atomic::Ordering;
use std::time::SystemTime;
use tokio_tungstenite::tungstenite::Message;

use crate::attempt::{Attempt, ClaimedOrigin};
use crate::checks::content::Observation;
use crate::gate::Gate;
use crate::pardons::{Notes, Pardons};
use crate::refusal::{Denial, Refusal};
use crate::spans;

/// where in a connection's life an outcome belongs
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Handshake,
    Admission,
    Inspection,
    /// an open session, at no event of its own
    Session,
}

impl Stage {
    pub const ALL: [Stage; 4] = [Stage::Handshake, Stage::Admission, Stage::Inspection, Stage::Session];

    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Handshake => "handshake",
            Stage::Admission => "admission",
            Stage::Inspection => "inspection",
            Stage::Session => "session",
        }
    }

    /// what is refused there
    const fn hit(self) -> Refused {
        match self {
            Stage::Handshake | Stage::Admission => Refused::Connection,
            Stage::Inspection => Refused::Event,
            Stage::Session => Refused::Session,
        }
    }
}

/// whom and what an outcome is about
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub stage: Stage,
    pub attempt: &'a Attempt,
    pub principal: Option<&'a Principal>,
    pub event: Option<&'a str>,
    pub message: Option<&'a Message>,
    /// what the client calls itself, where it was told
    pub user_agent: Option<&'a str>,
    /// when it began, for its span; `None` where traces go nowhere
    pub started: Option<SystemTime>,
}

impl<'a> Case<'a> {
    pub fn of(attempt: &'a Attempt, stage: Stage) -> Self {
        let started = attempt.trace.as_ref().map(Trace::begun);
        Case { stage, attempt, principal: None, event: None, message: None, user_agent: None, started }
    }
}

/// applies the stance for outages, records the refusal once, and gives the decision to carry out
pub fn refuse(gate: &Gate, case: Case<'_>, refusal: impl Into<Refusal>) -> Denial {
    let mut denial = Denial::from(refusal.into());
    gate.traffic.count_refusal(denial.reason, case.stage.hit());
    let recorded = spans::refused(gate, &case, denial.reason);
    gate.instruments.refused(case.stage, denial.reason, recorded);
    let record = AuditRecord::refusal(denial.reason, case.attempt.address, gate.clock.now());
    denial.appeal = AppealCode::of(&record.id);
    gate.outbox.record(describe(gate, about(&denial, case), with_facts(record, &denial), denial.detail.as_deref()));
    denial
}

/// records a refusal that is on no client's account, since a trusted proxy stands for many: without the reason that is scored
pub fn refuse_unscored(gate: &Gate, case: Case<'_>, mut denial: Denial) -> Denial {
    gate.traffic.count_refusal(denial.reason, Refused::Connection);
    gate.instruments.refused(case.stage, denial.reason, None);
    let record = AuditRecord::refusal(denial.reason, case.attempt.address, gate.clock.now());
    let record = AuditRecord { reason: None, ..record }.with("refusedFor", denial.reason.token());
    denial.appeal = AppealCode::of(&record.id);
    gate.outbox.record(describe(gate, about(&denial, case), with_facts(record, &denial), denial.detail.as_deref()));
    denial
}

/// records what passed only because its rule is in shadow: for nobody's score, and before all else dropped where there is too much
pub fn pardoned(gate: &Gate, case: Case<'_>, pardons: Pardons) {
    pardoned_if(gate, case, pardons, |_| true);
}

/// the same of an event; of one connection so many are recorded, and all are counted
pub fn pardoned_event(gate: &Gate, case: Case<'_>, pardons: Pardons, notes: &mut Notes) {
    pardoned_if(gate, case, pardons, |reason| notes.take(reason));
}

fn pardoned_if(gate: &Gate, case: Case<'_>, pardons: Pardons, mut is_recorded: impl FnMut(Reason) -> bool) {
    for denial in pardons.granted {
        gate.instruments.pardoned(case.stage, denial.reason);
        if !is_recorded(denial.reason) {
            continue;
        }
        let record = AuditRecord::refusal(denial.reason, case.attempt.address, gate.clock.now());
        let record = AuditRecord { reason: None, severity: Severity::Low, ..record };
        let record = with_facts(record.with("shadow", true).with("refusedFor", denial.reason.token()), &denial);
        gate.outbox.record(describe(gate, about(&denial, case), record, denial.detail.as_deref()));
    }
}

/// records who came in
pub fn admitted(gate: &Gate, attempt: &Attempt, principal: &Principal) {
    came_in(gate, Case::of(attempt, Stage::Admission), principal);
}

/// the same, with what else is known of the case
pub fn came_in(gate: &Gate, case: Case<'_>, principal: &Principal) {
    gate.instruments.allowed(case.stage);
    gate.traffic.admissions.fetch_add(1, Ordering::Relaxed);
    let (kind, message) = match principal {
        Principal::Anonymous => (EventType::ConnectionAttempt, "anonymous connection admitted"),
        Principal::User(_) => (EventType::AuthenticationSuccess, "authenticated connection admitted"),
    };
    let record = AuditRecord::new(kind, Severity::Low, case.attempt.address, message, gate.clock.now());
    let case = Case { principal: Some(principal), ..case };
    spans::admitted(gate, &case);
    gate.outbox.record(describe(gate, case, record, None));
}

/// records what was noticed of an event that passed
pub fn observed(gate: &Gate, case: Case<'_>, observation: &Observation) {
    gate.instruments.observed(observation.reason);
    let record = AuditRecord::refusal(observation.reason, case.attempt.address, gate.clock.now()).with("passed", true);
    let record = observation.facts.iter().fold(record, |record, (fact, value)| record.with(fact, value.clone()));
    gate.outbox.record(describe(gate, case, record, Some(&observation.detail)));
}

/// counts an event that passed
pub fn cleared(gate: &Gate, case: &Case<'_>) {
    spans::cleared(gate, case);
    gate.traffic.events.fetch_add(1, Ordering::Relaxed);
}

/// a check knows better than whoever runs it whom it refused
fn about<'a>(denial: &'a Denial, case: Case<'a>) -> Case<'a> {
    Case { principal: denial.principal.as_deref().or(case.principal), ..case }
}

fn with_facts(mut record: AuditRecord, denial: &Denial) -> AuditRecord {
    record.metadata.extend(denial.facts.iter().flat_map(|facts| (**facts).clone()));
    record
}

fn describe(gate: &Gate, case: Case<'_>, mut record: AuditRecord, detail: Option<&str>) -> AuditRecord {
    record.socket_id = Some(case.attempt.id.to_string());
    record.user_id = case.principal.and_then(Principal::user).map(|user| printable(&user.id, IDENTIFIER_BYTES_MAX));
    record.event_name = case.event.map(|name| printable(name, IDENTIFIER_BYTES_MAX));
    record.route = Some(case.attempt.route.to_string());
    record.node = Some(gate.node.to_string());
    if let Some(session) = case.principal.and_then(Principal::user).and_then(|user| user.session.as_deref()) {
        record = record.with("session", session);
    }
    if let Some(detail) = detail {
        record = record.with("detail", printable(detail, IDENTIFIER_BYTES_MAX));
    }
    if let Some(agent) = case.user_agent {
        record = record.with("userAgent", printable(agent, IDENTIFIER_BYTES_MAX));
    }
    if let Some(message) = case.message {
        record = with_excerpt(record, message);
    }
    if let Some(geo) = &gate.geo {
        let place = geo.place(case.attempt.address);
        record.metadata.extend(place.country.map(|country| ("country".to_owned(), country.to_string().into())));
        record.metadata.extend(place.asn.map(|asn| ("asn".to_owned(), asn.into())));
    }
    if case.stage == Stage::Admission {
        record = record.with("origin", told(&case.attempt.origin));
    }
    record.with("stage", case.stage.as_str()).with("policyVersion", gate.policy.version())
}

/// a page as itself, `null` where none was said; what is no origin is told so that it is none to whoever reads it again
fn told(origin: &ClaimedOrigin) -> Value {
    match origin {
        ClaimedOrigin::Missing => Value::Null,
        ClaimedOrigin::Page(page) => page.to_string().into(),
        ClaimedOrigin::Unusable(text) => format!("unusable: {}", printable(text, EXCERPT_BYTES_MAX)).into(),
    }
}

/// what a record keeps of a message: its size, its hash, and the first few bytes, escaped; whoever passes one knows that no
/// secret is in it
fn with_excerpt(record: AuditRecord, message: &Message) -> AuditRecord {
    let bytes = match message {
        Message::Text(text) => text.as_bytes(),
        Message::Binary(bytes) => bytes,
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => return record,
    };
    let hash = hex::encode(&Sha256::digest(bytes)[..16]);
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * EXCERPT_BYTES_MAX)]);
    record.with("bytes", bytes.len()).with("sha256", hash).with("excerpt", printable(&head, EXCERPT_BYTES_MAX))
}
