//! The door for Socket.IO clients that poll: their requests open a session, fetch from it, post to it, or take it over.
//!
//! The node ends the polling transport: the upstream's side of such a session is a WebSocket. What a post brings goes the
//! way of a WebSocket's messages, so that both transports meet the same verdicts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header, request};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use picket_shared::random;
use picket_shared::reason::Reason;
use picket_shared::state::refund_all;
use picket_shared::telemetry::Trace;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::admission::still_admissible;
use crate::answer::Answer;
use crate::attempt::{Attempt, ClaimedOrigin};
use crate::checks;
use crate::config::Transport;
use crate::cors;
use crate::decide::{self, Case, Stage};
use crate::door::{Caller, Door, switching};
use crate::forwarded;
use crate::handshake::{self, EngineIo, Wish};
use crate::pardons::Pardons;
use crate::protocol::frames::Violation;
use crate::protocol::payload::{self, PayloadError};
use crate::refusal::Denial;
use crate::route::Route;
use crate::session::{Client, Opener, PollingSession, Relay, Sockets, Terms, Turned, client_socket, probe};
use crate::upstream::Opened;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");

impl Door {
    /// whether a request is one of the many of an open session: not a handshake, and bounded by what the session allows
    pub fn belongs_to_a_session(&self, wish: &Result<Wish, Answer>, head: &request::Parts) -> bool {
        let session = || self.polling.find(&handshake::polled_session(head)?);
        matches!(wish, Ok(Wish::Plain))
            && matches!(head.method, Method::GET | Method::POST)
            && session().is_some_and(|session| head.uri.path().starts_with(&*session.opener.route.path))
    }

    /// a request of a polling client; every answer says which page may read it
    pub async fn polled(
        &self,
        caller: &Caller,
        attempt: Attempt,
        route: &Arc<Route>,
        head: request::Parts,
        body: Incoming,
    ) -> Response<Full<Bytes>> {
        let origin = cors::origin(attempt.origin, &head.headers, caller.scheme, caller.host.as_ref());
        let attempt = Attempt { origin, ..attempt };
        let answered = self.poll_or_post(caller, &attempt, route, head, body).await;
        let mut response = answered.unwrap_or_else(Answer::into_response);
        cors::allow(&self.gate.policy.current(), &attempt.origin, response.headers_mut());
        response
    }

    async fn poll_or_post(
        &self,
        caller: &Caller,
        attempt: &Attempt,
        route: &Arc<Route>,
        head: request::Parts,
        body: Incoming,
    ) -> Result<Response<Full<Bytes>>, Answer> {
        if head.method == Method::OPTIONS {
            return self.preflight(attempt);
        }
        if head.method == Method::GET && has_body(&head.headers) {
            return Err(self.turn_away_one(attempt, Answer::refused(Reason::ProtocolError, "a GET with a body")));
        }
        let asked = handshake::engine_io(&head, route).map_err(|answer| self.turn_away_one(attempt, answer))?;
        match (asked, &head.method) {
            (EngineIo { transport: Transport::WebSocket, .. }, _) => {
                Err(self.turn_away_one(attempt, Answer::bad_request()))
            }
            (EngineIo { sid: None, .. }, &Method::GET) => self.open_polling(caller, attempt, route, &head).await,
            (EngineIo { sid: None, .. }, _) => {
                Err(self.turn_away_one(attempt, Answer::engine_io(2, "Bad handshake method")))
            }
            (EngineIo { sid: Some(sid), .. }, &Method::GET) => {
                let session = self.session(attempt, &sid).await?;
                let told = session.poll().await.map_err(turned)?;
                Ok(text(payload::write(&told)))
            }
            (EngineIo { sid: Some(sid), .. }, &Method::POST) => {
                let session = self.session(attempt, &sid).await?;
                self.post(&session, &head, body).await
            }
            (EngineIo { sid: Some(_), .. }, _) => Err(self.turn_away_one(attempt, Answer::bad_request())),
        }
    }

