//! Inspection, the event pipeline: the order of its checks and nothing else. Every verdict goes by `pardons`: a rule may be in shadow.

use bytes::Bytes;
use picket_shared::clock::{Timestamp, thread_time};
use picket_shared::policy::ValidationRules;
use picket_shared::reason::Reason;
use picket_shared::token::Principal;
use std::net::IpAddr;
use std::ops::Range;
use tokio_tungstenite::tungstenite::Message;

use crate::checks;
use crate::checks::content::{Finding, Observation};
use crate::checks::event_rate::ConnectionRates;
use crate::checks::inspection_time::{InspectionTime, TIMED_BYTES_MIN};
use crate::checks::message_rate::{NamedRates, Sender};
use crate::checks::payload::Checked;
use crate::content::{Flaw, texts};
use crate::gate::Gate;
use crate::pardons::Pardons;
use crate::protocol::msgpack;
use crate::refusal::{Denial, Refusal};

/// one application message inside a connection, as its protocol's codec read it
#[derive(Debug)]
pub struct Event<'a> {
    /// the frame as the client sent it
    pub frame: &'a Message,
    /// bytes of the message, binary attachments included
    pub size: usize,
    pub name: Option<&'a str>,
    /// whether events of this protocol have names, so that one without is unusual
    pub is_named_protocol: bool,
    /// what the codec found wrong with it
    pub flaw: Option<Flaw>,
    pub body: Body<'a>,
}

#[derive(Debug)]
pub enum Body<'a> {
    Json {
        /// the JSON text: the end of a text frame, or what (a part of) a binary frame says in MessagePack
        text: &'a str,
        /// where in `text` the event's name stands, which is never rewritten
        name_at: Option<Range<usize>>,
        payload: Payload,
        /// where in the frame the MessagePack stands that `text` was read from
        packed_at: Option<Range<usize>>,
    },
    Text(&'a str),
    /// not looked into
    Opaque,
}

/// which part of an event's JSON is its payload
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// all of it
    Whole,
    /// what follows the name in an array: one argument by itself, several as an array
    Arguments,
}

/// who speaks on a connection, and what it has sent so far
pub struct Speaker<'a> {
    pub principal: &'a Principal,
    pub address: IpAddr,
    pub rates: &'a mut Rates,
}

/// the windows of one connection
#[derive(Debug, Default)]
pub struct Rates {
    pub connection: ConnectionRates,
    pub named: NamedRates,
    pub inspection: InspectionTime,
}

/// a message that may be written to the upstream; there is no other way to make one than to pass the checks
#[derive(Debug)]
pub struct Cleared(Message);

impl Cleared {
    /// a packet of the protocol's own handshake or heartbeat, which carries no event
    pub(crate) fn protocol(packet: Message) -> Self {
        Cleared(packet)
    }

    /// a binary attachment of an event that was cleared
    pub(crate) fn attachment(bytes: Bytes) -> Self {
        Cleared(Message::Binary(bytes))
    }

    pub fn into_message(self) -> Message {
        self.0
    }
}

/// a cleared event, and what is recorded of it all the same
#[derive(Debug)]
pub struct Inspected {
    pub cleared: Cleared,
    pub observed: Vec<Observation>,
}

impl Inspected {
    fn as_it_came(event: &Event<'_>) -> Self {
        Inspected { cleared: Cleared(event.frame.clone()), observed: Vec::new() }
    }
}

/// all checks of an event
pub async fn inspect(
    gate: &Gate,
    speaker: &mut Speaker<'_>,
    event: &Event<'_>,
    pardons: &mut Pardons,
    now: Timestamp,
) -> Result<Inspected, Refusal> {
    let policy = gate.policy.current();
    if policy.enforcement.is_off() {
        return Ok(Inspected::as_it_came(event));
    }
    let sender = Sender { principal: speaker.principal, address: speaker.address };
    let name = event.name.unwrap_or_default();
    panic_if_asked(gate, name);

    pardons.ask(checks::event_rate::check(&mut speaker.rates.connection, &policy.limits, now))?;
    checks::inspection_time::check(&mut speaker.rates.inspection, gate.limits.inspection_per_second(), now)?;
    let (counters, own) = (&*gate.counters, &mut speaker.rates.named);
    pardons.ask(checks::message_rate::check(counters, &policy.limits, own, &sender, name, now).await)?;
    let finding = timed(&mut speaker.rates.inspection, event.size, || {
        let checked = form(gate, &policy.validation, event, pardons)?;
        pardons.ask(checks::payload::check_name(&policy.validation, event))?;
        pardons.ask(checks::permission::check(&policy.validation, speaker.principal, name))?;
        content(&policy.validation, event, checked, pardons)
    })?;

    let cleared = cleared(event, finding.rewritten)?;
    let mut observed = checks::behaviour::check(&gate.watch, &policy.behaviour.events, &sender, event, now);
    observed.extend(finding.observed);

    Ok(Inspected { cleared, observed })
}

