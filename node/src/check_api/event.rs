//! `POST /v1/check/event`: may this event pass, and with which payload?
//!
//! A connection that did not come in by the connection check is known from its first event on: it has its own windows and
//! violations, and no slot. Who speaks is whom the application names, else whom the connection's token named, else nobody.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use picket_shared::clock::Timestamp;
use picket_shared::policy::Mistake;
use picket_shared::reason::Reason;
use picket_shared::telemetry::Trace;
use picket_shared::token::{Principal, User};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::net::IpAddr;
use std::sync::Arc;
use tokio_tungstenite::tungstenite::Message;

use super::CheckApi;
use super::body::{Asked, Payload};
use super::connection::{address, attempt, full, identifier};
use super::connections::{Known, Talk};
use super::problem::Problem;
use super::verdict::{Rewritten, Verdict};
use crate::attempt::Attempt;
use crate::content::{Flaw, texts};
use crate::decide::{self, Case, Stage};
use crate::gate::Gate;
use crate::inspection::{self, Body, Event, Speaker, inspect};
use crate::pardons::Pardons;
use crate::protocol::msgpack;
use crate::refusal::Denial;
use crate::session::{Step, record};
use crate::stopwatch::Stopwatch;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Fields {
    connection_id: String,
    ip: String,
    user: Option<String>,
    roles: Option<Vec<String>>,
    event: String,
    /// of a JSON body; that of a MessagePack body stays apart
    payload: Option<Box<RawValue>>,
    size: Option<usize>,
}

/// an event that asks to pass
struct Question {
    id: Arc<str>,
    address: IpAddr,
    user: Option<Principal>,
    event: String,
    payload: Option<Payload>,
    size: usize,
    trace: Option<Trace>,
}

pub async fn check(State(api): State<Arc<CheckApi>>, asked: Asked) -> Result<Response, Problem> {
    let (fields, payload) = asked.fields_and_payload(|fields: &Fields| fields.payload.as_deref())?;
    let question = question(&api.gate, fields, payload, asked.trace.clone())
        .map_err(|problem| problem.written_in(asked.answer_in))?;
    let now = api.gate.clock.now();
    let verdict = match api.known(&question, now) {
        Ok(known) => match api.tasks.isolate("event", answer(&api.gate, &known, &question, now)).await {
            Some(verdict) => verdict,
            None => Ok(known.fails(&api.gate).await),
        },
        Err(denial) => Ok(Verdict::refused(&denial, None)),
    };
    verdict.map_err(|problem| problem.written_in(asked.answer_in))?.written_in(asked.answer_in)
}

fn question(gate: &Gate, fields: Fields, payload: Option<Payload>, trace: Option<Trace>) -> Result<Question, Problem> {
    let mut mistakes = Vec::new();
    let address = address(&fields.ip, &mut mistakes);
    let id = identifier("connectionId", fields.connection_id, gate.limits.identifier_bytes_max);
    let user = user(fields.user, fields.roles);
    match (address, id, user) {
        (Some(address), Ok(id), Ok(user)) => {
            let size = fields.size.unwrap_or_default();
            Ok(Question { id, address, user, event: fields.event, payload, size, trace })
        }
        (_, id, user) => {
            mistakes.extend(id.err().into_iter().chain(user.err()));
            Err(Problem::mistakes(mistakes))
        }
    }
}

fn user(id: Option<String>, roles: Option<Vec<String>>) -> Result<Option<Principal>, Mistake> {
    match (id, roles) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Mistake::new("roles", "are those of a user: name one in `user`")),
        (Some(id), roles) => {
            let user = User::from_json(&Value::from(id), roles.map(Value::from).as_ref());
            let user =
                user.ok_or_else(|| Mistake::new("user", "must have from 1 to 256 bytes, and at most 64 roles"))?;
            Ok(Some(Principal::User(user)))
        }
    }
}

impl CheckApi {
    fn known(&self, question: &Question, now: Timestamp) -> Result<Arc<Known>, Denial> {
        if let Some(known) = self.connections.find(&question.id, now) {
            return Ok(known);
        }
        let attempt = attempt(Some(question.id.clone()), question.address);
        let talk = Talk::new(attempt.clone(), None, &self.gate.traffic, now);
        let inserted = self.connections.insert(question.id.clone(), talk, now);
        inserted.map_err(|_| decide::refuse(&self.gate, Case::of(&attempt, Stage::Session), full()))
    }
}

impl Known {
    /// a panic ends one connection, as at the proxy
    async fn fails(&self, gate: &Gate) -> Verdict {
        let mut talk = self.talk.lock().await;
        let case = Case { principal: talk.principal(), ..Case::of(&talk.attempt, Stage::Session) };
        let denial = decide::refuse(gate, case, Reason::InternalError);
        talk.end(denial.clone());
        ending(&denial)
    }
}