    fn preflight(&self, attempt: &Attempt) -> Result<Response<Full<Bytes>>, Answer> {
        let rules = self.gate.policy.current();
        let mut pardons = Pardons::by(&self.gate);
        let allowed = pardons.ask(checks::origin::check(&rules.cors, &attempt.origin));
        decide::pardoned(&self.gate, Case::of(attempt, Stage::Handshake), pardons);
        allowed.map_err(|denial| self.refuse(attempt, Stage::Handshake, denial))?;
        Ok(cors::preflight(&rules))
    }

    /// an error of a request that may have named a session, and so was not counted
    fn turn_away_one(&self, attempt: &Attempt, answer: Answer) -> Answer {
        match self.count_handshake(attempt) {
            Ok(()) => self.record(attempt, answer),
            Err(too_many) => too_many,
        }
    }

    /// the session that a request names, if it is the caller's: its id, and the subject of a token if the request carries
    /// one; not the address, since mobile clients roam
    async fn session(&self, attempt: &Attempt, sid: &str) -> Result<Arc<PollingSession>, Answer> {
        let gate = &self.gate;
        let found = self.polling.find(sid).filter(|session| session.opener.route.path == attempt.route);
        let attempt = as_opened(attempt, found.as_deref());
        let attempt = attempt.as_ref();
        // What is pardoned is recorded by the session itself.
        let admissible = still_admissible(gate, attempt, [], &mut Pardons::by(gate), gate.clock.now());
        if let Err(denial) = admissible {
            self.count_handshake(attempt)?;
            return Err(self.refuse(attempt, Stage::Session, denial));
        }
        match found {
            Some(session) if self.is_opener(&session.opener, attempt).await => Ok(session),
            Some(_) => Err(self.turn_away_one(attempt, unknown_session())),
            None => Err(unknown_session()),
        }
    }

    async fn is_opener(&self, opener: &Opener, attempt: &Attempt) -> bool {
        let Some(found) = &attempt.token else {
            return true;
        };
        if opener.token.as_ref() == Some(&found.token) {
            return true;
        }
        let gate = &self.gate;
        let subject = gate.keys.principal(Some(&found.token), gate.clock.now()).await.ok();
        subject.zip(opener.subject.as_ref()).is_some_and(|(one, other)| one.is_same(other))
    }

    /// admits a client and opens the upstream's side; the answer is the session's first poll
    async fn open_polling(
        &self,
        caller: &Caller,
        attempt: &Attempt,
        route: &Arc<Route>,
        head: &request::Parts,
    ) -> Result<Response<Full<Bytes>>, Answer> {
        let gate = &self.gate;
        let now = gate.clock.now();
        let (conversation, rate) = self.admit(attempt, route, now).await?;
        let refused = |denial: Denial| self.refuse(attempt, Stage::Admission, denial);
        let vacancy = match self.polling.vacancy() {
            Ok(vacancy) => vacancy,
            Err(denial) => {
                // The node is full: that is not the client's connection rate.
                refund_all(&*gate.counters, rate).await;
                return Err(refused(denial));
            }
        };
        let token = attempt.token.as_ref().map(|found| found.token.clone());
        let subject = gate.keys.principal(token.as_ref(), now).await.ok();
        let head = as_websocket(head);
        let (tunnel, answered, seat) = match self.open(caller, attempt, route, &head, &conversation).await {
            Ok((Opened::Tunnel(tunnel, answered), seat)) => (tunnel, answered, seat),
            Ok((Opened::Refused(response), _)) => return Ok(response),
            Err(denial) => {
                // The upstream failed: that is not the client's connection rate.
                refund_all(&*gate.counters, rate).await;
                return Err(refused(denial));
            }
        };
        let upgrades: &[&str] = if route.offers(Transport::WebSocket) { &["websocket"] } else { &[] };
        let terms = Terms { upgrades, body_bytes_max: gate.limits.polling_body_bytes_max };
        let opener = Opener { route: route.clone(), origin: attempt.origin.clone(), token, subject };
        let (session, socket) = self.polling.open(vacancy, opener, terms);
        let (gate, tasks, attention) = (gate.clone(), self.tasks.clone(), self.attention.listen());
        let trace = attempt.trace.clone().map(Trace::opened);
        let (attempt_of_session, held) = (Attempt { trace, ..attempt.clone() }, session.clone());
        self.tasks.spawn("polling session", async move {
            let sockets = Box::pin(Sockets::between(Client::Polling(socket), tunnel, &gate)).await;
            Box::new(Relay::new(gate, tasks, attempt_of_session, conversation, sockets, attention)).run().await;
            drop((held, seat));
        });
        let told = session.poll().await.unwrap_or_default();
        if !told.first().is_some_and(payload::is_open) {
            return Err(refused(Denial::from(Reason::UpstreamProtocol).because("no open packet")));
        }
        let mut response = text(payload::write(&told));
        response.headers_mut().extend(end_to_end(answered));
        Ok(response)
    }

