//! What a record is evidence of.

use picket_shared::address;
use picket_shared::audit::{AuditRecord, EventType};
use picket_shared::policy::{ContentMode, Policy, Rules};
use picket_shared::reason::Reason;
use serde_json::Value;

use super::settings::Touched;

/// what was done with whom
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    CameIn {
        is_anonymous: bool,
    },
    Refused(Reason),
    /// would have been refused, and passed because its rule was in shadow
    Pardoned(Reason),
    /// passed, and something was noticed of it
    Noticed(Reason),
}

impl Deed {
    /// `None` of records that no check of a node made, and of those that were erased
    pub(super) fn of(record: &AuditRecord) -> Option<Self> {
        let stage = stage(record)?;
        let Some(reason) = reason(record, stage) else {
            return match (stage, record.event_type) {
                ("admission", EventType::ConnectionAttempt) => Some(Deed::CameIn { is_anonymous: true }),
                ("admission", EventType::AuthenticationSuccess) => Some(Deed::CameIn { is_anonymous: false }),
                _ => None,
            };
        };
        let is = |key: &str| record.metadata.get(key) == Some(&Value::Bool(true));
        Some(match (is("shadow"), is("passed")) {
            (true, _) => Deed::Pardoned(reason),
            (_, true) => Deed::Noticed(reason),
            _ => Deed::Refused(reason),
        })
    }
}

pub(super) fn stage(record: &AuditRecord) -> Option<&str> {
    record.metadata.get("stage")?.as_str()
}

/// of two reasons that share a token, the stage tells which it was
fn reason(record: &AuditRecord, stage: &str) -> Option<Reason> {
    let named = || Reason::from_token(record.metadata.get("refusedFor")?.as_str()?);
    match record.reason.or_else(named)? {
        Reason::LoginRequired if stage == "inspection" => Some(Reason::EventLoginRequired),
        reason => Some(reason),
    }
}

/// the application's failure: its connection costs its client nothing
pub(super) fn is_of_upstream(reason: Reason) -> bool {
    matches!(reason, Reason::UpstreamUnavailable | Reason::UpstreamSlow | Reason::UpstreamProtocol)
}

/// who was refused before it was known who it is may be anybody; whose token was refused would come in as nobody
pub(super) fn is_anonymous(record: &AuditRecord, reason: Reason) -> Option<bool> {
    match reason {
        Reason::LoginRequired | Reason::TokenInvalid | Reason::TokenExpired | Reason::TokenRevoked => Some(true),
        _ => record.user_id.is_some().then_some(false),
    }
}

/// whether what was refused for this reason would pass that rule; `None` if the record does not say
pub(super) fn passes(
    record: &AuditRecord,
    reason: Reason,
    rules: &Rules,
    current: &Policy,
    touched: &Touched,
) -> Option<bool> {
    use Reason::*;
    if rules.enforcement.pardons(reason) {
        return Some(true);
    }
    let (validation, event) = (&rules.validation, record.event_name.as_deref().unwrap_or_default());
    let new = &rules.document.validation;
    // What was refused under a setting that stays is refused again.
    let unless = |is_changed: bool| if is_changed { None } else { Some(false) };
    match reason {
        AddressBlocked => Some(is_automatic(record) && address::contains_any(&rules.security.allow_list, record.ip)),
        PayloadTooLarge => match observed_bytes(record) {
            Some(bytes) => Some(bytes <= validation.payload_bytes_max as u64),
            None => unless(touched.has("validation.maxPayloadSize")),
        },
        UnknownEvent => Some(validation.knows(event)),
        EventLoginRequired => Some(!validation.needs_login(event)),
        RoleRequired => match validation.roles_of(event) {
            None => Some(true),
            Some(_) => unless(current.validation.event_roles.get(event) != new.event_roles.get(event)),
        },
        Schema => match validation.schema_of(event) {
            None => Some(true),
            Some(_) => unless(current.validation.schemas.get(event) != new.schemas.get(event)),
        },
        HostileContent => Some(is_by_mode(record) && validation.content != ContentMode::Reject),
        ActiveContent => Some(validation.content != ContentMode::Reject),
        TextTooLong => unless(touched.has("validation.maxMessageLength")),
        TooDeep => unless(touched.has("validation.maxDepth")),
        TooManyHandshakes => unless(touched.has("rateLimiting.handshakeLimit")),
        TooManyConnections | AnonymousLimit | EventRate | Burst | MessageRate => {
            unless(setting(record).is_none_or(|setting| touched.is_within(setting)))
        }
        _ => Some(false),
    }
}

/// the limit that had no room, by the name of its setting
fn setting(record: &AuditRecord) -> Option<&str> {
    record.metadata.get("setting")?.as_str()
}

/// refused by `content: reject`, and not for its keys
fn is_by_mode(record: &AuditRecord) -> bool {
    setting(record) == Some("validation.content")
}

fn is_automatic(record: &AuditRecord) -> bool {
    record.metadata.get("block").is_some_and(|block| block["origin"] == "automatic")
}

fn observed_bytes(record: &AuditRecord) -> Option<u64> {
    record.metadata.get("observed")?.as_u64()
}
