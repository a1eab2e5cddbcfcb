//! A session whose client polls: requests bring what the client says and fetch what it is told; the relay has the other end.
//!
//! The requests' end ([`PollingSession`]) is found by the session id, the relay's end ([`PollingSocket`]) takes the place of
//! a WebSocket. At most one poll and one post are open at a time, as in Engine.IO's own server: a second one, or one that is
//! broken off, ends the session.

use parking_lot::{Mutex, MutexGuard};
use picket_shared::random;
use picket_shared::reason::Reason;
use picket_shared::secret::Secret;
use picket_shared::token::Principal;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::guard::Written;
use super::sockets::Socket;
use crate::attempt::ClaimedOrigin;
use crate::protocol::frames::Violation;
use crate::protocol::payload;
use crate::refusal::Denial;
use crate::route::Route;

/// what may wait for the next poll before the upstream is not read any more; one message may go beyond it
const QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// when a refused client may find a place
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// the polling sessions of a node, by session id
pub struct PollingSessions {
    table: Mutex<HashMap<Arc<str>, Arc<PollingSession>>>,
    places: Arc<Semaphore>,
}

/// room for one more session
pub struct Vacancy {
    _permit: OwnedSemaphorePermit,
}

/// whose session it is, as its first request showed
pub struct Opener {
    pub route: Arc<Route>,
    pub origin: ClaimedOrigin,
    pub token: Option<Secret>,
    /// whom that token speaks for; `None` if nobody vouches for it
    pub subject: Option<Principal>,
}

/// what a session's open packet says beyond the upstream's words
pub struct Terms {
    /// the transports that the client may go over to
    pub upgrades: &'static [&'static str],
    /// bytes of one request's body
    pub body_bytes_max: usize,
}

/// the end of a session that its requests see
pub struct PollingSession {
    pub sid: Arc<str>,
    pub opener: Opener,
    desk: Mutex<Desk>,
    written: Written,
}

/// the end of a session that its relay sees
pub struct PollingSocket {
    session: Arc<PollingSession>,
    sessions: Arc<PollingSessions>,
    terms: Terms,
    is_open: bool,
    _vacancy: Vacancy,
}

/// where both ends meet
#[derive(Default)]
struct Desk {
    incoming: VecDeque<Message>,
    /// told when all of a post was dealt with
    dealt_with: Option<oneshot::Sender<()>>,
    outgoing: VecDeque<Message>,
    outgoing_bytes: usize,
    is_posting: bool,
    is_polling: bool,
    is_probing: bool,
    /// a request came since the relay last asked
    was_heard: bool,
    violation: Option<Violation>,
    stage: Stage,
    upgraded: Option<Upgraded>,
    /// of the WebSocket that took over, held as long as the session
    place: Option<Arc<OwnedSemaphorePermit>>,
    relay: Option<Waker>,
    poller: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// the client broke a request off
    Gone,
    /// the last words wait for a poll
    Closing,
    /// the session goes on over a WebSocket
    Upgraded,
    Ended,
}

/// the WebSocket that takes over, and its place among the node's sockets
struct Upgraded {
    socket: Box<Socket>,
    place: Arc<OwnedSemaphorePermit>,
}

/// why a request has no answer from the session
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// there is no such session any more
    Unknown,
    /// another request of the same kind is open
    Overlap,
}

impl PollingSessions {
    pub fn new(sessions_max: usize) -> Self {
        PollingSessions {
            table: Mutex::default(),
            places: Arc::new(Semaphore::new(sessions_max.min(Semaphore::MAX_PERMITS))),
        }
    }

    pub fn vacancy(&self) -> Result<Vacancy, Denial> {
        self.places.clone().try_acquire_owned().map(|_permit| Vacancy { _permit }).map_err(|_| {
            Denial::from(Reason::Overload).retry_after(RETRY_AFTER).because("node.limits.pollingSessionsMax")
        })
    }

    pub fn find(&self, sid: &str) -> Option<Arc<PollingSession>> {
        self.table.lock().get(sid).cloned()
    }

    /// both ends of a new session
    pub fn open(
        self: &Arc<Self>,
        vacancy: Vacancy,
        opener: Opener,
        terms: Terms,
    ) -> (Arc<PollingSession>, PollingSocket) {
        // The node's own, so that it cannot be guessed whatever the upstream's are like.
        let sid: Arc<str> = random::hex(16).into();
        let session = PollingSession { sid: sid.clone(), opener, desk: Mutex::default(), written: Written::default() };
        let session = Arc::new(session);
        self.table.lock().insert(sid, session.clone());
        let socket = PollingSocket {
            session: session.clone(),
            sessions: self.clone(),
            terms,
            is_open: false,
            _vacancy: vacancy,
        };
        (session, socket)
    }
}

