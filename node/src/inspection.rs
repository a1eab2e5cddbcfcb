//! Inspection, the event pipeline: the order of its checks and nothing else.

use bytes::Bytes;
use picket_shared::clock::{Timestamp, thread_time};
use picket_shared::reason::Reason;
use picket_shared::token::Principal;
use std::net::IpAddr;
use std::ops::Range;
use tokio_tungstenite::tungstenite::Message;

use crate::checks;
use crate::checks::content::Observation;
use crate::checks::event_rate::ConnectionRates;
use crate::checks::inspection_time::{InspectionTime, TIMED_BYTES_MIN};
use crate::checks::message_rate::{NamedRates, Sender};
use crate::content::{Flaw, texts};
use crate::gate::Gate;
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

/// all checks of an event
pub async fn inspect(
    gate: &Gate,
    speaker: &mut Speaker<'_>,
    event: &Event<'_>,
    now: Timestamp,
) -> Result<Inspected, Refusal> {
    let policy = gate.policy.current();
    let sender = Sender { principal: speaker.principal, address: speaker.address };
    let name = event.name.unwrap_or_default();
    panic_if_asked(gate, name);

    checks::event_rate::check(&mut speaker.rates.connection, &policy.limits, now)?;
    checks::inspection_time::check(&mut speaker.rates.inspection, gate.limits.inspection_per_second(), now)?;
    checks::message_rate::check(&*gate.counters, &policy.limits, &mut speaker.rates.named, &sender, name, now).await?;
    let finding = timed(&mut speaker.rates.inspection, event.size, || {
        let checked = checks::payload::check(&policy.validation, gate.limits.keys_max, event)?;
        checks::permission::check(&policy.validation, speaker.principal, name)?;
        checks::content::check(&policy.validation, event, checked)
    })?;

    let cleared = cleared(event, finding.rewritten)?;
    let mut observed = checks::behaviour::check(&gate.watch, &policy.behaviour.events, &sender, event, now);
    observed.extend(finding.observed);

    Ok(Inspected { cleared, observed })
}

/// the checks of an acknowledgement: it has no name of its own, and counts as an event, not as a message
pub fn inspect_ack(
    gate: &Gate,
    speaker: &mut Speaker<'_>,
    ack: &Event<'_>,
    now: Timestamp,
) -> Result<Inspected, Refusal> {
    let policy = gate.policy.current();

    checks::event_rate::check(&mut speaker.rates.connection, &policy.limits, now)?;
    checks::inspection_time::check(&mut speaker.rates.inspection, gate.limits.inspection_per_second(), now)?;
    let finding = timed(&mut speaker.rates.inspection, ack.size, || {
        let checked = checks::payload::check_form(&policy.validation, gate.limits.keys_max, ack)?;
        checks::content::check(&policy.validation, ack, checked)
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
pub fn inspect_connect(gate: &Gate, auth: &Event<'_>) -> Result<Inspected, Denial> {
    let policy = gate.policy.current();

    let checked = checks::payload::check_form(&policy.validation, gate.limits.keys_max, auth)?;
    let finding = checks::content::check(&policy.validation, auth, checked)?;

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
