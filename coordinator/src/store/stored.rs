//! A record as it lies in the store, its place in a chain beside it.

use std::net::{IpAddr, Ipv4Addr};

use picket_shared::address;
use picket_shared::audit::{AuditRecord, EventType, Severity};
use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::chain::{Fields, Hash, Personal, Salt};
use super::filter::address_of;
use super::people;
use super::statement::{Row, unreadable};

/// what the message of an erased record says
pub(super) const ERASED: &str = "erased on request";

/// the key of the metadata under which a record has the digests of others as they are since a person was erased from them
pub(super) const RESTATED: &str = "restated";

/// what [`Stored::of`] reads
pub(super) const COLUMNS: &str = "id, timestamp, event_type, severity, ip, message, socket_id, user_id, event_name, route, node, \
     reason, metadata, writer, seq, salt, commitment, hash, \
     (SELECT name FROM audit_writers WHERE number = audit.writer) AS writer_name";

#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(super) id: String,
    pub(super) timestamp: u64,
    event_type: String,
    severity: Severity,
    /// `None` where it was erased
    ip: Option<IpAddr>,
    message: String,
    socket_id: Option<String>,
    user_id: Option<String>,
    event_name: Option<String>,
    route: Option<String>,
    node: Option<String>,
    reason: Option<String>,
    pub(super) metadata: String,
    pub(super) link: Option<Link>,
}

/// a record's place in a chain
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) writer: Option<String>,
    pub(super) seq: u64,
    pub(super) salt: Option<Salt>,
    pub(super) commitment: Option<Hash>,
    pub(super) hash: Hash,
}

impl Stored {
    pub(super) fn of(mut row: Row) -> sqlx::Result<Self> {
        let severity = row.integer(3)?;
        let ip = match row.bytes(4)? {
            [] => None,
            key => Some(address_of(key).map(address::canonical).ok_or_else(|| unreadable("address"))?),
        };
        let link = match row.maybe_integer(13)? {
            None => None,
            Some(_) => Some(Link {
                seq: row.unsigned(14)?,
                salt: row.maybe_array(15)?,
                commitment: row.maybe_array(16)?,
                hash: row.array(17)?,
                writer: row.maybe_text(18)?,
            }),
        };
        Ok(Stored {
            id: row.text(0)?,
            timestamp: row.unsigned(1)?,
            event_type: row.text(2)?,
            severity: severity_of(severity)?,
            ip,
            message: row.text(5)?,
            socket_id: row.maybe_text(6)?,
            user_id: row.maybe_text(7)?,
            event_name: row.maybe_text(8)?,
            route: row.maybe_text(9)?,
            node: row.maybe_text(10)?,
            reason: row.maybe_text(11)?,
            metadata: row.text(12)?,
            link,
        })
    }