/// the form of a payload; one whose lengths are pardoned is read without them, so that no other rule is passed by
fn form(gate: &Gate, rules: &ValidationRules, event: &Event<'_>, pardons: &mut Pardons) -> Result<Checked, Denial> {
    let keys_max = gate.limits.keys_max;
    match pardons.ask(checks::payload::check_form(rules, keys_max, event))? {
        Some(checked) => Ok(checked),
        None => Ok(pardons.ask(checks::payload::check_without_lengths(keys_max, event))?.unwrap_or(Checked::NOTHING)),
    }
}

/// schema and texts of a payload
fn content(
    rules: &ValidationRules,
    event: &Event<'_>,
    checked: Checked,
    pardons: &mut Pardons,
) -> Result<Finding, Denial> {
    pardons.ask(checks::content::check_schema(rules, event))?;
    let finding = pardons.ask(checks::content::check(rules, event, checked))?.unwrap_or_default();
    match finding.rewritten.is_some() && pardons.leaves_alone(Reason::ActiveContent, "active markup not removed") {
        true => Ok(Finding::default()),
        false => Ok(finding),
    }
}

/// the checks of an acknowledgement: it has no name of its own, and counts as an event, not as a message
pub fn inspect_ack(
    gate: &Gate,
    speaker: &mut Speaker<'_>,
    ack: &Event<'_>,
    pardons: &mut Pardons,
    now: Timestamp,
) -> Result<Inspected, Refusal> {
    let policy = gate.policy.current();
    if policy.enforcement.is_off() {
        return Ok(Inspected::as_it_came(ack));
    }

    pardons.ask(checks::event_rate::check(&mut speaker.rates.connection, &policy.limits, now))?;
    checks::inspection_time::check(&mut speaker.rates.inspection, gate.limits.inspection_per_second(), now)?;
    let finding = timed(&mut speaker.rates.inspection, ack.size, || {
        let checked = form(gate, &policy.validation, ack, pardons)?;
        content(&policy.validation, ack, checked, pardons)
    })?;

    Ok(Inspected { cleared: cleared(ack, finding.rewritten)?, observed: finding.observed.into_iter().collect() })
}

/// the hook by which a test shows that a panic ends one connection and no more
#[expect(clippy::panic, reason = "this is the panic that the test asks for; release builds never have the name")]
fn panic_if_asked(gate: &Gate, name: &str) {
    if gate.panic_event.as_deref() == Some(name) {
        panic!("the test's panic");
    }
}

/// the checks of a CONNECT's auth object: what an application shows of it must be as harmless as any payload
pub fn inspect_connect(gate: &Gate, auth: &Event<'_>, pardons: &mut Pardons) -> Result<Inspected, Denial> {
    let policy = gate.policy.current();
    if policy.enforcement.is_off() {
        return Ok(Inspected::as_it_came(auth));
    }

    let checked = form(gate, &policy.validation, auth, pardons)?;
    let finding = content(&policy.validation, auth, checked, pardons)?;

    Ok(Inspected { cleared: cleared(auth, finding.rewritten)?, observed: finding.observed.into_iter().collect() })
}

/// looks into a payload, and takes note of the processor time that a large one took, whatever came of it
pub(crate) fn timed<T>(time: &mut InspectionTime, size: usize, look: impl FnOnce() -> T) -> T {
    if size < TIMED_BYTES_MIN {
        return look();
    }
    let start = thread_time();
    let outcome = look();
    time.took(thread_time().saturating_sub(start));
    outcome
}

/// the frame as it came, unless its content was rewritten; what cannot be written again does not pass
fn cleared(event: &Event<'_>, rewritten: Option<String>) -> Result<Cleared, Denial> {
    let Some(new) = rewritten else {
        return Ok(Cleared(event.frame.clone()));
    };
    match (event.frame, &event.body) {
        (Message::Text(frame), Body::Json { text: old, packed_at: None, .. } | Body::Text(old)) => {
            // What stands before the rewritten text is the packet's own header.
            let header = &frame.as_str()[..frame.len() - old.len()];
            Ok(Cleared(Message::text(format!("{header}{new}"))))
        }
        (Message::Binary(frame), Body::Json { packed_at: Some(at), .. }) => repacked(frame, at, &new),
        _ => Err(Reason::InternalError.into()),
    }
}

/// the frame with the texts of the rewritten JSON in its MessagePack
fn repacked(frame: &[u8], at: &Range<usize>, json: &str) -> Result<Cleared, Denial> {
    let packed = msgpack::with_texts(&frame[at.clone()], texts(json))
        .map_err(|flaw| Denial::from(Reason::InternalError).because(flaw.to_string()))?;
    Ok(Cleared(Message::binary([&frame[..at.start], &packed, &frame[at.end..]].concat())))
}
