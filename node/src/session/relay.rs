//! The relay: one task per connection moves messages between client and upstream, and carries out how it ends.
//!
//! Writes are fed and flushed only when neither side has more to say, so that a burst costs one system call. A slow reader
//! stops the other side from being read (backpressure), for a bounded time.

use futures_util::{SinkExt, StreamExt};
use picket_shared::clock::Timestamp;
use picket_shared::policy::Reasons;
use picket_shared::reason::Reason;
use picket_shared::tasks::Tasks;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep, timeout};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::attention::Listener;
use super::client::Client;
use super::guard::violation_of;
use super::patience::{Stuck, failures_speak_at_the_next_read, patiently};
use super::sockets::{Heard, Sockets};
use super::step::{Conversation, Deadline, Step};
use crate::admission::still_admissible;
use crate::attempt::Attempt;
use crate::config::Limits;
use crate::decide::{self, Case, Stage};
use crate::gate::Gate;
use crate::pardons::Pardons;
use crate::protocol::frames::Violation;
use crate::refusal::Denial;

/// how long a client may take to answer a close frame
const LINGER: Duration = Duration::from_secs(2);
/// what a peer may still send after a close frame before it is dropped
const LINGER_BYTES_MAX: usize = 1024 * 1024;
/// of that, what is read as messages, for the peer's own close frame to be seen; the rest is only thrown away
const LINGER_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// a client whose event was refused is not read for so long: a flood waits in its sender's buffers, and takes no turns from others
const REFUSAL_PAUSE: Duration = Duration::from_millis(20);
/// a session's longest sleep; every deadline that appears meanwhile arms the timer anew
const SLEEP_MAX: Duration = Duration::from_secs(3600);

pub struct Relay {
    gate: Arc<Gate>,
    tasks: Tasks,
    attempt: Attempt,
    conversation: Conversation,
    sockets: Sockets,
    attention: Listener,
    clock: Alarms,
    /// what was recorded of it although its rule is in shadow: once each
    pardoned: Reasons,
}

/// the moments at which something is due
struct Alarms {
    /// when something was last heard of either side
    now: Timestamp,
    last_heard: Timestamp,
    pinged: Option<Timestamp>,
    leave: Option<Timestamp>,
    /// until when the client is not read
    resume: Option<Timestamp>,
    armed_for: Option<Timestamp>,
    /// its token is over, and that is pardoned
    outlives_token: bool,
    timer: Pin<Box<Sleep>>,
}

/// what wakes a session
enum Input {
    Heard(Heard),
    Attention,
    Alarm,
}

/// how a session ends
enum End {
    /// by Picket's decision, recorded already
    Denied(Denial),
    /// the upstream broke the protocol, which is recorded already; it is told in what way
    UpstreamFaulted(Denial, CloseCode),
    ClientClosed(Option<CloseFrame>),
    /// by its protocol's own word, which no close frame came with
    ClientLeft,
    ClientGone,
    UpstreamClosed(Option<CloseFrame>),
}

impl Relay {
    pub fn new(
        gate: Arc<Gate>,
        tasks: Tasks,
        attempt: Attempt,
        conversation: Conversation,
        sockets: Sockets,
        attention: Listener,
    ) -> Self {
        let now = gate.clock.now();
        let clock = Alarms {
            now,
            last_heard: now,
            pinged: None,
            leave: None,
            resume: None,
            armed_for: None,
            outlives_token: false,
            timer: Box::pin(sleep(SLEEP_MAX)),
        };
        Relay { gate, tasks, attempt, conversation, sockets, attention, clock, pardoned: Reasons::default() }
    }

    pub async fn run(mut self: Box<Self>) {
        // What changed between admission and here is not missed.
        self.attention.ring_at_once();
        let end = loop {
            self.arm();
            let input = poll_fn(|cx| self.poll_input(cx)).await;
            if let Err(end) = self.handle(input).await {
                break end;
            }
        };
        Box::pin(self.finish(end)).await;
    }

