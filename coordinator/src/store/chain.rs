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
        let metadata = metadata(record);
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

/// bytes of an id, and of any other name: an index takes no key of more than some 2,700
const NAME_BYTES_MAX: usize = 512;
const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// bytes of the metadata's text
const METADATA_BYTES_MAX: usize = 256 * 1024;

/// A record that both databases can hold, whoever wrote it: texts are bounded, and have no NUL for PostgreSQL.
pub(super) fn storable(record: &AuditRecord) -> Cow<'_, AuditRecord> {
    let named = [&record.socket_id, &record.user_id, &record.event_name, &record.route, &record.node];
    let mut names = named.into_iter().flatten().chain([&record.id]);
    let is_storable = |text: &str, bytes_max| text.len() <= bytes_max && !text.contains('\0');
    if names.all(|name| is_storable(name, NAME_BYTES_MAX)) && is_storable(&record.message, MESSAGE_BYTES_MAX) {
        return Cow::Borrowed(record);
    }
    let cut = |text: &str, bytes_max| text[..text.floor_char_boundary(bytes_max)].replace('\0', "\u{fffd}");
    let name = |text: &Option<String>| text.as_deref().map(|text| cut(text, NAME_BYTES_MAX));
    Cow::Owned(AuditRecord {
        id: cut(&record.id, NAME_BYTES_MAX),
        message: cut(&record.message, MESSAGE_BYTES_MAX),
        socket_id: name(&record.socket_id),
        user_id: name(&record.user_id),
        event_name: name(&record.event_name),
        route: name(&record.route),
        node: name(&record.node),
        ..record.clone()
    })
}

/// the text of the metadata; none where it is larger than any that a node writes
fn metadata(record: &AuditRecord) -> String {
    let text = serde_json::to_string(&record.metadata).unwrap_or_default();
    if text.is_empty() || text.len() > METADATA_BYTES_MAX { "{}".to_owned() } else { text }
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
}
