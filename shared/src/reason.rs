//! The one table of reasons: why a connection, an event or a session was refused, and what follows from it.
//!
//! HTTP status before the upgrade, WebSocket close code after it (RFC 6455 section 7.4 and the IANA registry), audit kind,
//! severity and reputation points. The documentation of reasons is generated from this table.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::audit::{EventType, Severity};

/// why something was refused
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    AddressBlocked,
    CountryNotAllowed,
    OriginNotAllowed,
    TooManyHandshakes,
    ConnectionRate,
    TokenInvalid,
    LoginRequired,
    EventLoginRequired,
    TokenExpired,
    TokenRevoked,
    TooManyConnections,
    AnonymousLimit,
    EventRate,
    Burst,
    InspectionTime,
    MessageRate,
    PayloadTooLarge,
    TextTooLong,
    TooDeep,
    Malformed,
    Schema,
    UnknownEvent,
    RoleRequired,
    HostileContent,
    ActiveContent,
    SuspiciousContent,
    Behaviour,
    TypeNotAllowed,
    ProtocolError,
    HeadTooLarge,
    BadUtf8,
    Slow,
    Idle,
    Flood,
    Overload,
    Draining,
    UpstreamUnavailable,
    UpstreamSlow,
    UpstreamProtocol,
    StateUnavailable,
    KeysUnavailable,
    InternalError,
}

/// what follows from a reason
#[derive(Clone, Copy, Debug)]
pub struct Consequence {
    /// the stable token that clients, logs and metrics carry
    pub token: &'static str,
    /// what a person reads
    pub message: &'static str,
    /// HTTP status, when refused before the upgrade
    pub status: u16,
    /// WebSocket close code, when it ends an open socket
    pub close_code: u16,
    /// the kind of audit record; `None` for conditions that are nobody's offence
    pub event_type: Option<EventType>,
    pub severity: Severity,
    pub points: Points,
    /// whether waiting helps, so that a `Retry-After` is due
    pub retryable: bool,
}

/// reputation points for one refusal of an address
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Points {
    pub points: f64,
    /// at most once in this time per address; `None` counts every refusal
    pub at_most_every: Option<Duration>,
}

const NONE: Points = Points { points: 0.0, at_most_every: None };
const ONE: Points = Points { points: 1.0, at_most_every: None };
const HALF: Points = Points { points: 0.5, at_most_every: None };
const A_FIFTH_A_MINUTE: Points = Points { points: 0.2, at_most_every: Some(Duration::from_secs(60)) };
const ONE_A_MINUTE: Points = Points { points: 1.0, at_most_every: Some(Duration::from_secs(60)) };
const ONE_AN_HOUR: Points = Points { points: 1.0, at_most_every: Some(Duration::from_secs(3600)) };

impl Reason {
    pub const ALL: [Reason; 42] = {
        use Reason::*;
        [
            AddressBlocked,
            CountryNotAllowed,
            OriginNotAllowed,
            TooManyHandshakes,
            ConnectionRate,
            TokenInvalid,
            LoginRequired,
            EventLoginRequired,
            TokenExpired,
            TokenRevoked,
            TooManyConnections,
            AnonymousLimit,
            EventRate,
            Burst,
            InspectionTime,
            MessageRate,
            PayloadTooLarge,
            TextTooLong,
            TooDeep,
            Malformed,
            Schema,
            UnknownEvent,
            RoleRequired,
            HostileContent,
            ActiveContent,
            SuspiciousContent,
            Behaviour,
            TypeNotAllowed,
            ProtocolError,
            HeadTooLarge,
            BadUtf8,
            Slow,
            Idle,
            Flood,
            Overload,
            Draining,
            UpstreamUnavailable,
            UpstreamSlow,
            UpstreamProtocol,
            StateUnavailable,
            KeysUnavailable,
            InternalError,
        ]
    };

