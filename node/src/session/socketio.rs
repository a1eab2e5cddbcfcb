//! A Socket.IO conversation: namespaces that are each admitted by their CONNECT, events, acks, and binary attachments.

use bytes::Bytes;
use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use picket_shared::secret::Secret;
use picket_shared::token::Principal;
use serde_json::{Value, json};
use std::ops::Range;
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

use super::presence::Presence;
use super::step::{Deadline, Step, Violations, record};
use crate::admission::{Admitted, Screened, complete};
use crate::attempt::Attempt;
use crate::checks::event_rate;
use crate::config::{Limits, Parser};
use crate::decide::{self, Case, Stage};
use crate::gate::Gate;
use crate::inspection::{
    Body, Cleared, Event, Inspected, Payload, Rates, Speaker, inspect, inspect_ack, inspect_connect,
};
use crate::pardons::Pardons;
use crate::pending::Place;
use crate::protocol::socketio::{
    self, Call, ClientPacket, Kind, Packet, PacketBounds, PacketError, Reply, ServerPacket,
};
use crate::protocol::{EventField, locate};
use crate::refusal::{Denial, Refusal};
use crate::stopwatch::Stopwatch;

/// what the origin document says to a client whose event was refused
const EVENT_REJECTED: &str = "Event rejected by security policy";

pub struct SocketIo {
    parser: Parser,
    screened: Screened,
    presence: Presence,
    /// while no namespace is admitted: at first, and again when the last one is left
    waiting: Option<Waiting>,
    namespaces: Vec<Namespace>,
    attachments: Option<Attachments>,
    rates: Rates,
    violations: Violations,
    /// heartbeats of the upstream that the client has not answered
    pings: u32,
}

/// a connection that has to say who it is
struct Waiting {
    /// `None` if the pool was full when the last namespace was left
    _place: Option<Place>,
    due: Timestamp,
    /// whose delay it is
    reason: Reason,
}

struct Namespace {
    name: String,
    stage: NamespaceStage,
}

enum NamespaceStage {
    /// admitted, and the upstream has not answered yet
    Joining(Admitted),
    Joined(Admitted),
    /// left; a client's late packets are dropped, as it could not know
    Left,
}

/// binary messages that are due after a packet that announced them
struct Attachments {
    /// the packet and the attachments so far; `None` if the packet was refused
    held: Option<Vec<Cleared>>,
    missing: usize,
    /// of the packet and its attachments
    bytes: usize,
    due: Timestamp,
}

impl SocketIo {
    pub fn new(
        parser: Parser,
        screened: Screened,
        presence: Presence,
        place: Place,
        now: Timestamp,
        limits: &Limits,
    ) -> Self {
        // Until the upstream has opened, the client cannot speak: the delay is the upstream's.
        let upstream = limits.upstream_connect_timeout_ms.saturating_add(limits.upstream_header_timeout_ms);
        let due = now.plus(Duration::from_millis(upstream.saturating_add(limits.connect_timeout_ms)));
        SocketIo {
            parser,
            screened,
            presence,
            waiting: Some(Waiting { _place: Some(place), due, reason: Reason::UpstreamSlow }),
            namespaces: Vec::new(),
            attachments: None,
            rates: Rates::default(),
            violations: Violations::default(),
            pings: 0,
        }
    }

    pub fn principals(&self) -> impl Iterator<Item = &Principal> {
        self.namespaces.iter().filter_map(Namespace::admitted).map(|admitted| &admitted.principal)
    }

    /// when the next CONNECT or attachment is overdue
    pub fn deadline(&self) -> Deadline {
        let connect = self.waiting.as_ref().map(|waiting| (waiting.due, waiting.reason));
        let attachment = self.attachments.as_ref().map(|attachments| (attachments.due, Reason::Slow));
        connect.into_iter().chain(attachment).min_by_key(|(due, _)| *due)
    }

    pub async fn client_says(&mut self, gate: &Gate, attempt: &Attempt, message: Message, now: Timestamp) -> Step {
        match self.parser.read(&message, &bounds(gate)) {
            Ok(packet) => self.packet(gate, attempt, &message, packet, now).await,
            Err(error) => self.end(gate, attempt, &message, error),
        }
    }

