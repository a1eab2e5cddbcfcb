//! The application's side: one connection per client, its handshake verified before anything is passed on (H07, H11).

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use picket_shared::reason::Reason;
use picket_shared::tasks::Tasks;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::gate::Gate;
use crate::handshake::has_token;
use crate::pool::{Pool, Seat, Standing};
use crate::refusal::Denial;
use crate::route::{Encryption, Route, Upstream};

/// the longest body of an upstream's own refusal that is passed on
const REFUSAL_BYTES_MAX: usize = 65_536;

/// the process, or the system, has no file descriptor left (errno of Linux)
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// what the upstream answered to the upgrade
pub enum Opened {
    /// a tunnel, and the headers of its 101
    Tunnel(Upgraded, HeaderMap),
    /// the application's own refusal (4xx or 5xx), to be passed on
    Refused(Response<Full<Bytes>>),
}

/// what the upstream is asked for
pub struct Asked<'a> {
    pub route: &'a Route,
    pub target: &'a PathAndQuery,
    pub headers: HeaderMap,
}

/// connects, sends the upgrade, and verifies the answer; the seat is held for as long as the tunnel
pub async fn open(tasks: &Tasks, gate: &Gate, asked: &Asked<'_>) -> Result<(Opened, Seat), Denial> {
    let (line, seat) = reach(gate, &asked.route.upstreams).await?;
    let patience = Duration::from_millis(gate.limits.upstream_header_timeout_ms);
    let answer = async {
        let answer = match line {
            Line::Plain(stream) => send(tasks, gate, &seat, stream, asked).await,
            Line::Encrypted(stream) => send(tasks, gate, &seat, stream, asked).await,
        }?;
        seat.succeeded();
        judge(&asked.headers, answer).await
    };
    match timeout(patience, answer).await {
        Ok(opened) => Ok((opened?, seat)),
        Err(_) => {
            note_failure(gate, &seat);
            Err(Denial::from(Reason::UpstreamSlow).because("no answer to the upgrade"))
        }
    }
}