impl PollingSession {
    /// waits for something to tell the client
    pub async fn poll(&self) -> Result<Vec<Message>, Turned> {
        let mut open = self.start(Request::Poll)?;
        let told = poll_fn(|cx| self.poll_outgoing(cx)).await;
        open.is_whole = true;
        told
    }

    /// takes the session's one place for a post, before its body is read
    pub fn start_post(&self) -> Result<OpenRequest<'_>, Turned> {
        self.start(Request::Post)
    }

    fn start(&self, request: Request) -> Result<OpenRequest<'_>, Turned> {
        let mut desk = self.desk.lock();
        let is_last_poll = request == Request::Poll && desk.stage == Stage::Closing && !desk.outgoing.is_empty();
        if desk.stage != Stage::Open && !is_last_poll {
            return Err(Turned::Unknown);
        }
        if std::mem::replace(desk.open_mark(request), true) {
            desk.violation.get_or_insert(Violation::Protocol("two requests of one kind at a time"));
            desk.wake_relay();
            return Err(Turned::Overlap);
        }
        desk.was_heard = true;
        desk.wake_relay();
        drop(desk);
        Ok(OpenRequest { session: self, request, is_whole: false })
    }

    fn poll_outgoing(&self, cx: &mut Context<'_>) -> Poll<Result<Vec<Message>, Turned>> {
        let mut desk = self.desk.lock();
        if !desk.outgoing.is_empty() {
            self.written.add(std::mem::take(&mut desk.outgoing_bytes));
            let told = desk.take_outgoing();
            desk.wake_relay();
            return Poll::Ready(Ok(told));
        }
        match desk.stage {
            Stage::Upgraded => Poll::Ready(Ok(vec![Message::text(payload::NOOP)])),
            Stage::Ended | Stage::Gone => Poll::Ready(Err(Turned::Unknown)),
            Stage::Open | Stage::Closing => {
                desk.poller = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// a WebSocket asks to take over; one at a time
    pub fn start_probe(&self) -> Result<(), Turned> {
        let mut desk = self.desk.lock();
        if desk.stage != Stage::Open {
            return Err(Turned::Unknown);
        }
        match std::mem::replace(&mut desk.is_probing, true) {
            true => Err(Turned::Overlap),
            false => Ok(()),
        }
    }

    /// another WebSocket may try
    pub fn end_probe(&self) {
        self.desk.lock().is_probing = false;
    }

    /// lets an open poll return, so that the client can go over; says whether the session still polls
    pub fn release_poll(&self) -> bool {
        let mut desk = self.desk.lock();
        desk.noop();
        desk.stage == Stage::Open
    }

    pub fn is_open(&self) -> bool {
        self.desk.lock().stage == Stage::Open
    }

    /// the relay goes on with this WebSocket
    pub fn hand_over(&self, socket: Box<Socket>, place: Arc<OwnedSemaphorePermit>) {
        let mut desk = self.desk.lock();
        if desk.stage == Stage::Open {
            desk.upgraded = Some(Upgraded { socket, place });
            desk.wake_relay();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Poll,
    Post,
}

/// a request that the session waits for; broken off, it ends the session
pub struct OpenRequest<'a> {
    session: &'a PollingSession,
    request: Request,
    is_whole: bool,
}

impl OpenRequest<'_> {
    /// hands the packets of a post to the relay, and waits until it has dealt with all of them
    pub async fn deliver(mut self, messages: Vec<Message>) {
        let (dealt_with, wait) = oneshot::channel();
        {
            let mut desk = self.session.desk.lock();
            desk.incoming = messages.into();
            desk.dealt_with = Some(dealt_with);
            desk.wake_relay();
        }
        // An error says that the session ended over it: its last words go to the poll.
        wait.await.ok();
        self.is_whole = true;
    }

    /// ends the session for what the post was
    pub fn violates(mut self, violation: Violation) {
        self.is_whole = true;
        let mut desk = self.session.desk.lock();
        desk.violation.get_or_insert(violation);
        desk.wake_relay();
    }
}

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        let mut desk = self.session.desk.lock();
        *desk.open_mark(self.request) = false;
        if !self.is_whole && desk.stage == Stage::Open {
            desk.stage = Stage::Gone;
            desk.wake_relay();
        }
    }
}