    pub fn upstream_says(&mut self, gate: &Gate, attempt: &Attempt, message: &Message, now: Timestamp) {
        match self.parser.read_server(message) {
            ServerPacket::Open => {
                if let Some(waiting) = &mut self.waiting {
                    *waiting =
                        Waiting { due: connect_due(gate, now), reason: Reason::Slow, _place: waiting._place.take() };
                }
            }
            ServerPacket::Ping => self.pings = self.pings.saturating_add(1),
            ServerPacket::Connected(name) => {
                if let Some(namespace) = self.namespace(&name) {
                    namespace.join();
                }
            }
            ServerPacket::Disconnected(name) | ServerPacket::ConnectError(name) => {
                self.leave(gate, attempt, &name, now)
            }
            ServerPacket::Other => {}
        }
    }

    /// gives back what the namespace held; a connection that has left all of them waits for a CONNECT again
    fn leave(&mut self, gate: &Gate, attempt: &Attempt, name: &str, now: Timestamp) {
        if let Some(namespace) = self.namespace(name) {
            namespace.stage = NamespaceStage::Left;
        }
        if self.waiting.is_none() && self.principals().next().is_none() {
            let place = gate.waits_for_connect(attempt.address).ok();
            self.waiting = Some(Waiting { _place: place, due: connect_due(gate, now), reason: Reason::Slow });
        }
    }

    /// counts a packet that is no event against the connection's own limits; a step if it is one too many
    fn charge(&mut self, gate: &Gate, attempt: &Attempt, now: Timestamp) -> Option<Step> {
        let limits = &gate.policy.current().limits;
        let mut pardons = Pardons::by(gate);
        let counted = pardons.ask(event_rate::check(&mut self.rates.connection, limits, now));
        let case = case_of(&self.namespaces, attempt, Stage::Inspection);
        decide::pardoned_event(gate, case, pardons, &mut self.violations.pardoned);
        let denial = decide::refuse(gate, case, counted.err()?);
        Some(self.violations.refused(gate, denial, Vec::new()))
    }

    fn namespace(&mut self, name: &str) -> Option<&mut Namespace> {
        self.namespaces.iter_mut().find(|namespace| namespace.name == name)
    }

    async fn packet(
        &mut self,
        gate: &Gate,
        attempt: &Attempt,
        message: &Message,
        packet: ClientPacket<'_>,
        now: Timestamp,
    ) -> Step {
        let Packet { namespace, kind } = match packet {
            ClientPacket::Close => return Step::Leave,
            ClientPacket::Pong if self.pings > 0 => {
                self.pings -= 1;
                return Step::Forward(Cleared::protocol(message.clone()));
            }
            ClientPacket::Pong => return self.charge(gate, attempt, now).unwrap_or(Step::Nothing),
            ClientPacket::Attachment(bytes) => return self.attachment(gate, attempt, bytes.clone()),
            // Engine.IO's own packets may come between attachments, Socket.IO's may not.
            ClientPacket::Message(_) if self.attachments.is_some() => {
                let error = PacketError::Malformed("a packet where an attachment was due");
                return self.end(gate, attempt, message, error);
            }
            ClientPacket::Message(packet) => packet,
        };
        let namespace = namespace.as_ref();
        if let Kind::Connect(auth) = kind {
            return Box::pin(self.connect(gate, attempt, message, namespace, auth, now)).await;
        }
        let admitted = match self.namespace(namespace).map(|namespace| &namespace.stage) {
            Some(NamespaceStage::Joined(admitted)) => admitted.clone(),
            Some(NamespaceStage::Left) => return self.late(gate, attempt, &kind, now),
            Some(NamespaceStage::Joining(_)) | None => {
                let error = PacketError::OutOfPlace("a packet for a namespace that is not joined");
                return self.end(gate, attempt, message, error);
            }
        };
        match kind {
            Kind::Disconnect => {
                self.leave(gate, attempt, namespace, now);
                Step::Forward(Cleared::protocol(message.clone()))
            }
            Kind::Event(call) => self.event(gate, attempt, message, namespace, &call, &admitted, now).await,
            Kind::Ack(reply) => self.ack(gate, attempt, message, &reply, &admitted, now),
            Kind::Connect(_) => Step::Nothing,
        }
    }

