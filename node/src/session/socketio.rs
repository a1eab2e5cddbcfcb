//! A Socket.IO conversation: namespaces that are each admitted by their CONNECT, events, acks, and binary attachments.

use bytes::Bytes;
use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use picket_shared::secret::Secret;
use picket_shared::token::Principal;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::presence::Presence;
use super::step::{Deadline, Step, Violations, record};
use crate::admission::{Admitted, Screened, complete};
use crate::attempt::Attempt;
use crate::decide::{self, Case, Stage};
use crate::gate::Gate;
use crate::inspection::{Body, Cleared, Event, Inspected, Payload, Rates, Speaker, inspect, inspect_ack};
use crate::pending::Place;
use crate::protocol::socketio::{self, Call, ClientPacket, Kind, Packet, PacketBounds, PacketError, Reply, ServerPacket};
use crate::refusal::{Denial, Refusal};

/// what the origin document says to a client whose event was refused
const EVENT_REJECTED: &str = "Event rejected by security policy";

pub struct SocketIo {
    screened: Screened,
    presence: Presence,
    /// until the first namespace is admitted
    waiting: Option<(Place, Timestamp)>,
    namespaces: Vec<Namespace>,
    attachments: Option<Attachments>,
    rates: Rates,
    violations: Violations,
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
    bytes: usize,
}

impl SocketIo {
    pub fn new(screened: Screened, presence: Presence, place: Place, connect_due: Timestamp) -> Self {
        SocketIo {
            screened,
            presence,
            waiting: Some((place, connect_due)),
            namespaces: Vec::new(),
            attachments: None,
            rates: Rates::default(),
            violations: Violations::default(),
        }
    }

    pub fn principals(&self) -> impl Iterator<Item = &Principal> {
        self.namespaces.iter().filter_map(Namespace::admitted).map(|admitted| &admitted.principal)
    }

    pub fn connect_deadline(&self) -> Deadline {
        self.waiting.as_ref().map(|(_, due)| (*due, Reason::Slow))
    }

    pub async fn client_says(&mut self, gate: &Gate, attempt: &Attempt, message: Message, now: Timestamp) -> Step {
        match &message {
            Message::Binary(bytes) => self.attachment(gate, attempt, bytes.clone()),
            Message::Text(_) if self.attachments.is_some() => end(gate, attempt, &message, PacketError::Malformed("text where an attachment was due")),
            Message::Text(text) => match socketio::read(text, &bounds(gate)) {
                Ok(packet) => self.packet(gate, attempt, &message, packet, now).await,
                Err(error) => end(gate, attempt, &message, error),
            },
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Step::Nothing,
        }
    }

    pub fn upstream_says(&mut self, message: &Message) {
        let Message::Text(text) = message else {
            return;
        };
        match socketio::read_server(text) {
            ServerPacket::Connected(name) => {
                if let Some(namespace) = self.namespace(name) {
                    namespace.join();
                }
            }
            ServerPacket::Disconnected(name) | ServerPacket::ConnectError(name) => {
                if let Some(namespace) = self.namespace(name) {
                    namespace.stage = NamespaceStage::Left;
                }
            }
            ServerPacket::Other => {}
        }
    }

    fn namespace(&mut self, name: &str) -> Option<&mut Namespace> {
        self.namespaces.iter_mut().find(|namespace| namespace.name == name)
    }

    async fn packet(&mut self, gate: &Gate, attempt: &Attempt, message: &Message, packet: ClientPacket<'_>, now: Timestamp) -> Step {
        let Packet { namespace, kind } = match packet {
            ClientPacket::Close | ClientPacket::Pong => return Step::Forward(Cleared::protocol(message.clone())),
            ClientPacket::Message(packet) => packet,
        };
        if let Kind::Connect(auth) = kind {
            return self.connect(gate, attempt, message, namespace, auth, now).await;
        }
        let admitted = match self.namespace(namespace).map(|namespace| &namespace.stage) {
            Some(NamespaceStage::Joined(admitted)) => admitted.clone(),
            Some(NamespaceStage::Left) => return self.late(&kind),
            Some(NamespaceStage::Joining(_)) | None => return end(gate, attempt, message, PacketError::OutOfPlace("a packet for a namespace that is not joined")),
        };
        match kind {
            Kind::Disconnect => {
                if let Some(namespace) = self.namespace(namespace) {
                    namespace.stage = NamespaceStage::Left;
                }
                Step::Forward(Cleared::protocol(message.clone()))
            }
            Kind::Event(call) => self.event(gate, attempt, message, namespace, &call, &admitted, now).await,
            Kind::Ack(reply) => self.ack(gate, attempt, message, &reply, &admitted, now),
            Kind::Connect(_) => Step::Nothing,
        }
    }

