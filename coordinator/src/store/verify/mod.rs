//! Whether the trail is what was written: a store from end to end, or as much as an export holds.

mod export;
mod store;

pub use export::{ExportError, verify_export};
pub use store::verify_store;

use std::collections::HashSet;
use std::str::FromStr;

use super::chain::Hash;
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
        let hash = picket_shared::hex::decode(hash).ok_or(CheckpointError)?;
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
    /// records that name an erased person no longer: a later record proves what they say
    pub restated: u64,
    /// the same where the later record is not in the export, or was deleted: what they say was taken as given
    pub restated_given: u64,
    /// records whose hash was taken as given, because the one before is not in the export
    pub given: u64,
    /// records that retention deleted: the hash of the last of each run was taken as given
    pub deleted: u64,
    /// records of no chain: they were stored before there were chains
    pub unchained: u64,
    /// checkpoints that agree
    pub checkpoints: u64,
    /// checkpoints whose record is not there to compare
    pub uncompared: Vec<Uncompared>,
    pub broken: Option<Broken>,
}

/// a checkpoint that could not be compared, and why
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncompared {
    pub checkpoint: Checkpoint,
    pub why: Absence,
}

/// why a record is not there
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// the export has no record of its chain
    Chain,
    /// the newest record of its chain that the export has is this one
    Record {
        newest: u64,
    },
    Deleted,
}

/// what keeps a trail in which nothing is broken from being proven
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    #[error("{_0}")]
    Uncompared(Uncompared),
    #[error(
        "{_0} records are in no chain, and nothing proves them: an export of records from before there were chains needs --allow-unchained"
    )]
    Unchained(u64),
    #[error("there are no records")]
    Empty,
    #[error("of no record is the one before in the export: export more, the records between them too")]
    AllGiven,
}

impl std::fmt::Display for Uncompared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Checkpoint { writer, seq, .. } = &self.checkpoint;
        write!(f, "the checkpoint of chain {writer}, record {seq}, could not be compared: ")?;
        match self.why {
            Absence::Chain => write!(
                f,
                "the export has no record of this chain. An export of everything has lost it; of a part, export the time that \
                 includes the record, or leave the checkpoint out"
            ),
            Absence::Record { newest } => write!(
                f,
                "the record is not in the export, whose newest of this chain is {newest}. An export of everything has lost it; of \
                 a part, export the time that includes the record, or leave the checkpoint out"
            ),
            Absence::Deleted => {
                write!(f, "retention deleted the record. Give a newer checkpoint, or leave this one out")
            }
        }
    }
}

impl Verdict {
    /// why the trail is not proven, though nothing is broken; an export's records may be in no chain where that is said
    pub fn unproven(&self, allows_unchained: bool) -> Option<Unproven> {
        if let Some(uncompared) = self.uncompared.first() {
            return Some(Unproven::Uncompared(uncompared.clone()));
        }
        if self.unchained > 0 && !allows_unchained {
            return Some(Unproven::Unchained(self.unchained));
        }
        match (self.checked, self.given) {
            (0, 0) if self.deleted == 0 && self.unchained == 0 => Some(Unproven::Empty),
            (0, 1..) => Some(Unproven::AllGiven),
            _ => None,
        }
    }
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
    #[error(
        "chain {writer}, record {seq} ({id}): it was stated anew as if a person was erased from it, and no record of the chains says what it said then: it was changed"
    )]
    Restated { writer: String, seq: u64, id: String },
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
    /// what of it is as it was written
    state: State,
}

enum State {
    Whole,
    Erased,
    /// the digest of the record as it is now
    Restated(Hash),
}

/// what records say since a person was erased from them, and what proves it: in whatever order they come
#[derive(Default)]
struct Restatements {
    made: Vec<Restated>,
    proven: HashSet<Hash>,
}

struct Restated {
    writer: String,
    seq: u64,
    id: String,
    digest: Hash,
}

impl Restatements {
    /// takes note of a record
    fn note(&mut self, record: &Stored, writer: &str, seq: u64, sealed: &Sealed, verdict: &mut Verdict) {
        match sealed.state {
            State::Whole => {}
            State::Erased => verdict.erased += 1,
            State::Restated(digest) => {
                self.made.push(Restated { writer: writer.to_owned(), seq, id: record.id.clone(), digest });
            }
        }
    }

    /// counts what is proven; answers the first that is not
    fn settle(self, verdict: &mut Verdict) -> Option<Broken> {
        let (proven, given): (Vec<_>, Vec<_>) =
            self.made.into_iter().partition(|made| self.proven.contains(&made.digest));
        verdict.restated = proven.len() as u64;
        verdict.restated_given = given.len() as u64;
        let Restated { writer, seq, id, .. } = given.into_iter().next()?;
        Some(Broken::Restated { writer, seq, id })
    }
}

/// a record's digest, if it can have one
fn seal(record: &Stored, link: &Link, writer: &str) -> Result<Sealed, Broken> {
    let at = |broken: fn(String, u64, String) -> Broken| Err(broken(writer.to_owned(), link.seq, record.id.clone()));
    let (commitment, state) = match (&link.salt, &link.commitment) {
        (Some(salt), None) => (record.personal().commitment(salt), State::Whole),
        (Some(salt), Some(written)) if record.may_be_restated() => {
            (*written, State::Restated(record.fields().digest(&record.personal().commitment(salt))))
        }
        (None, Some(written)) if record.is_blank() => (*written, State::Erased),
        (Some(_), Some(_)) => return at(|writer, seq, id| Broken::Restated { writer, seq, id }),
        (None, _) => return at(|writer, seq, id| Broken::NotBlank { writer, seq, id }),
    };
    Ok(Sealed { digest: record.fields().digest(&commitment), state })
}