    /// drops what was under way when the namespace was left, attachments too
    fn late(&mut self, gate: &Gate, attempt: &Attempt, kind: &Kind<'_>, now: Timestamp) -> Step {
        if let Some(step) = self.charge(gate, attempt, now) {
            return step;
        }
        let missing = match kind {
            Kind::Event(call) => call.attachments,
            Kind::Ack(reply) => reply.attachments,
            Kind::Connect(_) | Kind::Disconnect => 0,
        };
        self.expect(gate, missing, 0, None, now)
    }

    async fn connect(
        &mut self,
        gate: &Gate,
        attempt: &Attempt,
        message: &Message,
        name: &str,
        auth: Option<socketio::Payload<'_>>,
        now: Timestamp,
    ) -> Step {
        let full = self.namespaces.len() >= gate.limits.namespaces_max;
        match self.namespace(name).map(|namespace| &namespace.stage) {
            Some(NamespaceStage::Joining(_) | NamespaceStage::Joined(_)) => {
                return self.end(
                    gate,
                    attempt,
                    message,
                    PacketError::OutOfPlace("CONNECT to a namespace that is joined"),
                );
            }
            None if full => {
                let denial = Denial::from(Reason::Flood).because("node.limits.namespacesMax");
                let case = case_of(&self.namespaces, attempt, Stage::Admission);
                return Step::End(Vec::new(), decide::refuse(gate, case, denial));
            }
            // A namespace's first CONNECT is free; coming back is counted.
            Some(NamespaceStage::Left) => {
                if let Some(step) = self.charge(gate, attempt, now) {
                    return step;
                }
            }
            None => {}
        }
        let mut pardons = Pardons::by(gate);
        let admitted = self.admit(gate, attempt, message, auth.as_ref(), &mut pardons, now).await;
        decide::pardoned(gate, Case::of(attempt, Stage::Admission), pardons);
        match admitted {
            Ok((admitted, cleared)) => {
                self.enter(gate, attempt, name, admitted);
                Step::Forward(cleared)
            }
            Err(Refusal::Denied(denial)) if denial.reason == Reason::Malformed => {
                Step::End(Vec::new(), decide::refuse(gate, Case::of(attempt, Stage::Admission), denial))
            }
            Err(refusal) => {
                let denial = decide::refuse(gate, Case::of(attempt, Stage::Admission), refusal);
                let data = json!({
                    "reason": denial.reason.token(),
                    "retryAfterMs": denial.retry_after_ms(),
                    "appeal": denial.appeal.map(|code| code.to_string()),
                });
                let answer = self.parser.connect_error(name, denial.reason.consequence().message, data);
                self.violations.refused(gate, denial, vec![answer])
            }
        }
    }

    /// proves who connects; the packet is passed on with its auth object inspected like any payload, the token left alone
    async fn admit(
        &self,
        gate: &Gate,
        attempt: &Attempt,
        message: &Message,
        auth: Option<&socketio::Payload<'_>>,
        pardons: &mut Pardons,
        now: Timestamp,
    ) -> Result<(Admitted, Cleared), Refusal> {
        let named = auth.map_or(Ok(None), |auth| locate(&auth.json, &EventField::parse("token")));
        let named = match (named, auth) {
            (Ok(named), _) => named,
            (Err(_), Some(auth)) if has_null_token(&auth.json) => None,
            (Err(_), _) => {
                pardons.ask(Err::<(), _>(Denial::from(Reason::TokenInvalid).because("auth.token is not a string")))?;
                None
            }
        };
        let token_at = named.as_ref().map(|named| named.at.clone());
        let cleared = match auth {
            Some(auth) => inspect_auth(gate, attempt, message, auth, token_at, pardons)?,
            None => Cleared::protocol(message.clone()),
        };
        let token = named.map(|named| Secret::new(named.name.strip_prefix("Bearer ").unwrap_or(&named.name)));
        let token = gate.keys.sources.in_connect(token, attempt.token.as_ref());
        let held: Vec<_> = self.namespaces.iter().filter_map(Namespace::admitted).cloned().collect();
        let stopwatch = Stopwatch::of_admission();
        let admitted = complete(gate, &self.screened, attempt, token.as_ref(), &held, pardons, now).await;
        stopwatch.stop(gate);
        Ok((admitted?, cleared))
    }

