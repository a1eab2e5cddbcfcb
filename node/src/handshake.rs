//! The upgrade request, judged before anything else looks at it (RFC 6455 section 4.2.1). Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header, request};

use crate::answer::Answer;
use crate::attempt::ClaimedOrigin;
use crate::config::Protocol;
use crate::route::is_ambiguous;
use picket_shared::policy::Origin;
use picket_shared::reason::Reason;

/// headers of which two copies have two readings (H04)
const SINGLE: [http::HeaderName; 6] = [
    header::HOST,
    header::ORIGIN,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
];

/// what kind of request it is
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    /// a WebSocket, by a correct handshake with this key
    WebSocket { key: HeaderValue },
    /// anything else that is legal HTTP
    Plain,
}

/// judges form only: no address, no policy
pub fn judge(head: &request::Parts) -> Result<Wish, Answer> {
    for name in &SINGLE {
        if head.headers.get_all(name).iter().count() > 1 {
            return Err(Answer::refused(Reason::ProtocolError, format!("two {name} headers")));
        }
    }
    if head.version == Version::HTTP_11 && !head.headers.contains_key(header::HOST) {
        return Err(Answer::refused(Reason::ProtocolError, "no Host header"));
    }
    if absolute_form_disagrees(head) {
        return Err(Answer::refused(Reason::ProtocolError, "the request's authority is not its Host"));
    }
    if is_ambiguous(head.uri.path()) {
        return Err(Answer::refused(Reason::ProtocolError, "ambiguous path"));
    }
    if !wants_websocket(head) {
        return Ok(Wish::Plain);
    }
    if head.headers.contains_key(header::CONTENT_LENGTH) || head.headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Answer::refused(Reason::ProtocolError, "an upgrade request with a body"));
    }
    if head.headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let answer = Answer::refused(Reason::ProtocolError, "Sec-WebSocket-Version is not 13");
        return Err(answer
            .status(StatusCode::UPGRADE_REQUIRED)
            .header(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
    }
    match head.headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| is_key(key)) {
        Some(key) => Ok(Wish::WebSocket { key: key.clone() }),
        None => Err(Answer::refused(Reason::ProtocolError, "Sec-WebSocket-Key is not 16 bytes in base64")),
    }
}

/// an absolute request target (RFC 9112 section 3.2.2) that names another host than the Host header
fn absolute_form_disagrees(head: &request::Parts) -> bool {
    let host = head.headers.get(header::HOST).map(HeaderValue::as_bytes);
    head.uri
        .authority()
        .is_some_and(|authority| host.is_none_or(|host| !host.eq_ignore_ascii_case(authority.as_str().as_bytes())))
}

/// only a GET of HTTP/1.1 can become a WebSocket (H06)
fn wants_websocket(head: &request::Parts) -> bool {
    head.method == Method::GET
        && head.version == Version::HTTP_11
        && has_token(&head.headers, header::UPGRADE, "websocket")
        && has_token(&head.headers, header::CONNECTION, "upgrade")
}

/// whether a comma list (RFC 9110 section 5.6.1) has the token, in any case
pub fn has_token(headers: &HeaderMap, name: http::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| one.trim().eq_ignore_ascii_case(token))
}

fn is_key(key: &HeaderValue) -> bool {
    STANDARD.decode(key.as_bytes()).is_ok_and(|bytes| bytes.len() == 16)
}

pub fn origin(headers: &HeaderMap) -> ClaimedOrigin {
    let Some(value) = headers.get(header::ORIGIN) else {
        return ClaimedOrigin::Missing;
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    Origin::parse(&text).map_or_else(|| ClaimedOrigin::Unusable(text.into_owned()), ClaimedOrigin::Page)
}

/// the host that the client asked for, without port, in lower case
pub fn host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let named = uri.host().or_else(|| headers.get(header::HOST)?.to_str().ok())?;
    let without_port = match named.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => named,
    };
    Some(without_port.to_ascii_lowercase())
}

/// what Engine.IO 4 requires of a WebSocket's query; its own errors otherwise
pub fn engine_io(head: &request::Parts) -> Result<(), Answer> {
    let query = head.uri.query().unwrap_or_default();
    let values = |name: &str| {
        url::form_urlencoded::parse(query.as_bytes())
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
            .collect::<Vec<_>>()
    };
    for name in ["EIO", "transport", "sid"] {
        if values(name).len() > 1 {
            return Err(Answer::refused(Reason::ProtocolError, format!("two {name} parameters")));
        }
    }
    if values("transport") != ["websocket"] {
        return Err(Answer::engine_io(0, "Transport unknown"));
    }
    if values("EIO") != ["4"] {
        return Err(Answer::engine_io(5, "Unsupported protocol version"));
    }
    match values("sid").is_empty() {
        true => Ok(()),
        false => Err(Answer::engine_io(1, "Session ID unknown")),
    }
}

/// what a request that is no WebSocket gets on a route
pub fn plain(protocol: Protocol, head: &request::Parts) -> Answer {
    match protocol {
        Protocol::SocketIo => engine_io(head).err().unwrap_or_else(|| Answer::engine_io(3, "Bad request")),
        Protocol::Json | Protocol::MsgPack | Protocol::Text | Protocol::Opaque => Answer::upgrade_required(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(change: impl FnOnce(http::request::Builder) -> http::request::Builder) -> request::Parts {
        let builder = http::Request::get("/ws")
            .header("host", "shop.test:8080")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        change(builder).body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_correct_handshake_is_seen_whatever_the_case_of_its_tokens() {
        let head = request(|builder| builder.header("sec-websocket-version", "13"));
        assert!(matches!(judge(&head), Ok(Wish::WebSocket { .. })));
        assert_eq!(host(&head.uri, &head.headers).as_deref(), Some("shop.test"));
    }

    #[test]
    fn h04_h05_h06_h08_malformed_handshakes_are_told_apart() {
        let status = |head: &request::Parts| judge(head).map_err(|answer| answer.status_code().as_u16());
        assert_eq!(status(&request(|b| b)), Err(426), "no version");
        assert_eq!(status(&request(|b| b.header("sec-websocket-version", "8"))), Err(426));
        assert_eq!(
            status(&request(|b| b.header("sec-websocket-version", "13").header("sec-websocket-version", "13"))),
            Err(400)
        );
        assert_eq!(
            status(&request(|b| b.header("sec-websocket-version", "13").header("origin", "a").header("origin", "b"))),
            Err(400)
        );
        assert_eq!(
            status(&request(|b| b.header("sec-websocket-version", "13").header("content-length", "0"))),
            Err(400)
        );
        assert_eq!(status(&request(|b| b.method(Method::POST).header("sec-websocket-version", "13"))), Ok(Wish::Plain));
        assert_eq!(status(&request(|b| b.uri("/a/%2e%2e/ws"))), Err(400));
        assert_eq!(status(&request(|b| b.uri("http://other.test/ws").header("sec-websocket-version", "13"))), Err(400));
    }
}