impl Desk {
    fn open_mark(&mut self, request: Request) -> &mut bool {
        match request {
            Request::Poll => &mut self.is_polling,
            Request::Post => &mut self.is_posting,
        }
    }

    fn wake_relay(&mut self) {
        if let Some(waker) = self.relay.take() {
            waker.wake();
        }
    }

    fn wake_poller(&mut self) {
        if let Some(waker) = self.poller.take() {
            waker.wake();
        }
    }

    fn push(&mut self, message: Message) {
        self.outgoing_bytes += payload::written_len(&message);
        self.outgoing.push_back(message);
    }

    /// what waits for a poll; the end by itself, since clients forget what came in one body with it
    fn take_outgoing(&mut self) -> Vec<Message> {
        let kept = usize::from(self.stage == Stage::Closing && self.outgoing.len() > 1);
        let told = self.outgoing.len() - kept;
        self.outgoing.drain(..told).collect()
    }

    fn noop(&mut self) {
        if self.is_polling && self.outgoing.is_empty() {
            self.push(Message::text(payload::NOOP));
            self.wake_poller();
        }
    }

    fn all_dealt_with(&mut self) {
        if let Some(dealt_with) = self.dealt_with.take() {
            // Whoever asked may have gone.
            dealt_with.send(()).ok();
        }
    }
}

impl PollingSocket {
    pub fn written(&self) -> Written {
        self.session.written.clone()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.session.desk.lock()
    }

    /// what the client says; a poll is a sign of life, as a pong is
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        let mut desk = self.desk();
        if desk.stage == Stage::Closing {
            return Poll::Ready(None);
        }
        if let Some(violation) = desk.violation.take() {
            return Poll::Ready(Some(Err(Error::Io(io::Error::other(violation)))));
        }
        if let Some(message) = desk.incoming.pop_front() {
            return Poll::Ready(Some(Ok(message)));
        }
        desk.all_dealt_with();
        if desk.stage == Stage::Gone {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut desk.was_heard) {
            return Poll::Ready(Some(Ok(Message::Pong(bytes::Bytes::new()))));
        }
        desk.relay = Some(cx.waker().clone());
        Poll::Pending
    }

    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut desk = self.desk();
        if desk.stage == Stage::Gone {
            return Poll::Ready(Err(Error::ConnectionClosed));
        }
        if desk.outgoing_bytes >= QUEUE_BYTES_MAX && desk.stage == Stage::Open {
            desk.relay = Some(cx.waker().clone());
            desk.wake_poller();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    pub fn send(&mut self, message: Message) -> Result<(), Error> {
        let message = match message {
            Message::Text(text) if !self.is_open => {
                let terms = &self.terms;
                let open = payload::open(&text, &self.session.sid, terms.upgrades, terms.body_bytes_max);
                self.is_open = true;
                Message::text(open.ok_or(Error::ConnectionClosed)?)
            }
            other => other,
        };
        let mut desk = self.desk();
        match message {
            Message::Text(_) | Message::Binary(_) => desk.push(message),
            // Whoever has no poll open shows that it lives by the next one.
            Message::Ping(_) => desk.noop(),
            Message::Close(_) if matches!(desk.stage, Stage::Open) => {
                desk.push(Message::text(payload::CLOSE));
                desk.stage = Stage::Closing;
                desk.incoming.clear();
                desk.all_dealt_with();
            }
            Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
        }
        Ok(())
    }

    /// the last words are flushed when they were fetched; others wait for the next poll without keeping the relay
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut desk = self.desk();
        if desk.outgoing.is_empty() {
            return Poll::Ready(Ok(()));
        }
        desk.wake_poller();
        if desk.stage != Stage::Closing {
            return Poll::Ready(Ok(()));
        }
        desk.relay = Some(cx.waker().clone());
        Poll::Pending
    }

    /// the WebSocket that took over, and what it has still to be told; not before all of a post was dealt with
    pub fn taken_over(&mut self) -> Option<(Socket, Vec<Message>)> {
        let mut desk = self.desk();
        if desk.stage != Stage::Open || !desk.incoming.is_empty() {
            return None;
        }
        let Upgraded { socket, place } = desk.upgraded.take()?;
        desk.stage = Stage::Upgraded;
        desk.place = Some(place);
        let mut queued: Vec<_> = std::mem::take(&mut desk.outgoing).into();
        queued.retain(|message| !matches!(message, Message::Text(text) if text.as_str() == payload::NOOP));
        drop(desk);
        Some((*socket, queued))
    }
}