    /// hands the packets of a body to the session; what cannot be read ends it
    async fn post(
        &self,
        session: &PollingSession,
        head: &request::Parts,
        body: Incoming,
    ) -> Result<Response<Full<Bytes>>, Answer> {
        let post = session.start_post().map_err(turned)?;
        match self.packets(head, body).await {
            Ok(packets) => {
                post.deliver(packets).await;
                let mut response = text(Bytes::from_static(b"ok"));
                // hyper hides a length beside the chunks: what a server on the way may have read as a second request is
                // not read here.
                if head.headers.contains_key(header::TRANSFER_ENCODING) {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok(response)
            }
            Err(flaw) => {
                match flaw.violation {
                    Some(violation) => post.violates(violation),
                    // Dropped unfinished: whoever was cut off has gone, and did nothing wrong.
                    None => drop(post),
                }
                Err(Answer::bad_request().status(flaw.status))
            }
        }
    }

    async fn packets(&self, head: &request::Parts, body: Incoming) -> Result<Vec<Message>, Flaw> {
        let limits = &self.gate.limits;
        if !is_plain_text(&head.headers) {
            return Err(Flaw::protocol(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a body that is not plain text"));
        }
        let body = read(body, limits.polling_body_bytes_max, Duration::from_millis(limits.message_timeout_ms)).await?;
        let body = std::str::from_utf8(&body);
        let body = body.map_err(|_| Flaw::protocol(StatusCode::BAD_REQUEST, "a body that is not UTF-8"))?;
        let packets = payload::read(body, limits.polling_packets_max).map_err(|error| match error {
            PayloadError::Malformed(detail) => Flaw::protocol(StatusCode::BAD_REQUEST, detail),
            PayloadError::TooMany => {
                Flaw { status: StatusCode::BAD_REQUEST, violation: Some(Violation::Flood("packets in one request")) }
            }
        })?;
        let bytes_max = self.gate.policy.current().validation.payload_bytes_max;
        match packets.iter().map(Message::len).find(|bytes| *bytes > bytes_max) {
            Some(bytes) => Err(Flaw::too_big(bytes)),
            None => Ok(packets),
        }
    }

    /// a WebSocket that wants to take over a polling session
    pub async fn probed(
        &self,
        attempt: &Attempt,
        sid: &str,
        key: &HeaderValue,
        on_upgrade: OnUpgrade,
        place: Arc<OwnedSemaphorePermit>,
    ) -> Result<Response<Full<Bytes>>, Answer> {
        let session = self.session(attempt, sid).await?;
        session.start_probe().map_err(turned)?;
        let gate = self.gate.clone();
        let patience = Duration::from_millis(gate.limits.connect_timeout_ms);
        self.tasks.spawn("probe", async move {
            match on_upgrade.await {
                Ok(client) => probe(client_socket(client, &gate).await, session, place, patience).await,
                Err(_) => session.end_probe(),
            }
        });
        Ok(switching(key, &HeaderMap::new()))
    }
}

/// a request that says no origin has that of its session: not every client says it again, and no page knows the session's id
fn as_opened<'a>(attempt: &'a Attempt, session: Option<&PollingSession>) -> Cow<'a, Attempt> {
    match (&attempt.origin, session) {
        (ClaimedOrigin::Missing, Some(session)) => {
            Cow::Owned(Attempt { origin: session.opener.origin.clone(), ..attempt.clone() })
        }
        _ => Cow::Borrowed(attempt),
    }
}

/// what is wrong with a post
struct Flaw {
    status: StatusCode,
    /// `None`: the client broke off
    violation: Option<Violation>,
}

impl Flaw {
    fn protocol(status: StatusCode, detail: &'static str) -> Self {
        Flaw { status, violation: Some(Violation::Protocol(detail)) }
    }

