//! The proxy's door: a request comes in; a session, or an answer that says why not, comes out.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use picket_shared::clock::Timestamp;
use picket_shared::random;
use picket_shared::reason::Reason;
use picket_shared::state::{Permits, refund_all};
use picket_shared::tasks::Tasks;
use picket_shared::telemetry::Trace;
use picket_shared::token::Principal;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::admission::{admit, count_handshake, screen};
use crate::answer::Answer;
use crate::arrival::{Arrived, Peer, Threshold, Unwelcome};
use crate::assertion::Assertions;
use crate::attempt::{Attempt, ClaimedOrigin};
use crate::checks::{reputation, upgrade_rate};
use crate::config::{DenyMode, Protocol, Transport};
use crate::decide::{self, Case, Stage};
use crate::forwarded;
use crate::gate::Gate;
use crate::handshake::{self, EngineIo, Wish};
use crate::pardons::Pardons;
use crate::pool::Seat;
use crate::refusal::{Denial, Refusal};
use crate::route::{Route, Routes};
use crate::session::{
    Attention, Client, Conversation, Plain, PollingSessions, Presence, Relay, SocketIo, Sockets, client_socket, dismiss,
};
use crate::spans::Exchange;
use crate::stopwatch::Stopwatch;
use crate::upstream::{self, Asked, Opened};

pub struct Door {
    pub gate: Arc<Gate>,
    pub routes: Routes,
    pub threshold: Threshold,
    pub assertions: Option<Assertions>,
    pub tasks: Tasks,
    pub attention: Attention,
    pub polling: Arc<PollingSessions>,
}

/// who asks, by what was settled before any check
pub struct Caller {
    pub address: IpAddr,
    pub scheme: &'static str,
    pub host: Option<HeaderValue>,
    pub trace: Option<Trace>,
}

impl Door {
    /// a socket's way to HTTP; whoever is blocked gets no TLS handshake, unless others may stand behind the same proxy
    pub async fn receive(&self, stream: TcpStream, peer: SocketAddr) -> Result<(Arrived, Peer), Unwelcome> {
        let is_worth_tls = |address| match self.is_trusted(address) {
            true => Ok(()),
            false => {
                let rules = self.gate.policy.current();
                let (blocks, now) = (&self.gate.blocks, self.gate.clock.now());
                let verdict = reputation::check(blocks, &rules.security.allow_list, address, now);
                // In shadow it is recorded with the request.
                verdict.or_else(|denial| if rules.enforcement.pardons(denial.reason) { Ok(()) } else { Err(denial) })
            }
        };
        self.threshold.receive(stream, peer, is_worth_tls).await
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        picket_shared::address::contains_any(&self.threshold.trusted_proxies, address)
    }

    pub async fn enter(
        &self,
        peer: Peer,
        request: Request<Incoming>,
        place: Arc<OwnedSemaphorePermit>,
    ) -> Response<Full<Bytes>> {
        let trusted = &self.threshold.trusted_proxies;
        let address = match forwarded::client_address(peer.address.ip(), request.headers(), trusted) {
            Ok(address) => address,
            Err(denial) => return self.shuts(peer.address, denial),
        };
        let caller = self.caller(peer, address, request.headers());
        let exchange = caller.trace.as_ref().map(|trace| Exchange::new(trace, Some(address), caller.scheme, &request));
        let (response, reason) = match self.upgrade(&caller, request, place).await {
            Ok(response) => {
                let reason = response.extensions().get::<Reason>().copied();
                (response, reason)
            }
            Err(answer) => {
                let reason = answer.denial.as_ref().map(|denial| denial.reason);
                (answer.into_response(), reason)
            }
        };
        if let Some(exchange) = exchange {
            let route = exchange.route(&self.routes);
            exchange.answered(&self.gate, route, response.status(), reason);
        }
        response
    }

    fn caller(&self, peer: Peer, address: IpAddr, headers: &HeaderMap) -> Caller {
        let trusted = self.is_trusted(peer.address.ip());
        let (scheme, host) = if trusted { forwarded::claimed(headers) } else { (None, None) };
        let seen = if peer.is_encrypted { "https" } else { "http" };
        let host = host.or_else(|| headers.get(header::HOST).cloned());
        let trace = self.gate.tracer.as_ref().map(|tracer| tracer.join(headers));
        Caller { address, scheme: scheme.unwrap_or(seen), host, trace }
    }