/// a connection to an upstream
enum Line {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// the first upstream that can be connected to; none has seen the request yet, so that another may be tried. All share one time.
async fn reach(gate: &Gate, pool: &Pool) -> Result<(Line, Seat), Denial> {
    let patience = sleep(Duration::from_millis(gate.limits.upstream_connect_timeout_ms));
    tokio::pin!(patience);
    let mut refused = Denial::from(Reason::UpstreamUnavailable);
    for candidate in pool.candidates(gate.clock.now()) {
        let seat = candidate.take();
        let connected = tokio::select! {
            connected = connect(seat.upstream()) => connected,
            () = &mut patience => {
                note_failure(gate, &seat);
                return Err(Denial::from(Reason::UpstreamSlow).because("connect timed out"));
            }
        };
        match connected {
            Ok(line) => return Ok((line, seat)),
            // The node's own want: no upstream is to blame, and none can be reached.
            Err(denial) if denial.reason == Reason::Overload => return Err(denial),
            Err(denial) => {
                note_failure(gate, &seat);
                refused = denial;
            }
        }
    }
    Err(refused)
}

async fn connect(upstream: &Upstream) -> Result<Line, Denial> {
    let unavailable = |detail: String| Denial::from(Reason::UpstreamUnavailable).because(detail);
    let (host, port) = upstream.address();
    let stream = TcpStream::connect((host.as_str(), port)).await;
    let stream = stream.map_err(|error| match error.raw_os_error() {
        Some(EMFILE | ENFILE) => Denial::from(Reason::Overload).because("no file descriptor for the upstream"),
        _ => unavailable(format!("connect: {}", error.kind())),
    })?;
    // Latency over batching; a failure only costs that.
    stream.set_nodelay(true).ok();
    let Some(Encryption { connector, name }) = &upstream.tls else {
        return Ok(Line::Plain(stream));
    };
    let stream = TlsConnector::from(connector.load_full()).connect(name.clone(), stream).await;
    stream.map(|stream| Line::Encrypted(Box::new(stream))).map_err(|error| unavailable(format!("TLS: {error}")))
}

fn note_failure(gate: &Gate, seat: &Seat) {
    if seat.failed(&gate.limits, gate.clock.now()) == Standing::Ejected {
        gate.instruments.upstream_ejected();
        let (upstream, for_ms) = (&seat.upstream().authority, gate.limits.upstream_eject_ms);
        tracing::warn!(%upstream, for_ms, "an upstream is left alone");
    }
}

async fn send<S>(
    tasks: &Tasks,
    gate: &Gate,
    seat: &Seat,
    stream: S,
    asked: &Asked<'_>,
) -> Result<Response<Incoming>, Denial>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| {
        note_failure(gate, seat);
        Denial::from(Reason::UpstreamProtocol).because(format!("handshake: {error}"))
    };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(gate.limits.header_bytes_max)
        .max_headers(gate.limits.headers_max)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    tasks.spawn("upstream connection", async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    let upstream = seat.upstream();
    let target = asked.route.upstream_target(upstream, asked.target);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = target.parse().map_err(|_| Denial::from(Reason::ProtocolError).because("unusable path"))?;
    *request.headers_mut() = asked.headers.clone();
    let host = HeaderValue::from_str(upstream.authority.as_str());
    request.headers_mut().entry(header::HOST).or_insert(host.map_err(|_| Denial::from(Reason::UpstreamProtocol))?);
    sender.send_request(request).await.map_err(broken)
}

async fn judge(asked: &HeaderMap, answer: Response<Incoming>) -> Result<Opened, Denial> {
    let protocol = |detail: &str| Err(Denial::from(Reason::UpstreamProtocol).because(detail));
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return match answer.status() {
            status if status.is_client_error() || status.is_server_error() => refused(answer).await,
            status => protocol(&format!("status {}", status.as_u16())),
        };
    }
    let headers = answer.headers();
    let accept = asked.get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    if !has_token(headers, header::UPGRADE, "websocket") || !has_token(headers, header::CONNECTION, "upgrade") {
        return protocol("101 without upgrade headers");
    }
    if headers.get(header::SEC_WEBSOCKET_ACCEPT).and_then(|value| value.to_str().ok()) != accept.as_deref() {
        return protocol("wrong Sec-WebSocket-Accept");
    }
    if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        return protocol("an extension that was not offered");
    }
    let mut chosen = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    if let Some(name) = chosen.next()
        && (chosen.next().is_some() || !name.to_str().is_ok_and(|name| offers(asked, name)))
    {
        return protocol("a subprotocol that was not offered");
    }
    let headers = headers.clone();
    match hyper::upgrade::on(answer).await {
        Ok(tunnel) => Ok(Opened::Tunnel(tunnel, headers)),
        Err(_) => protocol("no tunnel after 101"),
    }
}

/// subprotocol names are compared as they are, not folded (RFC 6455 section 4.1)
fn offers(asked: &HeaderMap, name: &str) -> bool {
    let lists = asked.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    lists
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|offered| offered.trim() == name)
}

async fn refused(answer: Response<Incoming>) -> Result<Opened, Denial> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, REFUSAL_BYTES_MAX).collect().await;
    let body =
        body.map_err(|_| Denial::from(Reason::UpstreamProtocol).because("a refusal that is too long or breaks off"))?;
    let mut response = Response::new(Full::new(body.to_bytes()));
    *response.status_mut() = head.status;
    let kept = [header::CONTENT_TYPE, header::RETRY_AFTER, header::WWW_AUTHENTICATE, header::SET_COOKIE];
    for (name, value) in head.headers.iter().filter(|(name, _)| kept.contains(name)) {
        response.headers_mut().append(name, value.clone());
    }
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(Opened::Refused(response))
}
