//! As much as an export holds, in whatever order its lines are. A record whose predecessor is not there is taken as given.

use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;

use super::super::chain::{self, Hash};
use super::super::stored::Stored;
use super::{Broken, Checkpoint, Verdict, seal};

/// lines between two reports of progress
const PROGRESS_LINES: u64 = 10_000;

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("cannot read the export")]
    Read(#[from] std::io::Error),
    #[error("line {0} is not a record of an NDJSON export")]
    Line(u64, #[source] serde_json::Error),
}

/// `progress` hears how many lines were read
pub fn verify_export(
    export: impl BufRead,
    checkpoints: &[Checkpoint],
    mut progress: impl FnMut(u64),
) -> Result<Verdict, ExportError> {
    let mut verdict = Verdict::default();
    let mut chains = HashMap::<String, Chain>::new();
    let mut expected: Vec<&Checkpoint> = checkpoints.iter().collect();
    for (number, line) in (1..).zip(export.lines()) {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let record = Stored::from_json(&line).map_err(|error| ExportError::Line(number, error))?;
        if let Err(broken) = check(&record, &mut chains, &mut expected, &mut verdict) {
            verdict.broken = Some(broken);
            break;
        }
        if number % PROGRESS_LINES == 0 {
            progress(number);
        }
    }
    verdict.chains = chains.len() as u64;
    verdict.given = chains.values().map(|chain| chain.waiting.len() as u64).sum();
    verdict.unverifiable = expected.into_iter().cloned().collect();
    Ok(verdict)
}

/// what an export holds of one chain. Lines that follow one another leave nothing here
#[derive(Default)]
struct Chain {
    seen: Runs,
    /// records whose predecessor was not seen yet: id, digest and hash
    waiting: HashMap<u64, (String, Hash, Hash)>,
    /// hashes of records whose successor was not seen yet
    ends: HashMap<u64, Hash>,
}

fn check(
    record: &Stored,
    chains: &mut HashMap<String, Chain>,
    expected: &mut Vec<&Checkpoint>,
    verdict: &mut Verdict,
) -> Result<(), Broken> {
    let Some(link) = &record.link else {
        verdict.unchained += 1;
        return Ok(());
    };
    let writer = link.writer.as_deref().unwrap_or_default();
    let seq = link.seq;
    let sealed = seal(record, link, writer)?;
    verdict.erased += u64::from(sealed.is_erased);
    let chain = chains.entry(writer.to_owned()).or_default();
    if !chain.seen.insert(seq) {
        return Err(Broken::Twice { writer: writer.to_owned(), seq, id: record.id.clone() });
    }
    let mut follows = |seq: u64, id: &str, before: &Hash, digest: &Hash, hash: &Hash| {
        if chain::next(before, digest) != *hash {
            return Err(Broken::Changed { writer: writer.to_owned(), seq, id: id.to_owned() });
        }
        verdict.checked += 1;
        Ok(())
    };
    let before = if seq == 1 { Some(chain::first(writer)) } else { chain.ends.remove(&(seq.saturating_sub(1))) };
    match before {
        Some(before) => follows(seq, &record.id, &before, &sealed.digest, &link.hash)?,
        None => drop(chain.waiting.insert(seq, (record.id.clone(), sealed.digest, link.hash))),
    }
    match chain.waiting.remove(&(seq + 1)) {
        Some((id, digest, hash)) => follows(seq + 1, &id, &link.hash, &digest, &hash)?,
        None => drop(chain.ends.insert(seq, link.hash)),
    }
    for checkpoint in expected.extract_if(.., |checkpoint| checkpoint.writer == writer && checkpoint.seq == seq) {
        if checkpoint.hash != link.hash {
            return Err(Broken::Checkpoint { writer: writer.to_owned(), seq });
        }
        verdict.checkpoints += 1;
    }
    Ok(())
}

/// numbers that were seen, as runs: first to last
#[derive(Default)]
struct Runs(BTreeMap<u64, u64>);

impl Runs {
    /// false if it is there already
    fn insert(&mut self, number: u64) -> bool {
        let before = self.0.range(..=number).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| last >= number) {
            return false;
        }
        let first = match before {
            Some((first, last)) if last.checked_add(1) == Some(number) => first,
            _ => number,
        };
        let last = number.checked_add(1).and_then(|next| self.0.remove(&next)).unwrap_or(number);
        self.0.insert(first, last);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_join_and_know_what_they_hold() {
        let mut runs = Runs::default();
        assert!([5, 3, 4, 9, 1].into_iter().all(|number| runs.insert(number)));
        assert!([1, 3, 4, 5, 9].into_iter().all(|number| !runs.insert(number)));
        assert_eq!(runs.0, BTreeMap::from([(1, 1), (3, 5), (9, 9)]));
    }
}