    async fn upgrade(
        &self,
        caller: &Caller,
        mut request: Request<Incoming>,
        place: Arc<OwnedSemaphorePermit>,
    ) -> Result<Response<Full<Bytes>>, Answer> {
        let gate = &self.gate;
        let now = gate.clock.now();
        let on_upgrade = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        let attempt = first_look(caller, &head);
        let wish = handshake::judge(&head);
        if !self.belongs_to_a_session(&wish, &head) {
            self.count_handshake(&attempt)?;
        }
        let wish = wish.map_err(|answer| self.record(&attempt, answer))?;
        let route = self
            .routes
            .find(handshake::host(&head.uri, &head.headers).as_deref(), head.uri.path())
            .ok_or_else(|| unrouted(&head))?;
        if let Some(name) = gate.keys.sources.doubled(head.uri.query()) {
            return Err(self.record(&attempt, Answer::refused(Reason::ProtocolError, format!("two {name} parameters"))));
        }
        let token = gate.keys.sources.in_request(&head.headers, head.uri.query());
        let attempt = Attempt { token, route: route.path.clone(), ..attempt };
        let Wish::WebSocket { key } = wish else {
            return match route.offers(Transport::Polling) {
                true => Ok(self.polled(caller, attempt, route, head, body).await),
                false => Err(self.record(&attempt, handshake::plain(route, &head))),
            };
        };
        if route.protocol == Protocol::SocketIo {
            let asked = handshake::engine_io(&head, route).map_err(|answer| self.record(&attempt, answer))?;
            match asked {
                EngineIo { transport: Transport::Polling, .. } => return Err(Answer::bad_request()),
                EngineIo { sid: Some(sid), .. } => return self.probed(&attempt, &sid, &key, on_upgrade, place).await,
                EngineIo { sid: None, .. } => {}
            }
        }
        let (conversation, rate) = match self.admit(&attempt, route, now).await {
            Ok(admitted) => admitted,
            Err(answer) => return self.deny(route, answer, &head.headers, &key, on_upgrade, place),
        };
        let (tunnel, answered, seat) = match self.open(caller, &attempt, route, &head, &conversation).await {
            Ok((Opened::Tunnel(tunnel, answered), seat)) => (tunnel, answered, seat),
            Ok((Opened::Refused(response), _)) => return Ok(response),
            Err(denial) => {
                // The upstream failed: that is not the client's connection rate.
                refund_all(&*self.gate.counters, rate).await;
                let answer = self.refuse(&attempt, Stage::Admission, denial);
                return self.deny(route, answer, &head.headers, &key, on_upgrade, place);
            }
        };
        let response = switching(&key, &answered);
        let attempt = Attempt { trace: attempt.trace.map(Trace::opened), ..attempt };
        let (gate, tasks, attention) = (gate.clone(), self.tasks.clone(), self.attention.listen());
        self.tasks.spawn("session", async move {
            let Ok(client) = on_upgrade.await else {
                return;
            };
            // Boxed, as are a session's other seldom ways: while it is idle, it keeps only what it needs.
            let client = Client::WebSocket(Box::pin(client_socket(client, &gate)).await);
            let sockets = Box::pin(Sockets::between(client, tunnel, &gate)).await;
            Box::new(Relay::new(gate, tasks, attempt, conversation, sockets, attention)).run().await;
            drop((place, seat));
        });
        Ok(response)
    }

    /// A refusal in the form that its route wants: an HTTP answer or, for browsers, which show their page no status, an upgrade
    /// that is closed at once. A node that has too much to do answers by HTTP.
    fn deny(
        &self,
        route: &Route,
        answer: Answer,
        headers: &HeaderMap,
        key: &HeaderValue,
        on_upgrade: OnUpgrade,
        place: Arc<OwnedSemaphorePermit>,
    ) -> Result<Response<Full<Bytes>>, Answer> {
        let is_told =
            |denial: &Denial| route.deny_mode == DenyMode::AcceptThenClose && denial.reason != Reason::Overload;
        let Some(denial) = answer.denial.clone().filter(is_told) else {
            return Err(answer);
        };
        let mut response = switching(key, &first_subprotocol(headers));
        response.extensions_mut().insert(denial.reason);
        let gate = self.gate.clone();
        self.tasks.spawn("dismissal", async move {
            let Ok(client) = on_upgrade.await else {
                return;
            };
            let client = Client::WebSocket(Box::pin(client_socket(client, &gate)).await);
            Box::pin(dismiss(client, &denial, &gate.limits)).await;
            drop(place);
        });
        Ok(response)
    }