    #[rustfmt::skip] // a table is read by its columns
    pub fn consequence(self) -> Consequence {
        use EventType::*;
        use Severity::*;
        let row = |token, message, status, close_code, event_type, severity, points, retryable| Consequence {
            token, message, status, close_code, event_type, severity, points, retryable,
        };
        match self {
            Reason::AddressBlocked => row("address_blocked", "this address is blocked", 403, 1008, Some(ConnectionBlocked), High, NONE, false),
            Reason::CountryNotAllowed => row("country_not_allowed", "connections from this country are not allowed", 403, 1008, Some(ConnectionBlocked), Medium, NONE, false),
            Reason::OriginNotAllowed => row("origin_not_allowed", "this origin is not allowed", 403, 1008, Some(InvalidOrigin), High, ONE_AN_HOUR, false),
            // Handshakes are counted before the origin is looked at, so any web page can cause them in its visitors' browsers.
            Reason::TooManyHandshakes => row("too_many_handshakes", "too many handshakes from this address", 429, 1008, Some(RateLimitExceeded), Medium, ONE_AN_HOUR, true),
            Reason::ConnectionRate => row("connection_rate", "too many connections from this address in a short time", 429, 1008, Some(RateLimitExceeded), Medium, ONE, true),
            Reason::TokenInvalid => row("token_invalid", "the token is not valid", 401, 3000, Some(AuthenticationFailure), Medium, ONE, false),
            Reason::LoginRequired => row("login_required", "a login is required", 401, 3000, Some(AuthenticationFailure), Low, NONE, false),
            Reason::EventLoginRequired => row("login_required", "this event requires a login", 401, 1008, Some(AuthenticationFailure), Medium, NONE, false),
            Reason::TokenExpired => row("token_expired", "the token has expired", 401, 3000, Some(AuthenticationFailure), Low, NONE, false),
            Reason::TokenRevoked => row("token_revoked", "the token was revoked", 401, 3000, Some(AuthenticationFailure), Low, NONE, false),
            Reason::TooManyConnections => row("too_many_connections", "too many concurrent connections", 429, 1008, Some(RateLimitExceeded), Medium, NONE, true),
            Reason::AnonymousLimit => row("anonymous_limit", "too many anonymous connections", 503, 1013, Some(ConnectionBlocked), Medium, NONE, true),
            Reason::EventRate => row("event_rate", "too many events", 429, 1008, Some(RateLimitExceeded), Medium, ONE_A_MINUTE, true),
            Reason::Burst => row("burst", "too many events at once", 429, 1008, Some(RateLimitExceeded), Medium, ONE_A_MINUTE, true),
            Reason::InspectionTime => row("inspection_time", "the messages take too long to look into", 429, 1008, Some(RateLimitExceeded), Medium, ONE_A_MINUTE, true),
            Reason::MessageRate => row("message_rate", "too many messages", 429, 1008, Some(RateLimitExceeded), Medium, ONE_A_MINUTE, true),
            Reason::PayloadTooLarge => row("payload_too_large", "the message is too large", 413, 1009, Some(PayloadTooLarge), Medium, ONE, false),
            Reason::TextTooLong => row("text_too_long", "a text in the message is too long", 400, 1008, Some(ValidationError), Low, NONE, false),
            Reason::TooDeep => row("too_deep", "the message is nested too deeply", 400, 1008, Some(ValidationError), Low, NONE, false),
            Reason::Malformed => row("malformed", "the message cannot be parsed", 400, 1008, Some(ValidationError), Low, ONE, false),
            Reason::Schema => row("schema", "the message does not have the expected form", 400, 1008, Some(ValidationError), Low, NONE, false),
            Reason::UnknownEvent => row("unknown_event", "this event is not known", 403, 1008, Some(UnauthorizedEvent), High, ONE, false),
            Reason::RoleRequired => row("role_required", "this event requires another role", 403, 1008, Some(UnauthorizedEvent), High, ONE, false),
            Reason::HostileContent => row("hostile_content", "the message contains hostile content", 403, 1008, Some(SuspiciousActivity), High, ONE, false),
            // Recorded and scored, not refused: what was sanitised or detected, and text that looks like an attack on a back end.
            Reason::ActiveContent => row("active_content", "the message contained active markup", 403, 1008, Some(SuspiciousActivity), Medium, HALF, false),
            Reason::SuspiciousContent => row("suspicious_content", "the message looks like an attack on a back end", 403, 1008, Some(SuspiciousActivity), Low, A_FIFTH_A_MINUTE, false),
            // Recorded, not refused; its points are those of the rule of `security.behaviour` that noticed it.
            Reason::Behaviour => row("behaviour", "a rule over what somebody does on all sockets noticed this", 403, 1008, Some(SuspiciousActivity), Medium, NONE, false),
            Reason::TypeNotAllowed => row("type_not_allowed", "this type of message is not allowed here", 400, 1003, Some(SuspiciousActivity), Medium, ONE, false),
            Reason::ProtocolError => row("protocol_error", "the request or frame breaks the protocol", 400, 1002, Some(SuspiciousActivity), Medium, ONE, false),
            Reason::HeadTooLarge => row("head_too_large", "the head of the request is too large", 431, 1009, Some(PayloadTooLarge), Medium, ONE, false),
            Reason::BadUtf8 => row("bad_utf8", "a text is not valid UTF-8", 400, 1007, Some(SuspiciousActivity), Medium, ONE, false),
            Reason::Slow => row("slow", "the peer is too slow", 408, 1008, Some(SuspiciousActivity), Medium, ONE, false),
            Reason::Idle => row("idle", "the connection is idle", 408, 1008, Some(SuspiciousActivity), Medium, ONE, false),
            Reason::Flood => row("flood", "too many frames", 408, 1008, Some(SuspiciousActivity), Medium, ONE, false),
            Reason::Overload => row("overload", "the service is overloaded", 503, 1013, None, Medium, NONE, true),
            Reason::Draining => row("draining", "the service is restarting", 503, 1012, None, Low, NONE, true),
            Reason::UpstreamUnavailable => row("upstream_unavailable", "the application is not reachable", 502, 1014, None, Medium, NONE, true),
            Reason::UpstreamSlow => row("upstream_slow", "the application did not answer in time", 504, 1014, None, Medium, NONE, true),
            Reason::UpstreamProtocol => row("upstream_protocol", "the application's answer breaks the protocol", 502, 1014, None, Medium, NONE, false),
            Reason::StateUnavailable => row("state_unavailable", "the shared state is not reachable", 503, 1013, None, Medium, NONE, true),
            Reason::KeysUnavailable => row("keys_unavailable", "tokens cannot be judged at present", 503, 1013, None, Medium, NONE, true),
            Reason::InternalError => row("internal_error", "an internal error occurred", 500, 1011, None, Critical, NONE, true),
        }
    }

