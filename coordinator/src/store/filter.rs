//! What is asked of the audit store: filters, and the place in the trail at which a page ends.

use ipnet::IpNet;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use picket_shared::audit::{AuditRecord, EventType, Severity};
use picket_shared::clock::Timestamp;

use super::growth::Position;

/// which records; everything that is `Some` must hold
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub event_type: Option<EventType>,
    pub severity: Option<Severity>,
    /// an address, or all addresses of a prefix
    pub network: Option<IpNet>,
    pub user_id: Option<String>,
    pub socket_id: Option<String>,
    /// not before
    pub since: Option<Timestamp>,
    /// before
    pub until: Option<Timestamp>,
    /// part of message, metadata, reason or event name
    pub text: Option<String>,
    /// not what the same writer stored before it, nor itself; the store alone knows
    pub heard: Option<Position>,
}

impl Filter {
    /// whether it finds the record, as the store would
    pub fn finds(&self, record: &AuditRecord) -> bool {
        let is = |wanted: &Option<String>, field: &Option<String>| wanted.is_none() || wanted == field;
        self.event_type.is_none_or(|kind| kind == record.event_type)
            && self.severity.is_none_or(|severity| severity == record.severity)
            && self.network.is_none_or(|network| network.contains(&record.ip.to_canonical()))
            && is(&self.user_id, &record.user_id)
            && is(&self.socket_id, &record.socket_id)
            && self.since.is_none_or(|since| record.timestamp >= since)
            && self.until.is_none_or(|until| record.timestamp < until)
            && self.text.as_ref().is_none_or(|text| mentions(record, &text.to_ascii_lowercase()))
    }
}

fn mentions(record: &AuditRecord, text: &str) -> bool {
    let has = |field: &str| field.to_ascii_lowercase().contains(text);
    has(&record.message)
        || record.reason.is_some_and(|reason| has(reason.token()))
        || record.event_name.as_deref().is_some_and(has)
        || (!record.metadata.is_empty() && serde_json::to_string(&record.metadata).is_ok_and(|metadata| has(&metadata)))
}

/// the last record of a page: the next page is what is older
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub timestamp: Timestamp,
    pub id: String,
}

impl Cursor {
    /// the next page is what is older than a time
    pub fn before(timestamp: Timestamp) -> Self {
        // No identifier is less.
        Cursor { timestamp, id: "0".to_owned() }
    }

    /// opaque text for callers
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}.{}", self.timestamp.as_millis(), self.id))
    }

    pub fn decode(text: &str) -> Option<Self> {
        let plain = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (millis, id) = plain.split_once('.')?;
        let sound = !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let timestamp = Timestamp::from_millis(millis.parse().ok()?);
        sound.then(|| Cursor { timestamp, id: id.to_owned() })
    }
}

/// the stored form of an address: its family, then its bytes; addresses of a family sort as numbers
pub(super) fn address_key(address: IpAddr) -> Vec<u8> {
    let (family, bytes) = match address.to_canonical() {
        IpAddr::V4(v4) => (4, v4.octets().to_vec()),
        IpAddr::V6(v6) => (6, v6.octets().to_vec()),
    };
    std::iter::once(family).chain(bytes).collect()
}

pub(super) fn address_of(key: &[u8]) -> Option<IpAddr> {
    match key.split_first()? {
        (4, bytes) => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        (6, bytes) => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// `text` as a `LIKE` pattern for any text that holds it; the escape character is `\`
pub(super) fn like_pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_way_through_a_client_and_nonsense_is_none() {
        let cursor = Cursor { timestamp: Timestamp::from_millis(17), id: "0abc".into() };
        assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        for text in ["", "!!", "MTc", "eC4x", &URL_SAFE_NO_PAD.encode("1.a'b")] {
            assert_eq!(Cursor::decode(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_are_stored_in_their_order_and_read_back() {
        for text in ["192.0.2.1", "2001:db8::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(address_of(&address_key(address)), Some(address));
        }
        assert_eq!(address_key("::ffff:192.0.2.1".parse().unwrap()), address_key("192.0.2.1".parse().unwrap()));
        assert_eq!(like_pattern("50%_\\"), "%50\\%\\_\\\\%");
    }
}