async fn answer(gate: &Gate, known: &Known, question: &Question, now: Timestamp) -> Result<Verdict, Problem> {
    let mut talk = known.talk.lock().await;
    if talk.attempt.address != question.address {
        let detail = "ip: this connection came from another address; give a new connection a new connectionId";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    if let Some(denial) = &talk.ended {
        return Ok(ending(denial));
    }
    let speaker = speaker(&talk, question.user.as_ref());
    if let Err(denial) = talk.may_stay(gate, &speaker, now) {
        let case = Case { principal: Some(&speaker), ..Case::of(&talk.attempt, Stage::Session) };
        let denial = decide::refuse(gate, case, denial);
        talk.end(denial.clone());
        return Ok(ending(&denial));
    }
    talk.shows(&speaker);
    Ok(hear(gate, &mut talk, &speaker, question, now).await)
}

/// whom the application names; the connection's own user has the roles of its token, unless the application says others
fn speaker(talk: &Talk, named: Option<&Principal>) -> Principal {
    let own = talk.principal();
    match (named, own) {
        (Some(named), Some(own)) if named.is_same(own) && named.roles().next().is_none() => own.clone(),
        (Some(named), _) => vouched_for(named, talk),
        (None, own) => own.cloned().unwrap_or(Principal::Anonymous),
    }
}

/// the application vouches for whom it names since the connection is known: a revocation of that user ends the connection
fn vouched_for(named: &Principal, talk: &Talk) -> Principal {
    match named {
        Principal::Anonymous => Principal::Anonymous,
        Principal::User(user) => Principal::User(User { issued: Some(talk.since), ..user.clone() }),
    }
}

/// the event pipeline, and what follows from its answer
async fn hear(gate: &Gate, talk: &mut Talk, speaker: &Principal, question: &Question, now: Timestamp) -> Verdict {
    let read = Read::of(question.payload.as_ref());
    let attempt = Attempt { trace: question.trace.clone(), ..talk.attempt.clone() };
    let case = Case {
        principal: Some(speaker),
        event: Some(&question.event),
        message: Some(&read.frame),
        ..Case::of(&attempt, Stage::Inspection)
    };
    let too_long = question.event.len() > gate.limits.identifier_bytes_max;
    let event = Event {
        frame: &read.frame,
        size: question.size.max(read.size),
        name: Some(&question.event),
        is_named_protocol: true,
        flaw: if too_long { Some(Flaw::Malformed("event name too long")) } else { read.flaw },
        body: Body::Json { text: read.text(), name_at: None, payload: inspection::Payload::Whole, packed_at: None },
    };
    let mut voice = Speaker { principal: speaker, address: attempt.address, rates: &mut talk.rates };
    let mut pardons = Pardons::by(gate);
    let stopwatch = Stopwatch::of_inspection(now);
    let outcome = inspect(gate, &mut voice, &event, &mut pardons, now).await;
    stopwatch.stop(gate);
    match record(gate, case, outcome, pardons, &mut talk.violations.pardoned) {
        Ok(cleared) => Verdict { payload: read.rewritten(cleared.into_message(), question), ..Verdict::ALLOWED },
        Err(denial) => match talk.violations.refused(gate, denial.clone(), Vec::new()) {
            Step::End(_, denial) => {
                talk.end(denial.clone());
                ending(&denial)
            }
            _ => Verdict::refused(&denial, None),
        },
    }
}

fn ending(denial: &Denial) -> Verdict {
    Verdict::refused(denial, Some(denial.reason.consequence().close_code))
}

/// a payload as the checks see it: JSON text
struct Read {
    frame: Message,
    size: usize,
    flaw: Option<Flaw>,
}

impl Read {
    /// an event without a payload is checked as one with `null`
    fn of(payload: Option<&Payload>) -> Self {
        match payload {
            None => Read { frame: Message::text("null"), size: 0, flaw: None },
            Some(Payload::Json(text)) => Read { frame: Message::text(&**text), size: text.len(), flaw: None },
            Some(Payload::MsgPack(bytes)) => match msgpack::to_json(bytes) {
                Ok(json) => Read { frame: Message::text(json), size: bytes.len(), flaw: None },
                Err(unreadable) => {
                    Read { frame: Message::Binary(bytes.clone()), size: bytes.len(), flaw: Some(unreadable.into()) }
                }
            },
        }
    }

    fn text(&self) -> &str {
        match &self.frame {
            Message::Text(text) => text,
            _ => "null",
        }
    }

    /// the cleared payload, where it is not the one that came
    fn rewritten(&self, cleared: Message, question: &Question) -> Option<Rewritten> {
        let (Message::Text(new), Message::Text(old)) = (cleared, &self.frame) else {
            return None;
        };
        match (&question.payload, new == *old) {
            (None, _) | (_, true) => None,
            (Some(Payload::Json(_)), _) => Some(Rewritten::Json(new.to_string())),
            // What was read as JSON can be written again.
            (Some(Payload::MsgPack(bytes)), _) => msgpack::with_texts(bytes, texts(&new)).ok().map(Rewritten::MsgPack),
        }
    }
}