    fn enter(&mut self, gate: &Gate, attempt: &Attempt, name: &str, admitted: Admitted) {
        decide::admitted(gate, attempt, &admitted.principal);
        self.presence.shows(&admitted.principal);
        self.waiting = None;
        let stage = NamespaceStage::Joining(admitted);
        match self.namespace(name) {
            Some(namespace) => namespace.stage = stage,
            None => self.namespaces.push(Namespace { name: name.to_owned(), stage }),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "an event is judged by who sent what where, and each is known by another part"
    )]
    async fn event(
        &mut self,
        gate: &Gate,
        attempt: &Attempt,
        message: &Message,
        namespace: &str,
        call: &Call<'_>,
        admitted: &Admitted,
        now: Timestamp,
    ) -> Step {
        let name = call.named.name.as_ref();
        let body = body(&call.payload, Some(call.named.at.clone()), Payload::Arguments);
        let event =
            Event { frame: message, size: message.len(), name: Some(name), is_named_protocol: true, flaw: None, body };
        let mut speaker = Speaker { principal: &admitted.principal, address: attempt.address, rates: &mut self.rates };
        let mut pardons = Pardons::by(gate);
        let stopwatch = Stopwatch::of_inspection(now);
        let outcome = inspect(gate, &mut speaker, &event, &mut pardons, now).await;
        stopwatch.stop(gate);
        let case = Case {
            principal: Some(&admitted.principal),
            event: Some(name),
            message: Some(message),
            ..Case::of(attempt, Stage::Inspection)
        };
        match record(gate, case, outcome, pardons, &mut self.violations.pardoned) {
            Ok(cleared) => self.expect(gate, call.attachments, message.len(), Some(cleared), now),
            Err(denial) if denial.reason == Reason::Malformed => Step::End(Vec::new(), denial),
            Err(denial) => {
                self.expect(gate, call.attachments, message.len(), None, now);
                let answers = self.refused_event(namespace, name, call.ack, &denial);
                self.violations.refused(gate, denial, answers)
            }
        }
    }

    fn ack(
        &mut self,
        gate: &Gate,
        attempt: &Attempt,
        message: &Message,
        reply: &Reply<'_>,
        admitted: &Admitted,
        now: Timestamp,
    ) -> Step {
        let body = body(&reply.payload, None, Payload::Whole);
        let event =
            Event { frame: message, size: message.len(), name: None, is_named_protocol: false, flaw: None, body };
        let mut speaker = Speaker { principal: &admitted.principal, address: attempt.address, rates: &mut self.rates };
        let mut pardons = Pardons::by(gate);
        let stopwatch = Stopwatch::of_inspection(now);
        let outcome: Result<Inspected, Refusal> = inspect_ack(gate, &mut speaker, &event, &mut pardons, now);
        stopwatch.stop(gate);
        let case = Case {
            principal: Some(&admitted.principal),
            message: Some(message),
            ..Case::of(attempt, Stage::Inspection)
        };
        match record(gate, case, outcome, pardons, &mut self.violations.pardoned) {
            Ok(cleared) => self.expect(gate, reply.attachments, message.len(), Some(cleared), now),
            Err(denial) if denial.reason == Reason::Malformed => Step::End(Vec::new(), denial),
            Err(denial) => {
                self.expect(gate, reply.attachments, message.len(), None, now);
                self.violations.refused(gate, denial, Vec::new())
            }
        }
    }

    /// holds a packet back until its attachments are there; a refused packet takes its attachments with it
    fn expect(&mut self, gate: &Gate, missing: usize, bytes: usize, cleared: Option<Cleared>, now: Timestamp) -> Step {
        match (missing, cleared) {
            (0, Some(cleared)) => Step::Forward(cleared),
            (0, None) => Step::Nothing,
            (missing, cleared) => {
                let due = now.plus(Duration::from_millis(gate.limits.message_timeout_ms));
                self.attachments = Some(Attachments { held: cleared.map(|packet| vec![packet]), missing, bytes, due });
                Step::Nothing
            }
        }
    }