    /// counts against the limit of handshakes of the address
    pub fn count_handshake(&self, attempt: &Attempt) -> Result<(), Answer> {
        self.charge_handshake(attempt).map_err(|denial| self.refuse(attempt, Stage::Handshake, denial))
    }

    /// the checks that the upgrade can be held to; the slots that they take live in the conversation
    pub async fn admit(
        &self,
        attempt: &Attempt,
        route: &Arc<Route>,
        now: Timestamp,
    ) -> Result<(Conversation, Permits), Answer> {
        let gate = &self.gate;
        let chance = u16::from_le_bytes(random::bytes());
        let has_room = gate.memory.check().and_then(|()| upgrade_rate::check(&gate.upgrades, now, chance));
        has_room.map_err(|denial| self.refuse(attempt, Stage::Handshake, denial))?;
        let refused = |refusal: Refusal| self.refuse(attempt, Stage::Admission, refusal);
        let stopwatch = Stopwatch::of_admission();
        if route.protocol != Protocol::SocketIo {
            let mut pardons = Pardons::by(gate);
            let outcome = admit(gate, attempt, &mut pardons, now).await;
            stopwatch.stop(gate);
            decide::pardoned(gate, Case::of(attempt, Stage::Admission), pardons);
            let (screened, admitted) = outcome.map_err(refused)?;
            decide::admitted(gate, attempt, &admitted.principal);
            let mut presence = Presence::new(gate.traffic.clone());
            presence.shows(&admitted.principal);
            let plain = Plain::new(admitted, presence, route.clone());
            return Ok((Conversation::Plain(Box::new(plain)), screened.rate));
        }
        let mut pardons = Pardons::by(gate);
        let outcome = screen(gate, attempt, &mut pardons, now).await;
        stopwatch.stop(gate);
        decide::pardoned(gate, Case::of(attempt, Stage::Admission), pardons);
        let mut screened = outcome.map_err(refused)?;
        let waiting = gate.waits_for_connect(attempt.address).map_err(|denial| refused(denial.into()))?;
        let rate = std::mem::take(&mut screened.rate);
        let presence = Presence::new(gate.traffic.clone());
        let socketio = SocketIo::new(route.parser, screened, presence, waiting, now, &gate.limits);
        Ok((Conversation::SocketIo(Box::new(socketio)), rate))
    }

    /// asks the upstream for the same upgrade, with what the client may not say removed and what Picket knows added
    pub async fn open(
        &self,
        caller: &Caller,
        attempt: &Attempt,
        route: &Route,
        head: &request::Parts,
        conversation: &Conversation,
    ) -> Result<(Opened, Seat), Denial> {
        let mut headers = head.headers.clone();
        forwarded::remove_hop_by_hop(&mut headers);
        forwarded::remove_claims(&mut headers);
        headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
        let principal: Option<&Principal> = conversation.principals().into_iter().next();
        forwarded::add_claims(&mut headers, attempt, caller.host.as_ref(), caller.scheme, principal);
        if let Some(assertions) = &self.assertions {
            headers.insert("x-picket-assertion", assertions.state(attempt, principal, self.gate.clock.now())?);
        }
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if let Some(trace) = &attempt.trace {
            forwarded::continue_trace(&mut headers, trace);
        }
        let root = PathAndQuery::from_static("/");
        let target = head.uri.path_and_query().unwrap_or(&root);
        let opened = upstream::open(&self.tasks, &self.gate, &Asked { route, target, headers }).await;
        opened.map_err(|denial| match principal {
            Some(principal) => denial.of(principal),
            None => denial,
        })
    }

