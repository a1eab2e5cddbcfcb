//! What is written to Redis: MessagePack with field names, addresses and times as text.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::state::StateError;

/// the longest value that is decoded, in bytes
const VALUE_BYTES_MAX: usize = 1 << 20;
/// how deeply a value may be nested
const DEPTH_MAX: usize = 64;

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StateError> {
    let mut bytes = Vec::with_capacity(256);
    let mut serializer = rmp_serde::Serializer::new(&mut bytes).with_struct_map().with_human_readable();
    value.serialize(&mut serializer).map_err(|error| StateError(format!("a value cannot be encoded: {error}")))?;
    Ok(bytes)
}

/// `None` if the bytes are not such a value
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    if bytes.len() > VALUE_BYTES_MAX {
        return None;
    }
    let mut deserializer = rmp_serde::Deserializer::new(bytes).with_human_readable();
    deserializer.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut deserializer).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditRecord;
    use crate::clock::Timestamp;
    use crate::reason::Reason;
    use crate::state::{Block, BlockOrigin, BlockScope};

    #[test]
    fn records_and_blocks_come_back_as_they_were() {
        let record = AuditRecord::refusal(Reason::Schema, "2001:db8::1".parse().unwrap(), Timestamp::from_millis(7));
        let record =
            record.with("count", 3).with("ratio", 0.5).with("nested", serde_json::json!({ "a": [1, null, "x"] }));
        assert_eq!(decode::<AuditRecord>(&encode(&record).unwrap()), Some(record));
        for network in ["192.0.2.7/32", "198.51.100.0/24", "2001:db8::/48"] {
            let block = Block {
                network: network.parse().unwrap(),
                reason: "because".into(),
                origin: BlockOrigin::Manual,
                by: "admin".into(),
                since: Timestamp::from_millis(5),
                until: Some(Timestamp::from_millis(10)),
                scope: BlockScope::Everyone,
                users: Vec::new(),
            };
            assert_eq!(decode::<Block>(&encode(&block).unwrap()), Some(block));
        }
    }

    #[test]
    fn p16_x42_garbage_is_no_value() {
        let boastful_text = b"\xdb\xff\xff\xff\xff";
        let boastful_list = b"\xdd\xff\xff\xff\xff";
        for garbage in
            [&b""[..], b"\xc1", b"\xdf\xff\xff\xff\xff", boastful_text, boastful_list, b"text", &[0x91; 100_000]]
        {
            assert_eq!(decode::<AuditRecord>(garbage), None);
            assert_eq!(decode::<Block>(garbage), None);
        }
    }
}
