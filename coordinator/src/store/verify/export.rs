//! As much as an export holds, in whatever order its lines are. A record whose predecessor is not there is taken as given.

use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;

use super::super::chain::{self, Hash};
use super::super::stored::Stored;
use super::{Absence, Broken, Checkpoint, Restatements, Uncompared, Verdict, seal};

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
    let mut restatements = Restatements::default();
    let mut expected: Vec<&Checkpoint> = checkpoints.iter().collect();
    for (number, line) in (1..).zip(export.lines()) {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let record = Stored::from_json(&line).map_err(|error| ExportError::Line(number, error))?;
        if let Err(broken) = check(&record, &mut chains, &mut expected, &mut restatements, &mut verdict) {
            verdict.broken = Some(broken);
            break;
        }
        if number % PROGRESS_LINES == 0 {
            progress(number);
        }
    }
    verdict.chains = chains.len() as u64;
    verdict.given = chains.values().map(|chain| chain.waiting.len() as u64).sum();
    verdict.uncompared = expected.into_iter().map(|checkpoint| uncompared(checkpoint, &chains)).collect();
    if verdict.broken.is_none() {
        // What proves them may be outside the export: then they are taken as given, and counted so.
        restatements.settle(&mut verdict);
    }
    Ok(verdict)
}

fn uncompared(checkpoint: &Checkpoint, chains: &HashMap<String, Chain>) -> Uncompared {
    let newest = chains.get(&checkpoint.writer).and_then(|chain| chain.seen.0.values().next_back());
    let why = newest.map_or(Absence::Chain, |newest| Absence::Record { newest: *newest });
    Uncompared { checkpoint: checkpoint.clone(), why }
}

/// what an export holds of one chain. Lines that follow one another leave nothing here
#[derive(Default)]
struct Chain {
    seen: Runs,
    /// records whose predecessor was not seen yet
    waiting: HashMap<u64, Waiting>,
    /// hashes of records whose successor was not seen yet
    ends: HashMap<u64, Hash>,
}

struct Waiting {
    id: String,
    digest: Hash,
    hash: Hash,
    /// what it proves of others once it is proven itself
    restates: Vec<Hash>,
}

fn check(
    record: &Stored,
    chains: &mut HashMap<String, Chain>,
    expected: &mut Vec<&Checkpoint>,
    restatements: &mut Restatements,
    verdict: &mut Verdict,
) -> Result<(), Broken> {
    let Some(link) = &record.link else {
        verdict.unchained += 1;
        return Ok(());
    };
    let writer = link.writer.as_deref().unwrap_or_default();
    let seq = link.seq;
    let sealed = seal(record, link, writer)?;
    restatements.note(record, writer, seq, &sealed, verdict);
    let chain = chains.entry(writer.to_owned()).or_default();
    if !chain.seen.insert(seq) {
        return Err(Broken::Twice { writer: writer.to_owned(), seq, id: record.id.clone() });
    }
    let mut follows = |seq: u64, before: &Hash, one: Waiting| {
        if chain::next(before, &one.digest) != one.hash {
            return Err(Broken::Changed { writer: writer.to_owned(), seq, id: one.id });
        }
        verdict.checked += 1;
        restatements.proven.extend(one.restates);
        Ok(())
    };
    let one = Waiting { id: record.id.clone(), digest: sealed.digest, hash: link.hash, restates: record.restates() };
    let before = if seq == 1 { Some(chain::first(writer)) } else { chain.ends.remove(&(seq.saturating_sub(1))) };
    match before {
        Some(before) => follows(seq, &before, one)?,
        None => drop(chain.waiting.insert(seq, one)),
    }
    let after = seq.saturating_add(1);
    match chain.waiting.remove(&after) {
        Some(next) => follows(after, &link.hash, next)?,
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