    fn too_big(bytes: usize) -> Self {
        Flaw { status: StatusCode::PAYLOAD_TOO_LARGE, violation: Some(Violation::TooBig(bytes as u64)) }
    }
}

/// a whole body, within bounds of size and time
async fn read(body: Incoming, bytes_max: usize, patience: Duration) -> Result<Bytes, Flaw> {
    match timeout(patience, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Flaw::too_big(bytes_max.saturating_add(1))),
        Ok(Err(_)) => Err(Flaw { status: StatusCode::BAD_REQUEST, violation: None }),
        Err(_) => Err(Flaw::protocol(StatusCode::REQUEST_TIMEOUT, "a body that took too long")),
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING)
}

/// as Engine.IO's clients send it: not compressed, not a form, not bytes
fn is_plain_text(headers: &HeaderMap) -> bool {
    let is_plain = |kind: &HeaderValue| {
        let kind = kind.to_str().unwrap_or_default();
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/plain"))
    };
    !headers.contains_key(header::CONTENT_ENCODING) && headers.get(header::CONTENT_TYPE).is_none_or(is_plain)
}

/// the same request for a WebSocket, with a key of the node's own
fn as_websocket(head: &request::Parts) -> request::Parts {
    let mut head = head.clone();
    let query = head.uri.query().unwrap_or_default();
    let is_transport = |pair: &str| url::form_urlencoded::parse(pair.as_bytes()).any(|(key, _)| key == "transport");
    let pairs: Vec<_> =
        query.split('&').map(|pair| if is_transport(pair) { "transport=websocket" } else { pair }).collect();
    let target = format!("{}?{}", head.uri.path(), pairs.join("&"));
    if let Ok(target) = target.parse::<PathAndQuery>() {
        head.uri = Uri::from(target);
    }
    let key = STANDARD.encode(random::bytes::<16>());
    head.headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    head.headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if let Ok(key) = HeaderValue::from_str(&key) {
        head.headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    head
}

/// what the upstream's 101 says to the client beyond the upgrade itself: cookies, say
fn end_to_end(mut answered: HeaderMap) -> HeaderMap {
    forwarded::remove_hop_by_hop(&mut answered);
    let concerns_another_answer = |name: &HeaderName| {
        let name = name.as_str();
        ["sec-websocket-", "access-control-", "content-"].iter().any(|prefix| name.starts_with(prefix))
            || matches!(name, "vary" | "date" | "cache-control")
    };
    let names: Vec<_> = answered.keys().filter(|name| concerns_another_answer(name)).cloned().collect();
    for name in names {
        answered.remove(name);
    }
    answered
}

fn text(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, TEXT);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn unknown_session() -> Answer {
    Answer::engine_io(1, "Session ID unknown")
}

fn turned(turned: Turned) -> Answer {
    match turned {
        Turned::Unknown => unknown_session(),
        Turned::Overlap => Answer::bad_request(),
    }
}
