//! `POST /v1/check/connection`: may this connection come in, or stay? `DELETE …/{id}`: it has ended.
//!
//! A connection that has a name holds its slot until it is ended or idle. Asked about again under that name, it is renewed: held
//! to what an open session must meet, charged to no rate, and completed by a token that came later (Socket.IO's CONNECT).

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use picket_shared::clock::Timestamp;
use picket_shared::policy::{Mistake, Origin};
use picket_shared::random;
use picket_shared::reason::Reason;
use picket_shared::secret::Secret;
use picket_shared::state::refund_all;
use picket_shared::telemetry::Trace;
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;

use super::CheckApi;
use super::body::Asked;
use super::connections::{Full, Talk};
use super::problem::Problem;
use super::verdict::Verdict;
use crate::admission::{Admitted, Screened, complete, count_handshake, screen};
use crate::attempt::{Attempt, ClaimedOrigin};
use crate::checks::upgrade_rate;
use crate::decide::{self, Case, Stage};
use crate::pardons::Pardons;
use crate::refusal::{Denial, Refusal};
use crate::stopwatch::Stopwatch;

/// what audit names as the route
const ROUTE: &str = "/v1/check";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Fields {
    ip: String,
    origin: Option<String>,
    token: Option<Secret>,
    user_agent: Option<String>,
    connection_id: Option<String>,
}

/// a connection that asks to come in, or to stay
struct Question {
    id: Option<Arc<str>>,
    attempt: Attempt,
    token: Option<Secret>,
    user_agent: Option<String>,
}

pub async fn check(State(api): State<Arc<CheckApi>>, asked: Asked) -> Result<Response, Problem> {
    let question =
        question(&api, asked.fields()?, asked.trace.clone()).map_err(|problem| problem.written_in(asked.answer_in))?;
    let now = api.gate.clock.now();
    let outcome = match api.renew(&question, now).await {
        Some(outcome) => outcome,
        None => api.come_in(question, now).await,
    };
    let verdict = outcome.map_or_else(|denial| Verdict::refused(&denial, None), |()| Verdict::ALLOWED);
    verdict.written_in(asked.answer_in)
}

pub async fn end(State(api): State<Arc<CheckApi>>, Path(id): Path<String>) -> StatusCode {
    api.connections.remove(&id);
    StatusCode::NO_CONTENT
}

fn question(api: &CheckApi, fields: Fields, trace: Option<Trace>) -> Result<Question, Problem> {
    let mut mistakes = Vec::new();
    let address = address(&fields.ip, &mut mistakes);
    let id = fields.connection_id.map(|id| identifier("connectionId", id, api.gate.limits.identifier_bytes_max));
    let id = id.transpose().unwrap_or_else(|mistake| {
        mistakes.push(mistake);
        None
    });
    let (Some(address), true) = (address, mistakes.is_empty()) else {
        return Err(Problem::mistakes(mistakes));
    };
    let attempt = Attempt { origin: origin(fields.origin), trace, ..attempt(id.clone(), address) };
    Ok(Question { id, attempt, token: fields.token, user_agent: fields.user_agent })
}

/// an attempt of which nothing else is known
pub(super) fn attempt(id: Option<Arc<str>>, address: IpAddr) -> Attempt {
    Attempt {
        id: id.unwrap_or_else(|| random::hex(16).into()),
        address,
        origin: ClaimedOrigin::Missing,
        token: None,
        route: ROUTE.into(),
        trace: None,
    }
}

pub(super) fn address(text: &str, mistakes: &mut Vec<Mistake>) -> Option<IpAddr> {
    let address = text.parse().ok().map(picket_shared::address::canonical);
    if address.is_none() {
        mistakes.push(Mistake::new("ip", "must be one address such as 192.0.2.7 or 2001:db8::7"));
    }
    address
}

pub(super) fn identifier(field: &str, text: String, bytes_max: usize) -> Result<Arc<str>, Mistake> {
    match text.len() {
        length if (1..=bytes_max).contains(&length) => Ok(text.into()),
        _ => {
            Err(Mistake::new(field, format!("must have from 1 to {bytes_max} bytes (node.limits.identifierBytesMax)")))
        }
    }
}

fn origin(text: Option<String>) -> ClaimedOrigin {
    match text {
        None => ClaimedOrigin::Missing,
        Some(text) => Origin::parse(&text).map_or(ClaimedOrigin::Unusable(text), ClaimedOrigin::Page),
    }
}