    /// the answer to a socket that finds no place
    pub fn turn_away(&self, peer: Peer) -> Response<Full<Bytes>> {
        self.refuse(
            &self.unheard(peer.address),
            Stage::Handshake,
            Denial::from(Reason::Overload).because("node.limits.connectionsMax"),
        )
        .into_response()
    }

    /// the answer to a request of which nothing can be believed
    pub fn shuts(&self, peer: SocketAddr, denial: Denial) -> Response<Full<Bytes>> {
        Answer::from(self.closes_on(peer, denial)).into_response()
    }

    /// records a socket that was closed before its request was understood; what a trusted proxy sends is on nobody's account
    pub fn closes_on(&self, peer: SocketAddr, denial: Denial) -> Denial {
        let attempt = self.unheard(peer);
        let (gate, case) = (&self.gate, Case::of(&attempt, Stage::Handshake));
        if self.is_trusted(attempt.address) {
            return decide::refuse_unscored(gate, case, denial);
        }
        let counted = decide::refuse(gate, case, self.charge_handshake(&attempt).err().unwrap_or(denial.clone()));
        Denial { appeal: counted.appeal, ..denial }
    }

    /// a socket that did not come as far as HTTP is an attempt like others, and beyond their limit an offence
    pub fn counts_in_vain(&self, peer: SocketAddr) {
        let attempt = self.unheard(peer);
        if self.is_trusted(attempt.address) {
            return;
        }
        if let Err(denial) = self.charge_handshake(&attempt) {
            self.refuse(&attempt, Stage::Handshake, denial);
        }
    }

    fn charge_handshake(&self, attempt: &Attempt) -> Result<(), Denial> {
        let mut pardons = Pardons::by(&self.gate);
        let counted = count_handshake(&self.gate, attempt.address, &mut pardons, self.gate.clock.now());
        decide::pardoned(&self.gate, Case::of(attempt, Stage::Handshake), pardons);
        counted
    }

    /// what is known of a socket without a request
    fn unheard(&self, peer: SocketAddr) -> Attempt {
        Attempt {
            id: random::hex(16).into(),
            address: picket_shared::address::canonical(peer.ip()),
            origin: ClaimedOrigin::Missing,
            token: None,
            route: "-".into(),
            trace: self.gate.tracer.as_ref().map(|tracer| tracer.join(&HeaderMap::new())),
        }
    }

    pub fn refuse(&self, attempt: &Attempt, stage: Stage, refusal: impl Into<Refusal>) -> Answer {
        decide::refuse(&self.gate, Case::of(attempt, stage), refusal).into()
    }

    pub fn record(&self, attempt: &Attempt, mut answer: Answer) -> Answer {
        let refuse = |denial| decide::refuse(&self.gate, Case::of(attempt, Stage::Handshake), denial);
        answer.denial = answer.denial.map(refuse);
        answer
    }
}

/// a host or path that no route has; in absolute form the request was meant for another server
fn unrouted(head: &request::Parts) -> Answer {
    match head.uri.authority() {
        Some(_) => Answer::not_found().status(StatusCode::MISDIRECTED_REQUEST),
        None => Answer::not_found(),
    }
}

/// what is known before a route is found
fn first_look(caller: &Caller, head: &request::Parts) -> Attempt {
    Attempt {
        id: random::hex(16).into(),
        address: caller.address,
        origin: handshake::origin(&head.headers),
        token: None,
        route: "-".into(),
        trace: caller.trace.clone(),
    }
}

/// where several are offered and none is chosen, browsers end the connection before they hear its close code
fn first_subprotocol(offered: &HeaderMap) -> HeaderMap {
    let list = offered.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|list| list.to_str().ok());
    let first = list.and_then(|list| HeaderValue::from_str(list.split(',').next()?.trim()).ok());
    first.map(|first| (header::SEC_WEBSOCKET_PROTOCOL, first)).into_iter().collect()
}

/// the 101, with the upstream's own end-to-end headers (a sticky cookie, say)
pub fn switching(key: &HeaderValue, answered: &HeaderMap) -> Response<Full<Bytes>> {
    let mut headers = answered.clone();
    forwarded::remove_hop_by_hop(&mut headers);
    headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}