impl Drop for PollingSocket {
    fn drop(&mut self) {
        self.sessions.table.lock().remove(&self.session.sid);
        let mut desk = self.desk();
        if desk.stage != Stage::Upgraded {
            desk.stage = Stage::Ended;
            desk.upgraded = None;
        }
        desk.all_dealt_with();
        desk.wake_poller();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RouteConfig;
    use futures_util::FutureExt;
    use serde_json::json;
    use std::pin::pin;

    const OPEN: &str = r#"0{"sid":"theirs","upgrades":[],"pingInterval":1,"pingTimeout":1,"maxPayload":1}"#;

    fn sessions(sessions_max: usize) -> Arc<PollingSessions> {
        Arc::new(PollingSessions::new(sessions_max))
    }

    fn open(sessions: &Arc<PollingSessions>) -> (Arc<PollingSession>, PollingSocket) {
        let route = json!({ "path": "/socket.io/", "upstream": "http://127.0.0.1:3000", "protocol": "socketio" });
        let route: RouteConfig = serde_json::from_value(route).unwrap();
        let route = Route::new(&route).unwrap().into();
        let opener = Opener { route, origin: ClaimedOrigin::Missing, token: None, subject: None };
        let terms = Terms { upgrades: &["websocket"], body_bytes_max: 1000 };
        let (session, mut socket) = sessions.open(sessions.vacancy().unwrap(), opener, terms);
        socket.send(Message::text(OPEN)).unwrap();
        assert_eq!(told(&session).map(|told| told.len()), Ok(1));
        (session, socket)
    }

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn told(session: &PollingSession) -> Result<Vec<Message>, Turned> {
        session.poll().now_or_never().expect("something to tell")
    }

    #[test]
    fn the_end_comes_after_the_last_words_in_a_body_of_its_own() {
        let sessions = sessions(1);
        let (session, mut socket) = open(&sessions);
        socket.send(Message::text("42[1]")).unwrap();
        socket.send(Message::Close(None)).unwrap();
        assert!(socket.poll_flush(&mut context()).is_pending());
        assert_eq!(told(&session), Ok(vec![Message::text("42[1]")]));
        assert!(session.start_post().is_err(), "nothing more is taken");
        assert_eq!(told(&session), Ok(vec![Message::text("1")]));
        assert!(socket.poll_flush(&mut context()).is_ready());
        assert_eq!(told(&session), Err(Turned::Unknown));
        assert!(sessions.vacancy().is_err());
        drop(socket);
        assert!(sessions.find(&session.sid).is_none() && sessions.vacancy().is_ok());
    }

    #[test]
    fn s11_a_second_poll_or_one_that_is_broken_off_ends_the_session() {
        let (session, mut socket) = open(&sessions(1));
        {
            let mut first = pin!(session.poll());
            assert!(first.as_mut().now_or_never().is_none());
            assert_eq!(told(&session), Err(Turned::Overlap));
            assert!(matches!(socket.poll_next(&mut context()), Poll::Ready(Some(Err(Error::Io(_))))));
        }
        while let Poll::Ready(Some(Ok(said))) = socket.poll_next(&mut context()) {
            assert!(said.is_pong());
        }
        assert!(matches!(socket.poll_next(&mut context()), Poll::Ready(None)));
    }

    #[test]
    fn a_post_is_answered_when_all_of_it_was_dealt_with() {
        let (session, mut socket) = open(&sessions(1));
        let mut post = pin!(session.start_post().unwrap().deliver(vec![Message::text("40"), Message::text("41")]));
        assert!(session.start_post().is_err(), "one at a time");
        session.desk.lock().violation = None;
        for expected in ["40", "41"] {
            assert!(post.as_mut().now_or_never().is_none());
            let said = socket.poll_next(&mut context());
            assert!(matches!(said, Poll::Ready(Some(Ok(Message::Text(text)))) if text.as_str() == expected));
        }
        assert!(matches!(socket.poll_next(&mut context()), Poll::Ready(Some(Ok(Message::Pong(_))))));
        assert!(post.now_or_never().is_some());
    }

    #[test]
    fn x28_a_full_queue_waits_for_a_poll() {
        let (session, mut socket) = open(&sessions(1));
        let message = Message::text("4".repeat(QUEUE_BYTES_MAX));
        assert!(socket.poll_ready(&mut context()).is_ready());
        socket.send(message.clone()).unwrap();
        assert!(socket.poll_ready(&mut context()).is_pending());
        let before = socket.written().bytes();
        assert_eq!(told(&session), Ok(vec![message]));
        assert!(socket.poll_ready(&mut context()).is_ready() && socket.written().bytes() > before);
    }
}
