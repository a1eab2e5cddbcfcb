//! Whether the trail is what was written: a store from end to end, or as much as an export holds.

mod export;
mod store;

pub use export::{ExportError, verify_export};
pub use store::verify_store;

use std::str::FromStr;

use super::chain::{self, Hash};
use super::stored::{Link, Stored};

/// a hash that a chain had, kept elsewhere
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub writer: String,
    pub seq: u64,
    hash: Hash,
}

#[derive(Debug, thiserror::Error)]
#[error("must be WRITER:NUMBER:HASH, as the coordinator's log has it")]
pub struct CheckpointError;

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let mut parts = text.split(':');
        let (Some(writer), Some(seq), Some(hash), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(CheckpointError);
        };
        let seq = seq.parse().ok().filter(|seq| *seq > 0).ok_or(CheckpointError)?;
        let hash = chain::unhex(hash).ok_or(CheckpointError)?;
        Ok(Checkpoint { writer: writer.to_owned(), seq, hash })
    }
}

/// what was found, up to the first place that is broken
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub chains: u64,
    /// records whose hash follows from what they say and the record before
    pub checked: u64,
    /// of those, records whose personal part was erased
    pub erased: u64,
    /// records whose hash was taken as given, because the one before is not in the export
    pub given: u64,
    /// records that retention deleted: the hash of the last of each run was taken as given
    pub deleted: u64,
    /// records of no chain: they were stored before there were chains
    pub unchained: u64,
    /// checkpoints that agree
    pub checkpoints: u64,
    /// checkpoints whose record is not there to compare
    pub unverifiable: Vec<Checkpoint>,
    pub broken: Option<Broken>,
}

/// a place at which the trail is not what was written
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error(
        "chain {writer}, record {seq} ({id}): its hash does not follow from what it says and the record before: one of them was changed or exchanged"
    )]
    Changed { writer: String, seq: u64, id: String },
    #[error("chain {writer}, record {seq}: it is missing")]
    Missing { writer: String, seq: u64 },
    #[error("chain {writer}, record {seq} ({id}): there are two of this number: one was inserted")]
    Twice { writer: String, seq: u64, id: String },
    #[error(
        "chain {writer}, record {seq} ({id}): its salt is gone as if it was erased, but it says something of a person"
    )]
    NotBlank { writer: String, seq: u64, id: String },
    #[error("chain {writer}, record {seq}: a checkpoint has another hash: the chain was written anew")]
    Checkpoint { writer: String, seq: u64 },
    #[error("chain {writer} ends before record {seq}, which was written: the newest records are missing")]
    Short { writer: String, seq: u64 },
    #[error("chain {writer}, record {seq}: the chain ended before it: it was added")]
    Beyond { writer: String, seq: u64 },
    #[error("chain {writer}: a checkpoint names it, and it is not there")]
    NoChain { writer: String },
    #[error(
        "{found} records are in no chain, more than the {known} that were stored before there were chains: some were inserted"
    )]
    Unchained { found: u64, known: u64 },
}

/// what is hashed of a record
struct Sealed {
    digest: Hash,
    is_erased: bool,
}

/// a record's digest, if it can have one
fn seal(record: &Stored, link: &Link, writer: &str) -> Result<Sealed, Broken> {
    let (commitment, is_erased) = match (&link.salt, &link.commitment) {
        (Some(salt), _) => (record.personal().commitment(salt), false),
        (None, Some(commitment)) if record.is_blank() => (*commitment, true),
        (None, _) => {
            return Err(Broken::NotBlank { writer: writer.to_owned(), seq: link.seq, id: record.id.clone() });
        }
    };
    Ok(Sealed { digest: record.fields().digest(&commitment), is_erased })
}
