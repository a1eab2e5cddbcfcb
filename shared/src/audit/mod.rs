//! The audit record: what happened, to whom, when, and how grave it is. One record per refusal, block, and administrative act.

mod outbox;
mod sampling;

pub use outbox::{OUTBOX_RECORDS_MAX, Outbox};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

use crate::clock::Timestamp;
use crate::reason::Reason;

/// the longest excerpt or client-chosen text that a record keeps, in bytes after escaping
pub const EXCERPT_BYTES_MAX: usize = 64;
/// the longest identifier (user, event name, socket) that a record keeps, in bytes
pub const IDENTIFIER_BYTES_MAX: usize = 256;

/// what kind of thing happened; the first twelve are the origin document's values
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EventType {
    ConnectionAttempt,
    ConnectionBlocked,
    AuthenticationSuccess,
    AuthenticationFailure,
    RateLimitExceeded,
    PayloadTooLarge,
    InvalidOrigin,
    SuspiciousActivity,
    IpBlocked,
    IpUnblocked,
    UnauthorizedEvent,
    ValidationError,
    ConnectionClosed,
    PolicyChanged,
    AdminLogin,
    AdminAction,
    AuditDropped,
    ModeChanged,
    AlarmRaised,
    AlarmResolved,
}

impl EventType {
    pub const ALL: [EventType; 20] = {
        use EventType::*;
        [
            ConnectionAttempt,
            ConnectionBlocked,
            AuthenticationSuccess,
            AuthenticationFailure,
            RateLimitExceeded,
            PayloadTooLarge,
            InvalidOrigin,
            SuspiciousActivity,
            IpBlocked,
            IpUnblocked,
            UnauthorizedEvent,
            ValidationError,
            ConnectionClosed,
            PolicyChanged,
            AdminLogin,
            AdminAction,
            AuditDropped,
            ModeChanged,
            AlarmRaised,
            AlarmResolved,
        ]
    };

    pub fn as_str(self) -> &'static str {
        match self {
            EventType::ConnectionAttempt => "CONNECTION_ATTEMPT",
            EventType::ConnectionBlocked => "CONNECTION_BLOCKED",
            EventType::AuthenticationSuccess => "AUTHENTICATION_SUCCESS",
            EventType::AuthenticationFailure => "AUTHENTICATION_FAILURE",
            EventType::RateLimitExceeded => "RATE_LIMIT_EXCEEDED",
            EventType::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            EventType::InvalidOrigin => "INVALID_ORIGIN",
            EventType::SuspiciousActivity => "SUSPICIOUS_ACTIVITY",
            EventType::IpBlocked => "IP_BLOCKED",
            EventType::IpUnblocked => "IP_UNBLOCKED",
            EventType::UnauthorizedEvent => "UNAUTHORIZED_EVENT",
            EventType::ValidationError => "VALIDATION_ERROR",
            EventType::ConnectionClosed => "CONNECTION_CLOSED",
            EventType::PolicyChanged => "POLICY_CHANGED",
            EventType::AdminLogin => "ADMIN_LOGIN",
            EventType::AdminAction => "ADMIN_ACTION",
            EventType::AuditDropped => "AUDIT_DROPPED",
            EventType::ModeChanged => "MODE_CHANGED",
            EventType::AlarmRaised => "ALARM_RAISED",
            EventType::AlarmResolved => "ALARM_RESOLVED",
        }
    }

    pub fn parse(text: &str) -> Option<EventType> {
        EventType::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// administration's own trail is stored whatever `enableAuditLogging` says
    pub fn is_administrative(self) -> bool {
        use EventType::*;
        matches!(
            self,
            IpBlocked
                | IpUnblocked
                | PolicyChanged
                | AdminLogin
                | AdminAction
                | AuditDropped
                | ModeChanged
                | AlarmRaised
                | AlarmResolved
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 4] = [Severity::Low, Severity::Medium, Severity::High, Severity::Critical];

    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }

    pub fn parse(text: &str) -> Option<Severity> {
        Severity::ALL.into_iter().find(|severity| severity.as_str() == text)
    }
}

/// one line of the audit trail
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// unique and sortable by time: 12 hex digits of milliseconds, 20 random
    pub id: String,
    pub timestamp: Timestamp,
    pub event_type: EventType,
    pub severity: Severity,
    pub ip: IpAddr,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub socket_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub event_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Reason>,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty", default)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

impl AuditRecord {
    pub fn new(
        event_type: EventType,
        severity: Severity,
        ip: IpAddr,
        message: impl Into<String>,
        now: Timestamp,
    ) -> Self {
        AuditRecord {
            id: format!("{:012x}{}", now.as_millis(), crate::random::hex(10)),
            timestamp: now,
            event_type,
            severity,
            ip,
            message: message.into(),
            socket_id: None,
            user_id: None,
            event_name: None,
            route: None,
            node: None,
            reason: None,
            metadata: serde_json::Map::new(),
        }
    }

    /// the record of a refusal, with kind, severity and message of the reason's row
    pub fn refusal(reason: Reason, ip: IpAddr, now: Timestamp) -> Self {
        let consequence = reason.consequence();
        let record = Self::new(reason.audit_kind(), consequence.severity, ip, consequence.message, now);
        AuditRecord { reason: Some(reason), ..record }
    }

    /// how many records it stands for: itself, and those like it that were not recorded one by one
    pub fn weight(&self) -> u64 {
        let suppressed = self.metadata.get(sampling::SUPPRESSED).and_then(serde_json::Value::as_u64).unwrap_or(0);
        // Whatever a record says, sums of many fit.
        1 + suppressed.min(SUPPRESSED_MAX)
    }

    pub fn with(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }
}

/// as many as one record may stand for, beside itself
const SUPPRESSED_MAX: u64 = 1_000_000_000;

/// a client's text cut to `bytes_max`, control characters escaped, so that one record stays one line (CWE-117)
pub fn printable(text: &str, bytes_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(bytes_max));
    for c in text.chars() {
        let piece = if c.is_control() || is_bidi_control(c) { c.escape_default().to_string() } else { c.to_string() };
        if out.len() + piece.len() > bytes_max {
            break;
        }
        out.push_str(&piece);
    }
    out
}

/// characters that reorder what a terminal or a page shows (Unicode UAX 9), and line separators
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r06_control_characters_and_escapes_stay_on_one_line() {
        let text = printable("a\r\n{\"level\":\"x\"}\u{1b}[31m\u{202e}", 256);
        assert!(!text.contains(['\n', '\r', '\u{1b}', '\u{202e}']), "{text}");
        assert!(text.starts_with("a\\r\\n"));
    }

    #[test]
    fn excerpts_keep_their_bound() {
        assert!(printable(&"é".repeat(1000), EXCERPT_BYTES_MAX).len() <= EXCERPT_BYTES_MAX);
    }
}