impl CheckApi {
    /// `None` if no such connection is open under this name
    async fn renew(&self, question: &Question, now: Timestamp) -> Option<Result<(), Denial>> {
        let id = question.id.as_deref()?;
        let known = self.connections.find(id, now)?;
        let mut talk = known.talk.lock().await;
        let is_same =
            talk.attempt.address == question.attempt.address && talk.attempt.origin == question.attempt.origin;
        if !is_same || talk.ended.is_some() {
            return None;
        }
        let (screened, admitted) = talk.entry.take()?;
        talk.entry = Some((Screened { rate: Default::default() }, admitted.clone()));
        let renewed = self.stay(&mut talk, &screened, admitted, question, now).await;
        Some(match renewed {
            Ok(admitted) => {
                talk.becomes(screened, admitted);
                Ok(())
            }
            Err(refusal) => {
                let case = Case { principal: talk.principal(), ..question.case(Stage::Session) };
                let denial = decide::refuse(&self.gate, case, refusal);
                talk.end(denial.clone());
                Err(denial)
            }
        })
    }

    async fn stay(
        &self,
        talk: &mut Talk,
        screened: &Screened,
        admitted: Admitted,
        question: &Question,
        now: Timestamp,
    ) -> Result<Admitted, Refusal> {
        let Some(token) = &question.token else {
            talk.may_stay(&self.gate, &admitted.principal, now)?;
            return Ok(admitted);
        };
        let held = [admitted];
        let mut pardons = Pardons::by(&self.gate);
        let stopwatch = Stopwatch::of_admission();
        let new = complete(&self.gate, screened, &talk.attempt, Some(token), &held, &mut pardons, now).await;
        stopwatch.stop(&self.gate);
        decide::pardoned(&self.gate, question.case(Stage::Session), pardons);
        let new = new?;
        talk.may_stay(&self.gate, &new.principal, now)?;
        if !held[0].principal.is_same(&new.principal) {
            decide::came_in(&self.gate, question.case(Stage::Admission), &new.principal);
        }
        Ok(new)
    }

    async fn come_in(&self, question: Question, now: Timestamp) -> Result<(), Denial> {
        let gate = &self.gate;
        let mut pardons = Pardons::by(gate);
        let counted = count_handshake(gate, question.attempt.address, &mut pardons, now);
        decide::pardoned(gate, question.case(Stage::Handshake), pardons);
        counted.map_err(|denial| self.refuse(&question, Stage::Handshake, denial))?;
        gate.memory
            .check()
            .and_then(|()| upgrade_rate::check(&gate.upgrades, now, u16::from_le_bytes(random::bytes())))
            .map_err(|denial| self.refuse(&question, Stage::Handshake, denial))?;
        let mut pardons = Pardons::by(gate);
        let stopwatch = Stopwatch::of_admission();
        let admitted = self.admit(&question, &mut pardons, now).await;
        stopwatch.stop(gate);
        decide::pardoned(gate, question.case(Stage::Admission), pardons);
        let (mut screened, admitted) = admitted.map_err(|refusal| self.refuse(&question, Stage::Admission, refusal))?;
        let rate = std::mem::take(&mut screened.rate);
        let principal = admitted.principal.clone();
        if let Some(id) = question.id.clone() {
            let talk = Talk::new(question.attempt.clone(), Some((screened, admitted)), &gate.traffic, now);
            if let Err(Full) = self.connections.insert(id, talk, now) {
                refund_all(&*gate.counters, rate).await;
                return Err(self.refuse(&question, Stage::Admission, full().of(&principal)));
            }
        }
        decide::came_in(gate, question.case(Stage::Admission), &principal);
        Ok(())
    }

    /// both steps of admission, as one: the application says all that it knows
    async fn admit(
        &self,
        question: &Question,
        pardons: &mut Pardons,
        now: Timestamp,
    ) -> Result<(Screened, Admitted), Refusal> {
        let screened = screen(&self.gate, &question.attempt, pardons, now).await?;
        let token = question.token.as_ref();
        let admitted = complete(&self.gate, &screened, &question.attempt, token, &[], pardons, now).await?;
        Ok((screened, admitted))
    }

    /// records the refusal; what was open under this name is not open any more
    fn refuse(&self, question: &Question, stage: Stage, refusal: impl Into<Refusal>) -> Denial {
        if let Some(id) = &question.id {
            self.connections.remove(id);
        }
        decide::refuse(&self.gate, question.case(stage), refusal)
    }
}

pub(super) fn full() -> Denial {
    Denial::from(Reason::Overload).because("node.limits.checkConnectionsMax")
}

impl Question {
    fn case(&self, stage: Stage) -> Case<'_> {
        Case { user_agent: self.user_agent.as_deref(), ..Case::of(&self.attempt, stage) }
    }
}