    pub fn token(self) -> &'static str {
        self.consequence().token
    }

    /// the audit kind; conditions that are nobody's offence are recorded as `CONNECTION_CLOSED`
    pub fn audit_kind(self) -> EventType {
        self.consequence().event_type.unwrap_or(EventType::ConnectionClosed)
    }

    /// whether what has this reason passed, always: it was noticed, and is no refusal
    pub fn is_only_noticed(self) -> bool {
        matches!(self, Reason::ActiveContent | Reason::SuspiciousContent | Reason::Behaviour)
    }

    /// the reason that a stored token names; tokens shared by two reasons give the first
    pub fn from_token(token: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.token() == token)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.token())
    }
}

impl Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.token())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let token = String::deserialize(deserializer)?;
        Reason::from_token(&token).ok_or_else(|| serde::de::Error::custom(format!("unknown reason `{token}`")))
    }
}

impl JsonSchema for Reason {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Reason".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let tokens: std::collections::BTreeSet<_> = Reason::ALL.into_iter().map(Reason::token).collect();
        json_schema!({ "type": "string", "enum": tokens })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/reasons.md as the table says it should be
    fn documentation() -> String {
        let mut text = String::from(
            "# Reasons\n\nWhy something was refused, and what follows. Generated from `shared/src/reason.rs`; after a change run\n\
             `UPDATE_DOCS=1 cargo test -p picket-shared reasons_are_documented`.\n\n\
             *Status* answers before the upgrade, *close* is the WebSocket close code after it. *Points* go to the reputation of the\n\
             client's address. A refused event leaves the connection open until `security.violationsBeforeClose`. A refused connection is told a\n\
             code, `appeal`, by which `picket explain CODE` finds the record of it ([management.md](management.md)).\n\n\
             | reason | says | status | close | audit record | severity | points | waiting helps |\n|---|---|---|---|---|---|---|---|\n",
        );
        for reason in Reason::ALL {
            let c = reason.consequence();
            let points = match (c.points.points, c.points.at_most_every) {
                (points, None) => points.to_string(),
                (points, Some(every)) => format!("{points}, at most once in {} s", every.as_secs()),
            };
            let helps = if c.retryable { "yes" } else { "no" };
            let (kind, severity) = (reason.audit_kind().as_str(), c.severity.as_str());
            text.push_str(&format!(
                "| `{}` | {} | {} | {} | `{kind}` | {severity} | {points} | {helps} |\n",
                c.token, c.message, c.status, c.close_code
            ));
        }
        text
    }

    #[test]
    fn reasons_are_documented() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reasons.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, documentation()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), documentation(), "docs/reasons.md is stale");
    }

    #[test]
    fn every_reason_is_listed_once_and_has_legal_codes() {
        let distinct: std::collections::BTreeSet<_> = Reason::ALL.into_iter().collect();
        assert_eq!(distinct.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let c = reason.consequence();
            assert!((400..600).contains(&c.status), "{reason}: status {}", c.status);
            assert!(matches!(c.close_code, 1002 | 1003 | 1007..=1014 | 3000), "{reason}: close {}", c.close_code);
            assert!(Reason::from_token(c.token).is_some());
        }
    }

    #[test]
    fn what_any_web_page_can_cause_never_adds_up_to_a_block() {
        for reason in [Reason::OriginNotAllowed, Reason::TooManyHandshakes] {
            assert_eq!(reason.consequence().points.at_most_every, Some(Duration::from_secs(3600)));
        }
    }
}
