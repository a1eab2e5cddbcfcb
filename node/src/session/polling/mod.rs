//! A session whose client polls: requests bring what the client says and fetch what it is told; the relay has the other end.
//!
//! The requests' end ([`PollingSession`]) is found by the session id, the relay's end ([`PollingSocket`]) takes the place of
//! a WebSocket; they meet at the [`desk`]. At most one poll and one post are open at a time, as in Engine.IO's own server: a
//! second one, or one that is broken off, ends the session.

mod desk;
mod requests;
mod socket;

use parking_lot::Mutex;
use picket_shared::random;
use picket_shared::reason::Reason;
use picket_shared::secret::Secret;
use picket_shared::token::Principal;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::attempt::ClaimedOrigin;
use crate::refusal::Denial;
use crate::route::Route;

pub use requests::{PollingSession, Turned};
pub use socket::PollingSocket;

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
        let session = Arc::new(PollingSession::new(sid.clone(), opener));
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

#[cfg(test)]
mod tests {
    use super::socket::QUEUE_BYTES_MAX;
    use super::*;
    use crate::config::RouteConfig;
    use futures_util::FutureExt;
    use serde_json::json;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use tokio_tungstenite::tungstenite::{Error, Message};

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