    fn attachment(&mut self, gate: &Gate, attempt: &Attempt, bytes: Bytes) -> Step {
        let Some(mut due) = self.attachments.take() else {
            let error = PacketError::Malformed("a binary message that no packet announced");
            return self.end(gate, attempt, &Message::Binary(bytes), error);
        };
        due.bytes += bytes.len();
        if due.bytes > gate.policy.current().validation.payload_bytes_max {
            let denial = Denial::from(Reason::PayloadTooLarge).because("a packet and its attachments together");
            let case = case_of(&self.namespaces, attempt, Stage::Inspection);
            return Step::End(Vec::new(), decide::refuse(gate, case, denial));
        }
        if let Some(held) = &mut due.held {
            held.push(Cleared::attachment(bytes));
        }
        due.missing -= 1;
        if due.missing > 0 {
            self.attachments = Some(due);
            return Step::Nothing;
        }
        due.held.map_or(Step::Nothing, Step::ForwardAll)
    }

    /// the `error` event, and the ack if the client asked for one
    fn refused_event(&self, namespace: &str, event: &str, ack: Option<u64>, denial: &Denial) -> Vec<Message> {
        let error = json!({
            "message": EVENT_REJECTED,
            "event": event,
            "reason": denial.reason.token(),
            "retryAfterMs": denial.retry_after_ms(),
            "appeal": denial.appeal.map(|code| code.to_string()),
        });
        let mut answers = vec![self.parser.event(namespace, "error", &error)];
        if let Some(id) = ack {
            answers.push(self.parser.ack(namespace, id, &json!({ "error": error })));
        }
        answers
    }

    /// a packet that cannot be understood ends the session: what follows it cannot be understood either
    fn end(&self, gate: &Gate, attempt: &Attempt, message: &Message, error: PacketError) -> Step {
        let denial = match error {
            PacketError::Malformed(detail) => Denial::from(Reason::Malformed).because(detail),
            PacketError::OutOfPlace(detail) => Denial::from(Reason::ProtocolError).because(detail),
        };
        // A CONNECT holds a token: nothing of it is kept.
        let kept = Some(message).filter(|message| !self.parser.may_be_connect(message));
        let case = Case { message: kept, ..case_of(&self.namespaces, attempt, Stage::Inspection) };
        Step::End(Vec::new(), decide::refuse(gate, case, denial))
    }
}

impl Namespace {
    fn admitted(&self) -> Option<&Admitted> {
        match &self.stage {
            NamespaceStage::Joining(admitted) | NamespaceStage::Joined(admitted) => Some(admitted),
            NamespaceStage::Left => None,
        }
    }

    fn join(&mut self) {
        self.stage = match std::mem::replace(&mut self.stage, NamespaceStage::Left) {
            NamespaceStage::Joining(admitted) => NamespaceStage::Joined(admitted),
            other => other,
        };
    }
}

/// what is about the connection is about whoever came in on it first
fn case_of<'a>(namespaces: &'a [Namespace], attempt: &'a Attempt, stage: Stage) -> Case<'a> {
    let first = namespaces.iter().find_map(Namespace::admitted);
    Case { principal: first.map(|admitted| &admitted.principal), ..Case::of(attempt, stage) }
}

fn bounds(gate: &Gate) -> PacketBounds {
    PacketBounds { attachments_max: gate.limits.attachments_max, name_bytes_max: gate.limits.identifier_bytes_max }
}

fn connect_due(gate: &Gate, now: Timestamp) -> Timestamp {
    now.plus(Duration::from_millis(gate.limits.connect_timeout_ms))
}

/// `"token": null` is no token
fn has_null_token(auth: &str) -> bool {
    serde_json::from_str::<Value>(auth).is_ok_and(|auth| auth.get("token") == Some(&Value::Null))
}

fn inspect_auth(
    gate: &Gate,
    attempt: &Attempt,
    message: &Message,
    auth: &socketio::Payload<'_>,
    token_at: Option<Range<usize>>,
    pardons: &mut Pardons,
) -> Result<Cleared, Denial> {
    let body = body(auth, token_at, Payload::Whole);
    let auth = Event { frame: message, size: message.len(), name: None, is_named_protocol: false, flaw: None, body };
    let inspected = inspect_connect(gate, &auth, pardons)?;
    for observation in &inspected.observed {
        decide::observed(gate, Case::of(attempt, Stage::Admission), observation);
    }
    Ok(inspected.cleared)
}

fn body<'a>(of: &'a socketio::Payload<'_>, name_at: Option<Range<usize>>, payload: Payload) -> Body<'a> {
    Body::Json { text: &of.json, name_at, payload, packed_at: of.packed_at.clone() }
}
