//! A store from end to end: every chain from its first record to its last.

use std::collections::BTreeMap;

use super::super::chain::{self, Hash, Head};
use super::super::database::Database;
use super::super::queries::chains::{self, Gap};
use super::super::{StoreError, open_to_read};
use super::{Absence, Broken, Checkpoint, Restatements, Uncompared, Verdict, seal};

/// records read at once
const PAGE: u32 = 5_000;

/// reads the whole store, also while a coordinator writes to it; `progress` hears how many records were checked
pub async fn verify_store(
    url: &str,
    checkpoints: &[Checkpoint],
    mut progress: impl FnMut(u64),
) -> Result<Verdict, StoreError> {
    let database = open_to_read(url).await?;
    let mut verdict = Verdict::default();
    let mut outcome = check(&database, checkpoints, &mut verdict, &mut progress).await;
    if matches!(outcome, Ok(Some(Broken::Restated { .. }))) {
        // A person may have been erased meanwhile: what proves it came into a chain that was read already.
        verdict = Verdict::default();
        outcome = check(&database, checkpoints, &mut verdict, &mut progress).await;
    }
    database.close().await;
    verdict.broken = outcome?;
    Ok(verdict)
}

async fn check(
    database: &Database,
    kept: &[Checkpoint],
    verdict: &mut Verdict,
    progress: &mut impl FnMut(u64),
) -> Result<Option<Broken>, StoreError> {
    let mut session = database.read().await?;
    let heads = chains::writers(&mut session).await?;
    drop(session);
    if let Some(lost) = kept.iter().find(|kept| heads.iter().all(|head| head.name != kept.writer)) {
        return Ok(Some(Broken::NoChain { writer: lost.writer.clone() }));
    }
    let mut restatements = Restatements::default();
    for head in &heads {
        verdict.chains += 1;
        let mut session = database.read().await?;
        let mut expected: Vec<(u64, Hash, Option<&Checkpoint>)> = chains::checkpoints(&mut session, head.number)
            .await?
            .into_iter()
            .map(|own| (own.seq, own.hash, None))
            .collect();
        drop(session);
        expected
            .extend(kept.iter().filter(|kept| kept.writer == head.name).map(|kept| (kept.seq, kept.hash, Some(kept))));
        if let Some(broken) = check_chain(database, head, &expected, &mut restatements, verdict, progress).await? {
            return Ok(Some(broken));
        }
    }
    let mut session = database.read().await?;
    let (found, known) = chains::unchained(&mut session).await?;
    verdict.unchained = found;
    if found > known {
        return Ok(Some(Broken::Unchained { found, known }));
    }
    // What retention deleted may have been the proof.
    Ok(restatements.settle(verdict).filter(|_| verdict.deleted == 0))
}

/// how far a chain was followed
struct Walk<'a> {
    writer: &'a str,
    seq: u64,
    hash: Hash,
    /// what the chain is to have at some records
    expected: BTreeMap<u64, Vec<(Hash, Option<&'a Checkpoint>)>>,
}

async fn check_chain(
    database: &Database,
    head: &Head,
    checkpoints: &[(u64, Hash, Option<&Checkpoint>)],
    restatements: &mut Restatements,
    verdict: &mut Verdict,
    progress: &mut impl FnMut(u64),
) -> Result<Option<Broken>, StoreError> {
    let mut expected = BTreeMap::<u64, Vec<_>>::new();
    for (seq, hash, kept) in checkpoints {
        expected.entry(*seq).or_default().push((*hash, *kept));
    }
    let mut walk = Walk { writer: &head.name, seq: 0, hash: chain::first(&head.name), expected };
    loop {
        // One view of records and gaps: retention may be at work.
        let mut session = database.read().await?;
        let records = chains::run(&mut session, head.number, walk.seq, PAGE).await?;
        let until = records.last().and_then(|record| record.link.as_ref()).map_or(i64::MAX as u64, |link| link.seq);
        let gaps = chains::gaps(&mut session, head.number, walk.seq + 1, until).await?;
        drop(session);
        for record in &records {
            let Some(link) = &record.link else { continue };
            walk.skip(&gaps, link.seq, verdict);
            let at = |broken: fn(String, u64, String) -> Broken| broken(head.name.clone(), link.seq, record.id.clone());
            if link.seq <= walk.seq {
                return Ok(Some(at(|writer, seq, id| Broken::Twice { writer, seq, id })));
            }
            if link.seq > walk.seq + 1 {
                return Ok(Some(Broken::Missing { writer: head.name.clone(), seq: walk.seq + 1 }));
            }
            let sealed = match seal(record, link, &head.name) {
                Ok(sealed) => sealed,
                Err(broken) => return Ok(Some(broken)),
            };
            if chain::next(&walk.hash, &sealed.digest) != link.hash {
                return Ok(Some(at(|writer, seq, id| Broken::Changed { writer, seq, id })));
            }
            verdict.checked += 1;
            restatements.note(record, &head.name, link.seq, &sealed, verdict);
            restatements.proven.extend(record.restates());
            if let Some(broken) = walk.step(link.seq, link.hash, verdict) {
                return Ok(Some(broken));
            }
        }
        progress(verdict.checked);
        if records.is_empty() {
            walk.skip(&gaps, u64::MAX, verdict);
            let mut session = database.read().await?;
            let written = chains::writers(&mut session).await?.into_iter().find(|now| now.number == head.number);
            return Ok(walk.end(head, written.map_or(0, |now| now.seq), verdict));
        }
    }
}

impl Walk<'_> {
    /// goes over a gap that begins where the walk is, before record `next`
    fn skip(&mut self, gaps: &[Gap], next: u64, verdict: &mut Verdict) {
        if next == self.seq + 1 {
            return;
        }
        let after = self.seq + 1;
        if let Some(gap) = gaps.iter().find(|gap| gap.first <= after && after <= gap.last) {
            verdict.deleted += gap.last - self.seq;
            (self.seq, self.hash) = (gap.last, gap.hash);
        }
    }

    /// goes to a record that was checked
    fn step(&mut self, seq: u64, hash: Hash, verdict: &mut Verdict) -> Option<Broken> {
        (self.seq, self.hash) = (seq, hash);
        for (expected, _) in self.expected.remove(&seq).unwrap_or_default() {
            if expected != hash {
                return Some(Broken::Checkpoint { writer: self.writer.to_owned(), seq });
            }
            verdict.checkpoints += 1;
        }
        None
    }

    /// `written` is how many records the chain has by now: the coordinator may write on
    fn end(self, head: &Head, written: u64, verdict: &mut Verdict) -> Option<Broken> {
        let writer = || self.writer.to_owned();
        if self.seq > written {
            return Some(Broken::Beyond { writer: writer(), seq: written + 1 });
        }
        let last = self.expected.keys().next_back().copied().unwrap_or_default().max(head.seq);
        if self.seq < last {
            return Some(Broken::Short { writer: writer(), seq: last });
        }
        if self.seq == head.seq && self.hash != head.hash {
            return Some(Broken::Checkpoint { writer: writer(), seq: head.seq });
        }
        let kept = self.expected.into_values().flatten().filter_map(|(_, kept)| kept.cloned());
        verdict.uncompared.extend(kept.map(|checkpoint| Uncompared { checkpoint, why: Absence::Deleted }));
        None
    }
}