    /// drops what was under way when the namespace was left, attachments too
    fn late(&mut self, kind: &Kind<'_>) -> Step {
        let missing = match kind {
            Kind::Event(call) => call.attachments,
            Kind::Ack(reply) => reply.attachments,
            Kind::Connect(_) | Kind::Disconnect => 0,
        };
        self.expect(missing, None)
    }

    async fn connect(&mut self, gate: &Gate, attempt: &Attempt, message: &Message, name: &str, auth: Option<&str>, now: Timestamp) -> Step {
        let full = self.namespaces.len() >= gate.limits.namespaces_max;
        match self.namespace(name).map(|namespace| &namespace.stage) {
            Some(NamespaceStage::Joining(_) | NamespaceStage::Joined(_)) => {
                return end(gate, attempt, message, PacketError::OutOfPlace("CONNECT to a namespace that is joined"));
            }
            None if full => {
                let denial = Denial::from(Reason::Flood).because("node.limits.namespacesMax");
                return Step::End(Vec::new(), decide::refuse(gate, Case::of(attempt, Stage::Admission), denial));
            }
            Some(NamespaceStage::Left) | None => {}
        }
        match self.admit(gate, attempt, auth, now).await {
            Ok(admitted) => {
                self.enter(gate, attempt, name, admitted);
                Step::Forward(Cleared::protocol(message.clone()))
            }
            Err(refusal) => {
                let denial = decide::refuse(gate, Case::of(attempt, Stage::Admission), refusal);
                let data = json!({ "reason": denial.reason.token(), "retryAfterMs": denial.retry_after_ms() });
                let answer = socketio::connect_error(name, denial.reason.consequence().message, data);
                self.violations.refused(gate, denial, vec![Message::text(answer)])
            }
        }
    }

    async fn admit(&self, gate: &Gate, attempt: &Attempt, auth: Option<&str>, now: Timestamp) -> Result<Admitted, Refusal> {
        let auth: Option<Value> = match auth.map(|json| check_auth(gate, json)) {
            None => None,
            Some(Ok(auth)) => Some(auth),
            Some(Err(denial)) => return Err(denial.into()),
        };
        let token = match auth.as_ref().and_then(|auth| auth.get("token")) {
            None | Some(Value::Null) => None,
            Some(Value::String(token)) => Some(Secret::new(token.strip_prefix("Bearer ").unwrap_or(token))),
            Some(_) => return Err(Denial::from(Reason::TokenInvalid).because("auth.token is not a string").into()),
        };
        let token = gate.keys.sources.in_connect(token, attempt.token.as_ref());
        let held: Vec<_> = self.namespaces.iter().filter_map(Namespace::admitted).cloned().collect();
        complete(gate, &self.screened, attempt, token.as_ref(), &held, now).await
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

    #[expect(clippy::too_many_arguments, reason = "an event is judged by who sent what where, and each is known by another part")]
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
        let body = Body::Json { text: call.json, name_at: Some(call.named.at.clone()), payload: Payload::Arguments };
        let event = Event { frame: message, size: message.len(), name: Some(name), is_named_protocol: true, flaw: None, body };
        let mut speaker = Speaker { principal: &admitted.principal, address: attempt.address, rates: &mut self.rates };
        let outcome = inspect(gate, &mut speaker, &event, now).await;
        let case = Case { principal: Some(&admitted.principal), event: Some(name), message: Some(message), ..Case::of(attempt, Stage::Inspection) };
        match record(gate, case, outcome) {
            Ok(cleared) => self.expect(call.attachments, Some(cleared)),
            Err(denial) if denial.reason == Reason::Malformed => Step::End(Vec::new(), denial),
            Err(denial) => {
                self.expect(call.attachments, None);
                let answers = refused_event(namespace, name, call.ack, &denial);
                self.violations.refused(gate, denial, answers)
            }
        }
    }