    /// what is due comes first: a side that always has more to say must not put it off
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        if self.attention.has_rung() {
            return Poll::Ready(Input::Attention);
        }
        if self.clock.armed_for.is_some_and(|due| due < self.clock.now) {
            return Poll::Ready(Input::Alarm);
        }
        if let Poll::Ready(heard) = self.sockets.poll_next(self.clock.resume.is_none(), cx) {
            return Poll::Ready(Input::Heard(heard));
        }
        if self.attention.poll_ring(cx).is_ready() {
            return Poll::Ready(Input::Attention);
        }
        self.clock.timer.as_mut().poll(cx).map(|()| Input::Alarm)
    }

    async fn handle(&mut self, input: Input) -> Result<(), End> {
        match input {
            Input::Heard(Heard::Client(Some(Ok(message)))) => self.client_says(message).await,
            Input::Heard(Heard::Client(Some(Err(error)))) => Err(self.client_failed(&error)),
            Input::Heard(Heard::Client(None)) => Err(End::ClientGone),
            Input::Heard(Heard::Upstream(Some(Ok(message)))) => self.upstream_says(message).await,
            Input::Heard(Heard::Upstream(Some(Err(error)))) => Err(self.upstream_failed(&error)),
            Input::Heard(Heard::Upstream(None)) => Err(self.deny(Reason::UpstreamUnavailable)),
            Input::Heard(Heard::Blocked) => self.flush().await,
            Input::Attention => self.look_around(),
            Input::Alarm => self.alarm().await,
        }
    }

    async fn client_says(&mut self, message: Message) -> Result<(), End> {
        let now = self.gate.clock.now();
        self.clock.now = now;
        self.clock.last_heard = now;
        self.clock.pinged = None;
        match message {
            Message::Close(frame) => return Err(self.client_closed(frame)),
            Message::Ping(_) | Message::Pong(_) => {
                self.sockets.unflushed = true;
                return Ok(());
            }
            Message::Text(_) | Message::Binary(_) | Message::Frame(_) => {}
        }
        // In one expression: a future with a name would be kept twice.
        let Some(step) =
            self.tasks.isolate("event", self.conversation.client_says(&self.gate, &self.attempt, message, now)).await
        else {
            return Err(self.deny(Reason::InternalError));
        };
        match step {
            Step::Forward(cleared) => self.write_upstream(cleared.into_message()).await,
            Step::ForwardAll(all) => {
                for cleared in all {
                    self.write_upstream(cleared.into_message()).await?;
                }
                Ok(())
            }
            Step::Answer(answers) => {
                self.clock.resume = Some(now.plus(REFUSAL_PAUSE));
                self.answer(answers).await
            }
            Step::Nothing => Ok(()),
            Step::Leave => Err(End::ClientLeft),
            Step::End(answers, denial) => {
                self.answer(answers).await?;
                Err(End::Denied(denial))
            }
        }
    }

    async fn answer(&mut self, answers: Vec<Message>) -> Result<(), End> {
        for answer in answers {
            self.write_client(answer).await?;
        }
        Ok(())
    }

    async fn upstream_says(&mut self, message: Message) -> Result<(), End> {
        match message {
            // tungstenite's words for a code that it does not know, 1014 among them.
            Message::Close(Some(frame))
                if frame.code == CloseCode::Protocol && frame.reason == "Protocol violation" =>
            {
                Err(self.deny(Denial::from(Reason::UpstreamProtocol).because("close code")))
            }
            Message::Close(frame) => Err(End::UpstreamClosed(frame)),
            Message::Ping(_) | Message::Pong(_) => {
                self.sockets.unflushed = true;
                Ok(())
            }
            Message::Text(_) | Message::Binary(_) | Message::Frame(_) => {
                let now = self.gate.clock.now();
                self.clock.now = now;
                self.conversation.upstream_says(&self.gate, &self.attempt, &message, now);
                self.write_client(message).await
            }
        }
    }

    async fn write_client(&mut self, message: Message) -> Result<(), End> {
        self.sockets.unflushed = true;
        let written = self.sockets.client.written();
        let write = self.sockets.client.feed(message);
        let outcome = patiently(write, &written, &self.gate, &self.attempt, &self.conversation, &self.attention).await;
        outcome.map_err(|stuck| self.client_stuck(stuck))
    }

    async fn write_upstream(&mut self, message: Message) -> Result<(), End> {
        self.sockets.unflushed = true;
        let written = self.sockets.upstream.get_ref().written();
        let write = self.sockets.upstream.feed(message);
        let outcome = patiently(write, &written, &self.gate, &self.attempt, &self.conversation, &self.attention).await;
        outcome.map_err(|stuck| self.upstream_stuck(stuck))
    }

    /// the upstream first: a client that does not read must not keep its last words from it
    async fn flush(&mut self) -> Result<(), End> {
        self.sockets.unflushed = false;
        let written = self.sockets.upstream.get_ref().written();
        let flush = self.sockets.upstream.flush();
        let outcome = patiently(flush, &written, &self.gate, &self.attempt, &self.conversation, &self.attention).await;
        outcome.or_else(failures_speak_at_the_next_read).map_err(|stuck| self.upstream_stuck(stuck))?;
        let written = self.sockets.client.written();
        let flush = self.sockets.client.flush();
        let outcome = patiently(flush, &written, &self.gate, &self.attempt, &self.conversation, &self.attention).await;
        outcome.or_else(failures_speak_at_the_next_read).map_err(|stuck| self.client_stuck(stuck))
    }

    fn client_stuck(&self, stuck: Stuck) -> End {
        match stuck {
            Stuck::Failed(_) => End::ClientGone,
            Stuck::NoProgress => {
                self.deny(Denial::from(Reason::Slow).because("node.limits.writeTimeoutMs without a byte taken"))
            }
            Stuck::Denied(denial) => self.deny(denial),
        }
    }

    fn upstream_stuck(&self, stuck: Stuck) -> End {
        match stuck {
            Stuck::Failed(_) => self.deny(Reason::UpstreamUnavailable),
            Stuck::NoProgress => {
                self.deny(Denial::from(Reason::UpstreamSlow).because("node.limits.writeTimeoutMs without a byte taken"))
            }
            Stuck::Denied(denial) => self.deny(denial),
        }
    }

    /// the block list, the policy or the node's fate changed
    fn look_around(&mut self) -> Result<(), End> {
        let notice = self.attention.take();
        let now = self.gate.clock.now();
        if let (Some(spread), None) = (notice.drain, self.clock.leave) {
            self.clock.leave = Some(now.plus(random_part(spread)));
        }
        self.clock.outlives_token = false;
        let mut pardons = Pardons::except(&self.gate, self.pardoned);
        let principals = self.conversation.principals();
        let admissible = still_admissible(&self.gate, &self.attempt, principals, &mut pardons, now);
        self.pardon(pardons);
        admissible.map_err(|denial| self.deny(denial))
    }

    fn pardon(&mut self, pardons: Pardons) {
        self.pardoned = pardons.told();
        let principals = self.conversation.principals();
        let case = Case { principal: principals.first().copied(), ..Case::of(&self.attempt, Stage::Session) };
        decide::pardoned(&self.gate, case, pardons);
    }

    /// when its token is over, unless that passes
    fn expiry(&self) -> Deadline {
        self.conversation.expiry().filter(|_| !self.clock.outlives_token)
    }

    async fn alarm(&mut self) -> Result<(), End> {
        let now = self.gate.clock.now();
        self.clock.armed_for = None;
        if self.clock.resume.is_some_and(|resume| resume <= now) {
            self.clock.resume = None;
        }
        if self.clock.leave.is_some_and(|leave| leave <= now) {
            return Err(self.deny(Reason::Draining));
        }
        if let Some((due, reason)) = self.conversation.deadline()
            && due <= now
        {
            return Err(self.deny(reason));
        }
        if let Some((due, reason)) = self.expiry()
            && due <= now
        {
            let mut pardons = Pardons::except(&self.gate, self.pardoned);
            pardons.ask(Err::<(), _>(reason)).map_err(|denial| self.deny(denial))?;
            self.clock.outlives_token = true;
            self.pardon(pardons);
        }
        let limits = self.gate.limits;
        if self.message_due().is_some_and(|due| due <= now) {
            return Err(self.deny(Denial::from(Reason::Slow).because("node.limits.messageTimeoutMs")));
        }
        match self.clock.pinged {
            Some(pinged) if pinged.plus(Duration::from_millis(limits.pong_timeout_ms)) <= now => {
                Err(self.deny(Reason::Idle))
            }
            None if self.clock.last_heard.plus(Duration::from_millis(limits.ping_interval_ms)) <= now => {
                self.clock.pinged = Some(now);
                self.write_client(Message::Ping(bytes::Bytes::new())).await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// sets the timer if something is due earlier than it is set for
    fn arm(&mut self) {
        let limits = &self.gate.limits;
        let silence = match self.clock.pinged {
            Some(pinged) => pinged.plus(Duration::from_millis(limits.pong_timeout_ms)),
            None => self.clock.last_heard.plus(Duration::from_millis(limits.ping_interval_ms)),
        };
        let own = self.conversation.deadline().map(|(due, _)| due);
        let expiry = self.expiry().map(|(due, _)| due);
        let due = [own, expiry, self.clock.leave, self.clock.resume, self.message_due()]
            .into_iter()
            .flatten()
            .fold(silence, Timestamp::min);
        if self.clock.armed_for.is_none_or(|armed| due < armed) {
            let wait = due.since(self.gate.clock.now()).min(SLEEP_MAX);
            // Never a moment too early by rounding, which would arm it again for nothing.
            self.clock.timer = Box::pin(sleep(wait + Duration::from_millis(1)));
            self.clock.armed_for = Some(due);
        }
    }

    /// when the message that is under way has to be whole
    fn message_due(&self) -> Option<Timestamp> {
        let since = self.sockets.client.unfinished_since()?;
        Some(since.plus(Duration::from_millis(self.gate.limits.message_timeout_ms)))
    }

    fn deny(&self, denial: impl Into<Denial>) -> End {
        End::Denied(self.record(denial.into()))
    }

    fn record(&self, denial: Denial) -> Denial {
        let principals = self.conversation.principals();
        let case = Case { principal: principals.first().copied(), ..Case::of(&self.attempt, Stage::Session) };
        decide::refuse(&self.gate, case, denial)
    }

    /// the guard has judged the code; tungstenite, which knows fewer, may have replaced it
    fn client_closed(&self, frame: Option<CloseFrame>) -> End {
        let code = self.sockets.client.close_code();
        End::ClientClosed(frame.map(|frame| match code {
            Some(code) if code != u16::from(frame.code) => {
                CloseFrame { code: code.into(), reason: Utf8Bytes::from_static("") }
            }
            _ => frame,
        }))
    }

    fn client_failed(&self, error: &Error) -> End {
        match error {
            Error::Io(error) => match violation_of(error) {
                Some(violation @ Violation::Protocol(_)) => {
                    self.deny(Denial::from(Reason::ProtocolError).because(violation.to_string()))
                }
                Some(violation @ Violation::TooBig(_)) => {
                    self.deny(Denial::from(Reason::PayloadTooLarge).because(violation.to_string()))
                }
                Some(violation @ Violation::Flood(_)) => {
                    self.deny(Denial::from(Reason::Flood).because(violation.to_string()))
                }
                None => End::ClientGone,
            },
            Error::Capacity(_) => self.deny(Denial::from(Reason::PayloadTooLarge).because(error.to_string())),
            Error::Utf8(_) => self.deny(Reason::BadUtf8),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::ReceivedAfterClosing) => {
                End::ClientGone
            }
            Error::Protocol(_) => self.deny(Denial::from(Reason::ProtocolError).because(error.to_string())),
            _ => End::ClientGone,
        }
    }

    fn upstream_failed(&self, error: &Error) -> End {
        match error {
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_) => {
                self.deny(Reason::UpstreamUnavailable)
            }
            Error::ConnectionClosed | Error::AlreadyClosed => End::UpstreamClosed(None),
            _ => {
                let denial = self.record(Denial::from(Reason::UpstreamProtocol).because(error.to_string()));
                End::UpstreamFaulted(denial, fault_code(error))
            }
        }
    }

    /// says goodbye to both sides, each in its own terms, within a bounded time
    async fn finish(self: Box<Self>, end: End) {
        let Relay { sockets: Sockets { client, upstream, .. }, gate, conversation, .. } = *self;
        // Its slots are free at once, whether or not the peers answer.
        drop(conversation);
        let (to_client, to_upstream) = match end {
            End::Denied(denial) => (Some(Some(denied(&denial))), Some(Some(going_away()))),
            End::UpstreamFaulted(denial, code) => {
                (Some(Some(denied(&denial))), Some(Some(CloseFrame { code, reason: Utf8Bytes::from_static("") })))
            }
            End::ClientClosed(frame) => (None, Some(frame)),
            // The word is not passed on: over WebSocket, Engine.IO's own server does not listen to it.
            End::ClientLeft => (Some(None), Some(None)),
            End::ClientGone => (None, Some(Some(going_away()))),
            End::UpstreamClosed(frame) => (Some(frame), None),
        };
        let patience = gate.limits.write_timeout().min(LINGER);
        let goodbye_client = say_goodbye(client, to_client, patience);
        let goodbye_upstream = say_goodbye(Client::WebSocket(upstream), to_upstream, patience);
        tokio::join!(goodbye_client, goodbye_upstream);
    }
}

