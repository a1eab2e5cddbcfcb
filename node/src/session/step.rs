//! What a conversation answers to a message, and the two kinds of conversation.

use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use picket_shared::token::{LEEWAY, Principal};
use tokio_tungstenite::tungstenite::Message;

use super::{Plain, SocketIo};
use crate::attempt::Attempt;
use crate::decide::{self, Case};
use crate::gate::Gate;
use crate::inspection::{Cleared, Inspected};
use crate::pardons::{Notes, Pardons};
use crate::refusal::{Denial, Refusal};

/// what follows from a message of the client
#[derive(Debug)]
pub enum Step {
    /// write to the upstream
    Forward(Cleared),
    /// write all to the upstream, in order
    ForwardAll(Vec<Cleared>),
    /// the event was refused: write to the client, and let it wait
    Answer(Vec<Message>),
    Nothing,
    /// the client ends the session, in a word of its protocol
    Leave,
    /// write to the client, then end the session; the denial is recorded already
    End(Vec<Message>, Denial),
}

/// a moment at which the session ends by itself, and why
pub type Deadline = Option<(Timestamp, Reason)>;

pub enum Conversation {
    Plain(Box<Plain>),
    SocketIo(Box<SocketIo>),
}

impl Conversation {
    pub async fn client_says(&mut self, gate: &Gate, attempt: &Attempt, message: Message, now: Timestamp) -> Step {
        match self {
            Conversation::Plain(plain) => plain.client_says(gate, attempt, &message, now).await,
            Conversation::SocketIo(socketio) => socketio.client_says(gate, attempt, message, now).await,
        }
    }

    /// takes note of what the upstream says; it is passed on in any case
    pub fn upstream_says(&mut self, gate: &Gate, attempt: &Attempt, message: &Message, now: Timestamp) {
        match self {
            Conversation::Plain(_) => {}
            Conversation::SocketIo(socketio) => socketio.upstream_says(gate, attempt, message, now),
        }
    }

    pub fn principals(&self) -> Vec<&Principal> {
        match self {
            Conversation::Plain(plain) => vec![&plain.admitted.principal],
            Conversation::SocketIo(socketio) => socketio.principals().collect(),
        }
    }

    /// when its own protocol ends it; asked for at every message, so it allocates nothing
    pub fn deadline(&self) -> Deadline {
        match self {
            Conversation::Plain(_) => None,
            Conversation::SocketIo(socketio) => socketio.deadline(),
        }
    }

    /// when the first of its tokens is over
    pub fn expiry(&self) -> Deadline {
        match self {
            Conversation::Plain(plain) => expiry(&plain.admitted.principal),
            Conversation::SocketIo(socketio) => {
                socketio.principals().filter_map(expiry).min_by_key(|(moment, _)| *moment)
            }
        }
    }
}

fn expiry(principal: &Principal) -> Deadline {
    let expires = principal.user()?.expires?;
    Some((expires.plus(LEEWAY), Reason::TokenExpired))
}

/// refused events of one connection, up to the one that closes it, and what was told of those that were pardoned
#[derive(Debug, Default)]
pub struct Violations {
    refused: u32,
    pub pardoned: Notes,
}

impl Violations {
    /// the step after a refusal that was recorded: the answers, and the end when it was one too many
    pub fn refused(&mut self, gate: &Gate, denial: Denial, answers: Vec<Message>) -> Step {
        self.refused += 1;
        let too_many = self.refused >= gate.policy.current().security.violations_before_close;
        match too_many || ends_at_once(denial.reason) {
            true => Step::End(answers, denial),
            false => Step::Answer(answers),
        }
    }
}

fn ends_at_once(reason: Reason) -> bool {
    matches!(reason, Reason::PayloadTooLarge | Reason::TypeNotAllowed | Reason::StateUnavailable)
}

/// records the outcome of an inspection once
pub fn record(
    gate: &Gate,
    case: Case<'_>,
    outcome: Result<Inspected, Refusal>,
    pardons: Pardons,
    notes: &mut Notes,
) -> Result<Cleared, Denial> {
    decide::pardoned_event(gate, case, pardons, notes);
    match outcome {
        Ok(inspected) => {
            for observation in &inspected.observed {
                decide::observed(gate, case, observation);
            }
            decide::cleared(gate, &case);
            Ok(inspected.cleared)
        }
        Err(refusal) => Err(decide::refuse(gate, case, refusal)),
    }
}