    fn ack(&mut self, gate: &Gate, attempt: &Attempt, message: &Message, reply: &Reply<'_>, admitted: &Admitted, now: Timestamp) -> Step {
        let body = Body::Json { text: reply.json, name_at: None, payload: Payload::Whole };
        let event = Event { frame: message, size: message.len(), name: None, is_named_protocol: false, flaw: None, body };
        let mut speaker = Speaker { principal: &admitted.principal, address: attempt.address, rates: &mut self.rates };
        let outcome: Result<Inspected, Refusal> = inspect_ack(gate, &mut speaker, &event, now);
        let case = Case { principal: Some(&admitted.principal), message: Some(message), ..Case::of(attempt, Stage::Inspection) };
        match record(gate, case, outcome) {
            Ok(cleared) => self.expect(reply.attachments, Some(cleared)),
            Err(denial) if denial.reason == Reason::Malformed => Step::End(Vec::new(), denial),
            Err(denial) => {
                self.expect(reply.attachments, None);
                self.violations.refused(gate, denial, Vec::new())
            }
        }
    }

    /// holds a packet back until its attachments are there; a refused packet takes its attachments with it
    fn expect(&mut self, missing: usize, cleared: Option<Cleared>) -> Step {
        match (missing, cleared) {
            (0, Some(cleared)) => Step::Forward(cleared),
            (0, None) => Step::Nothing,
            (missing, cleared) => {
                self.attachments = Some(Attachments { held: cleared.map(|packet| vec![packet]), missing, bytes: 0 });
                Step::Nothing
            }
        }
    }

    fn attachment(&mut self, gate: &Gate, attempt: &Attempt, bytes: Bytes) -> Step {
        let Some(mut due) = self.attachments.take() else {
            return end(gate, attempt, &Message::Binary(bytes), PacketError::Malformed("a binary message that no packet announced"));
        };
        due.bytes += bytes.len();
        if due.bytes > gate.policy.current().validation.payload_bytes_max {
            let denial = Denial::from(Reason::PayloadTooLarge).because("attachments of one packet together");
            return Step::End(Vec::new(), decide::refuse(gate, Case::of(attempt, Stage::Inspection), denial));
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

fn bounds(gate: &Gate) -> PacketBounds {
    PacketBounds { attachments_max: gate.limits.attachments_max, name_bytes_max: gate.limits.identifier_bytes_max }
}

/// the auth object, by the same strict reading as any payload
fn check_auth(gate: &Gate, json: &str) -> Result<Value, Denial> {
    let rules = &gate.policy.current().validation;
    let bounds = crate::content::Bounds { max_depth: rules.depth_max, max_keys: gate.limits.keys_max, max_text_chars: rules.text_chars_max };
    let malformed = || Denial::from(Reason::Malformed).because("auth payload of CONNECT");
    crate::content::scan(json, &bounds).map_err(|_| malformed())?;
    serde_json::from_str(json).map_err(|_| malformed())
}

/// the `error` event, and the ack if the client asked for one
fn refused_event(namespace: &str, event: &str, ack: Option<u64>, denial: &Denial) -> Vec<Message> {
    let error = json!({
        "message": EVENT_REJECTED,
        "event": event,
        "reason": denial.reason.token(),
        "retryAfterMs": denial.retry_after_ms(),
    });
    let mut answers = vec![Message::text(socketio::event(namespace, "error", &error))];
    if let Some(id) = ack {
        answers.push(Message::text(socketio::ack(namespace, id, &json!({ "error": error }))));
    }
    answers
}

/// a packet that cannot be understood ends the session: what follows it cannot be understood either
fn end(gate: &Gate, attempt: &Attempt, message: &Message, error: PacketError) -> Step {
    let denial = match error {
        PacketError::Malformed(detail) => Denial::from(Reason::Malformed).because(detail),
        PacketError::OutOfPlace(detail) => Denial::from(Reason::ProtocolError).because(detail),
    };
    let case = Case { message: Some(message), ..Case::of(attempt, Stage::Inspection) };
    Step::End(Vec::new(), decide::refuse(gate, case, denial))
}