fn denied(denial: &Denial) -> CloseFrame {
    let consequence = denial.reason.consequence();
    CloseFrame { code: consequence.close_code.into(), reason: Utf8Bytes::from_static(consequence.token) }
}

/// what an endpoint is told of the frames that it sent (RFC 6455 section 7.4.1)
fn fault_code(error: &Error) -> CloseCode {
    match error {
        Error::Utf8(_) => CloseCode::Invalid,
        Error::Capacity(_) => CloseCode::Size,
        _ => CloseCode::Protocol,
    }
}

/// closes a socket that was let in only to hear why it is not
pub async fn dismiss(client: Client, denial: &Denial, limits: &Limits) {
    say_goodbye(client, Some(Some(denied(denial))), limits.write_timeout().min(LINGER)).await;
}

fn going_away() -> CloseFrame {
    CloseFrame { code: CloseCode::Away, reason: Utf8Bytes::from_static("") }
}

/// sends a close frame (or the answer to the peer's), then reads on until the peer has closed too, so that no reset destroys it
async fn say_goodbye(mut socket: Client, close: Option<Option<CloseFrame>>, patience: Duration) {
    let goodbye = async {
        let queued = match close {
            Some(frame) => socket.feed(Message::Close(frame)).await,
            None => Ok(()),
        };
        // Where the peer has closed already, its answer is what is left to send.
        if let Err(error) = queued {
            tracing::debug!(%error, "no close frame was sent");
        }
        let mut discarded = 0;
        if socket.flush().await.is_err() {
            return;
        }
        while discarded <= LINGER_MESSAGE_BYTES_MAX {
            match socket.next().await {
                Some(Ok(message)) => discarded += message.len(),
                Some(Err(Error::ConnectionClosed)) | None => return,
                Some(Err(_)) => break,
            }
        }
        // Its frames cannot be read any more, or are too many; but it may not have read ours yet.
        socket.discard(LINGER_BYTES_MAX).await;
    };
    // Whoever does not answer in time is dropped.
    if timeout(patience, goodbye).await.is_err() {
        tracing::debug!("peer did not answer the close in time");
    }
}

/// a random part of a time, so that what ends together does not come back together
fn random_part(of: Duration) -> Duration {
    let parts = u32::from_str_radix(&picket_shared::random::hex(2), 16).unwrap_or(0);
    of * parts / 0xffff
}
