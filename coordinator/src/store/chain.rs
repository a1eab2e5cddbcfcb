//! Hash chains: what makes a changed, removed or inserted record show. Pure, and described for others in docs/evidence.md.
//!
//! A record's digest is over what it says of the event, and a commitment to what it says of a person. The commitment is salted: when
//! person and salt are erased it reveals nothing, and the chain holds.

use picket_shared::address;
use picket_shared::audit::AuditRecord;
use picket_shared::reason::Reason;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::net::IpAddr;

pub(super) type Hash = [u8; 32];
pub(super) type Salt = [u8; 16];

const FIRST: &[u8] = b"picket audit chain 1";
const PERSONAL: &[u8] = b"picket audit personal 1";
const RECORD: &[u8] = b"picket audit record 1";

/// what a record says, as it is hashed: texts, each as it is stored
#[derive(Clone, Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) id: &'a str,
    /// milliseconds since the Unix epoch
    pub(super) timestamp: u64,
    pub(super) event_type: &'a str,
    pub(super) severity: &'a str,
    pub(super) event_name: Option<&'a str>,
    pub(super) route: Option<&'a str>,
    pub(super) node: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
}

/// what may name a person
#[derive(Clone, Debug)]
pub(super) struct Personal<'a> {
    pub(super) ip: IpAddr,
    pub(super) message: &'a str,
    pub(super) socket_id: Option<&'a str>,
    pub(super) user_id: Option<&'a str>,
    /// the text of a JSON object
    pub(super) metadata: &'a str,
}

impl Personal<'_> {
    pub(super) fn commitment(&self, salt: &Salt) -> Hash {
        let ip = address::canonical(self.ip).to_string();
        let mut hash = Sha256::new_with_prefix(PERSONAL);
        hash.update(salt);
        for text in [Some(&*ip), Some(self.message), self.socket_id, self.user_id, Some(self.metadata)] {
            update(&mut hash, text);
        }
        hash.finalize().into()
    }
}

impl Fields<'_> {
    pub(super) fn digest(&self, commitment: &Hash) -> Hash {
        let timestamp = self.timestamp.to_string();
        let mut hash = Sha256::new_with_prefix(RECORD);
        let texts = [Some(self.id), Some(&*timestamp), Some(self.event_type), Some(self.severity)];
        for text in texts.into_iter().chain([self.event_name, self.route, self.node, self.reason]) {
            update(&mut hash, text);
        }
        hash.update(commitment);
        hash.finalize().into()
    }
}

/// absent is a zero byte; present is a one, the length as four bytes (big-endian), and the text in UTF-8
fn update(hash: &mut Sha256, text: Option<&str>) {
    match text {
        None => hash.update([0]),
        Some(text) => {
            hash.update([1]);
            hash.update(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
            hash.update(text);
        }
    }
}

/// what stands before a writer's first record
pub(super) fn first(writer: &str) -> Hash {
    Sha256::new_with_prefix(FIRST).chain_update(writer).finalize().into()
}

pub(super) fn next(previous: &Hash, digest: &Hash) -> Hash {
    Sha256::new_with_prefix(previous).chain_update(digest).finalize().into()
}

/// where a chain ends
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// the writer's number in the store
    pub(super) number: i64,
    pub(super) name: String,
    pub(super) seq: u64,
    pub(super) hash: Hash,
    /// the time of the last checkpoint
    pub(super) checkpoint_at: u64,
}

/// a record as it is stored, linked to the one before
pub(super) struct Sealed<'a> {
    pub(super) record: &'a AuditRecord,
    pub(super) metadata: String,
    pub(super) writer: i64,
    pub(super) seq: u64,
    pub(super) salt: Salt,
    pub(super) hash: Hash,
}

impl<'a> Sealed<'a> {
    /// links a record to the head, which moves on
    pub(super) fn new(record: &'a AuditRecord, salt: Salt, head: &mut Head) -> Self {
        let metadata = serde_json::to_string(&record.metadata).unwrap_or_else(|_| "{}".to_owned());
        let personal = Personal {
            ip: record.ip,
            message: &record.message,
            socket_id: record.socket_id.as_deref(),
            user_id: record.user_id.as_deref(),
            metadata: &metadata,
        };
        let fields = Fields {
            id: &record.id,
            timestamp: record.timestamp.as_millis(),
            event_type: record.event_type.as_str(),
            severity: record.severity.as_str(),
            event_name: record.event_name.as_deref(),
            route: record.route.as_deref(),
            node: record.node.as_deref(),
            reason: record.reason.map(Reason::token),
        };
        head.hash = next(&head.hash, &fields.digest(&personal.commitment(&salt)));
        head.seq += 1;
        Sealed { record, metadata, writer: head.number, seq: head.seq, salt, hash: head.hash }
    }

    /// the size of its contents
    pub(super) fn bytes(&self) -> i64 {
        let record = self.record;
        let named = [&record.socket_id, &record.user_id, &record.event_name, &record.route, &record.node];
        let texts: usize = named.into_iter().flatten().map(String::len).sum();
        let reason = record.reason.map(Reason::token).map_or(0, str::len);
        let fixed = record.id.len() + record.event_type.as_str().len() + FIXED_BYTES;
        i64::try_from(texts + reason + fixed + record.message.len() + self.metadata.len()).unwrap_or(i64::MAX)
    }
}

/// numbers, address, salt and hash
const FIXED_BYTES: usize = 100;

/// a record that both databases can hold: PostgreSQL's texts have no NUL
pub(super) fn storable(record: &AuditRecord) -> Cow<'_, AuditRecord> {
    let named = [&record.socket_id, &record.user_id, &record.event_name, &record.route, &record.node];
    let texts = named.into_iter().flatten().chain([&record.id, &record.message]);
    if !texts.into_iter().any(|text| text.contains('\0')) {
        return Cow::Borrowed(record);
    }
    let clean = |text: &str| text.replace('\0', "\u{fffd}");
    let cleaned = |text: &Option<String>| text.as_deref().map(clean);
    Cow::Owned(AuditRecord {
        id: clean(&record.id),
        message: clean(&record.message),
        socket_id: cleaned(&record.socket_id),
        user_id: cleaned(&record.user_id),
        event_name: cleaned(&record.event_name),
        route: cleaned(&record.route),
        node: cleaned(&record.node),
        ..record.clone()
    })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if !text.is_ascii() || text.len() != 2 * N {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_can_take_the_place_of_another() {
        let fields = Fields { id: "a", event_name: Some("b"), ..Fields::default() };
        let moved = Fields { id: "a", route: Some("b"), ..Fields::default() };
        let longer = Fields { id: "ab", ..Fields::default() };
        let hashes = [&fields, &moved, &longer].map(|fields| fields.digest(&[0; 32]));
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
    }

    #[test]
    fn hashes_are_written_and_read_as_hex() {
        let hash = first("writer");
        assert_eq!(unhex::<32>(&hex(&hash)), Some(hash));
        for text in ["", "zz", "é", "0"] {
            assert_eq!(unhex::<1>(text), None, "{text}");
        }
    }
}