    pub(super) fn fields(&self) -> Fields<'_> {
        Fields {
            id: &self.id,
            timestamp: self.timestamp,
            event_type: &self.event_type,
            severity: self.severity.as_str(),
            event_name: self.event_name.as_deref(),
            route: self.route.as_deref(),
            node: self.node.as_deref(),
            reason: self.reason.as_deref(),
        }
    }

    pub(super) fn personal(&self) -> Personal<'_> {
        Personal {
            ip: self.address(),
            message: &self.message,
            socket_id: self.socket_id.as_deref(),
            user_id: self.user_id.as_deref(),
            metadata: &self.metadata,
        }
    }

    /// whether it says nothing of a person
    pub(super) fn is_blank(&self) -> bool {
        self.ip.is_none()
            && self.message == ERASED
            && self.socket_id.is_none()
            && self.user_id.is_none()
            && self.metadata == "{}"
    }

    /// the same of administration, with `subject` in the place of a user's name; `None` if it does not name the user
    pub(super) fn without(&self, user_id: &str, subject: &str) -> Option<Stored> {
        let metadata = people::without(&self.event_type, &self.metadata, user_id, subject)?;
        Some(Stored { metadata, ..self.clone() })
    }

    /// whether it is of a kind from which a person is taken by a name alone
    pub(super) fn may_be_restated(&self) -> bool {
        people::kinds().any(|kind| kind.as_str() == self.event_type)
    }

    /// the digests of other records as they are since a person was erased from them
    pub(super) fn restates(&self) -> Vec<Hash> {
        if self.event_type != EventType::AdminAction.as_str() || !self.metadata.contains(RESTATED) {
            return Vec::new();
        }
        let metadata: Map<String, Value> = serde_json::from_str(&self.metadata).unwrap_or_default();
        let hashes = metadata.get(RESTATED).and_then(Value::as_array).into_iter().flatten();
        hashes.filter_map(|hash| picket_shared::hex::decode(hash.as_str()?)).collect()
    }

    /// what stands for its personal part as it was written, when that is gone or says something else
    pub(super) fn commitment(&self) -> Option<Hash> {
        let link = self.link.as_ref()?;
        link.commitment.or_else(|| link.salt.as_ref().map(|salt| self.personal().commitment(salt)))
    }

    /// each chain by itself, in the order of storing
    pub(crate) fn order(&self) -> (Option<String>, u64) {
        self.link.as_ref().map_or((None, self.timestamp), |link| (link.writer.clone(), link.seq))
    }

    fn address(&self) -> IpAddr {
        self.ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    pub(crate) fn into_record(self) -> sqlx::Result<AuditRecord> {
        Ok(AuditRecord {
            timestamp: Timestamp::from_millis(self.timestamp),
            event_type: EventType::parse(&self.event_type).ok_or_else(|| unreadable("kind"))?,
            severity: self.severity,
            ip: self.address(),
            message: self.message,
            socket_id: self.socket_id,
            user_id: self.user_id,
            event_name: self.event_name,
            route: self.route,
            node: self.node,
            reason: self.reason.as_deref().and_then(Reason::from_token),
            metadata: serde_json::from_str(&self.metadata).map_err(|error| sqlx::Error::Decode(error.into()))?,
            id: self.id,
        })
    }

    /// one line of JSON that can be verified elsewhere: metadata stays the text that was hashed
    pub(crate) fn to_json(&self) -> sqlx::Result<String> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Line<'a> {
            id: &'a str,
            timestamp: Timestamp,
            event_type: &'a str,
            severity: Severity,
            ip: IpAddr,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            socket_id: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            user_id: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            event_name: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            route: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            node: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            reason: Option<&'a str>,
            #[serde(skip_serializing_if = "is_empty")]
            metadata: &'a RawValue,
            #[serde(skip_serializing_if = "Option::is_none")]
            chain: Option<Chain<'a>>,
        }
        #[derive(Serialize)]
        struct Chain<'a> {
            writer: &'a str,
            seq: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            salt: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            commitment: Option<String>,
            hash: String,
        }
        fn is_empty(metadata: &RawValue) -> bool {
            metadata.get() == "{}"
        }
        let chain = self.link.as_ref().map(|link| Chain {
            writer: link.writer.as_deref().unwrap_or_default(),
            seq: link.seq,
            salt: link.salt.as_ref().map(|salt| picket_shared::hex::encode(salt)),
            commitment: link.commitment.as_ref().map(|commitment| picket_shared::hex::encode(commitment)),
            hash: picket_shared::hex::encode(&link.hash),
        });
        let unreadable = |error: serde_json::Error| sqlx::Error::Decode(error.into());
        let line = Line {
            id: &self.id,
            timestamp: Timestamp::from_millis(self.timestamp),
            event_type: &self.event_type,
            severity: self.severity,
            ip: self.address(),
            message: &self.message,
            socket_id: self.socket_id.as_deref(),
            user_id: self.user_id.as_deref(),
            event_name: self.event_name.as_deref(),
            route: self.route.as_deref(),
            node: self.node.as_deref(),
            reason: self.reason.as_deref(),
            metadata: serde_json::from_str(&self.metadata).map_err(unreadable)?,
            chain,
        };
        serde_json::to_string(&line).map_err(unreadable)
    }

    /// what [`Stored::to_json`] wrote
    pub(super) fn from_json(line: &str) -> serde_json::Result<Self> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Line<'a> {
            id: String,
            timestamp: Timestamp,
            event_type: String,
            severity: Severity,
            ip: IpAddr,
            message: String,
            socket_id: Option<String>,
            user_id: Option<String>,
            event_name: Option<String>,
            route: Option<String>,
            node: Option<String>,
            reason: Option<String>,
            #[serde(borrow)]
            metadata: Option<&'a RawValue>,
            chain: Option<Chain>,
        }
        #[derive(serde::Deserialize)]
        struct Chain {
            writer: String,
            seq: u64,
            salt: Option<String>,
            commitment: Option<String>,
            hash: String,
        }
        fn read<const N: usize>(text: &str) -> serde_json::Result<[u8; N]> {
            picket_shared::hex::decode(text)
                .ok_or_else(|| serde::de::Error::custom(format!("a hash or salt is not {N} bytes of hex")))
        }
        let line: Line = serde_json::from_str(line)?;
        let link = line.chain.map(|chain| -> serde_json::Result<Link> {
            Ok(Link {
                writer: Some(chain.writer),
                seq: chain.seq,
                salt: chain.salt.as_deref().map(read).transpose()?,
                commitment: chain.commitment.as_deref().map(read).transpose()?,
                hash: read(&chain.hash)?,
            })
        });
        let is_erased = line.message == ERASED && line.ip.is_unspecified();
        Ok(Stored {
            id: line.id,
            timestamp: line.timestamp.as_millis(),
            event_type: line.event_type,
            severity: line.severity,
            ip: (!is_erased).then_some(line.ip),
            message: line.message,
            socket_id: line.socket_id,
            user_id: line.user_id,
            event_name: line.event_name,
            route: line.route,
            node: line.node,
            reason: line.reason,
            metadata: line.metadata.map_or("{}", RawValue::get).to_owned(),
            link: link.transpose()?,
        })
    }
}

pub(super) fn severity_of(number: i64) -> sqlx::Result<Severity> {
    Severity::ALL.into_iter().find(|severity| *severity as i64 == number).ok_or_else(|| unreadable("severity"))
}
