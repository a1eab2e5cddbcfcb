//! What leaves the store: records beyond its bounds, oldest first, and what records say of a person who is to be forgotten. In small
//! steps, so that storing is not held up.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use blake2::Blake2sMac256;
use blake2::digest::{FixedOutput, KeyInit, Update};
use picket_shared::audit::{AuditRecord, EventType, Severity};
use picket_shared::clock::{Clock, Timestamp};

use super::chain::Hash;
use super::database::Session;
use super::queries::chains::{self, Gap};
use super::queries::removal::Victim;
use super::queries::slices::{self, Size};
use super::queries::{counts, removal, search};
use super::stored::RESTATED;
use super::{AuditStore, StoreError, Stored};

/// records deleted or erased in one step
const STEP_RECORDS: u32 = 2_000;
/// steps of one call that erases, and how long it goes on to the next one: its caller is told how far it came before it is given up
const ERASE_STEPS_MAX: u32 = 50;
const ERASE_WITHIN: Duration = Duration::from_secs(20);

/// what the store may keep
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// by severity
    pub(crate) ages: Vec<(Severity, Duration)>,
    pub(crate) records_max: Option<u64>,
    /// of the records' contents
    pub(crate) bytes_max: Option<u64>,
}

/// why records were deleted
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Age,
    Number,
    Size,
}

impl Cause {
    pub(crate) const ALL: [Cause; 3] = [Cause::Age, Cause::Number, Cause::Size];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Cause::Age => "age",
            Cause::Number => "number",
            Cause::Size => "size",
        }
    }
}

/// what was taken from the records of a person
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Erased {
    pub(crate) records: u64,
    /// whether nothing is left; else there is more to erase
    pub(crate) is_all: bool,
    /// the same for the same person in this store, and nothing to others
    pub(crate) subject: String,
}

impl AuditStore {
    /// deletes one step of what is beyond the bounds; says why and how many
    pub(crate) async fn prune(&self, bounds: &Bounds, now: Timestamp) -> Result<Option<(Cause, u64)>, StoreError> {
        let mut session = self.database.read().await?;
        let Size { records, bytes } = slices::size(&mut session).await?;
        drop(session);
        for (severity, age) in &bounds.ages {
            let deleted = self.delete(Some((*severity, now.minus(*age))), STEP_RECORDS).await?;
            if deleted > 0 {
                return Ok(Some((Cause::Age, deleted)));
            }
        }
        let too_many = bounds.records_max.map_or(0, |max| records.saturating_sub(max));
        let too_large = bounds.bytes_max.map_or(0, |max| bytes.saturating_sub(max));
        let (cause, excess) = match (too_many, too_large) {
            (0, 0) => return Ok(None),
            (0, excess) => (Cause::Size, excess.div_ceil((bytes / records.max(1)).max(1))),
            (excess, _) => (Cause::Number, excess),
        };
        let step = u32::try_from(excess).unwrap_or(u32::MAX).min(STEP_RECORDS);
        Ok(Some((cause, self.delete(None, step).await?)).filter(|(_, deleted)| *deleted > 0))
    }

    async fn delete(&self, aged: Option<(Severity, Timestamp)>, limit: u32) -> Result<u64, StoreError> {
        let mut session = self.database.write().await?;
        let victims = removal::oldest(&mut session, aged, limit).await?;
        if victims.is_empty() {
            return Ok(0);
        }
        removal::delete(&mut session, &victims).await?;
        let mut slices = BTreeMap::<i64, Size>::new();
        for victim in &victims {
            let size = slices.entry(victim.slice).or_default();
            size.records += 1;
            size.bytes += victim.bytes;
        }
        for (slice, size) in slices {
            slices::drain(&mut session, slice, size).await?;
        }
        leave_gaps(&mut session, &victims).await?;
        session.commit().await?;
        Ok(victims.len() as u64)
    }

    /// forgets how many records there were in minutes before, and chains begun before of which nothing is left
    pub(crate) async fn forget(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut session = self.database.write().await?;
        let deleted = counts::delete(&mut session, before).await?;
        let forgotten = chains::forget(&mut session, before.as_millis()).await?;
        session.commit().await?;
        Ok(deleted + forgotten)
    }

    /// takes from all records of a user what they say of a person, and the user's name from administration's own
    pub(crate) async fn erase(&self, user_id: &str, clock: &dyn Clock) -> Result<Erased, StoreError> {
        let began = clock.now();
        let mut session = self.database.read().await?;
        let subject = subject(&removal::subject_key(&mut session).await?, user_id);
        drop(session);
        let (mut records, mut is_all) = (0, false);
        let mut after = (0, String::new());
        for step in 0..ERASE_STEPS_MAX {
            if step > 0 && clock.now().since(began) >= ERASE_WITHIN {
                break;
            }
            // As whoever stores records: first the end of the chain, then the store.
            let mut end = self.end.lock().await;
            let mut session = self.database.write().await?;
            let found = search::of_user(&mut session, user_id, STEP_RECORDS).await?;
            if !found.is_empty() {
                for record in &found {
                    removal::erase(&mut session, &record.id, record.commitment()).await?;
                }
                session.commit().await?;
                records += found.len() as u64;
                continue;
            }
            let (time, id) = &after;
            let found = removal::administration_naming(&mut session, user_id, (*time, id), STEP_RECORDS).await?;
            let Some(last) = found.last() else {
                is_all = true;
                break;
            };
            after = (last.timestamp, last.id.clone());
            let mut restated = Vec::new();
            for record in &found {
                let Some(left) = record.without(user_id, &subject) else { continue };
                restated.extend(restate(&mut session, record.commitment(), &left).await?);
                records += 1;
            }
            let head = match restated.is_empty() {
                true => end.head.take(),
                false => Some(end.append(&mut session, &restatement(&subject, &restated, clock.now())).await?),
            };
            session.commit().await?;
            end.head = head;
        }
        // What was overwritten is not to stand in the log of writes either.
        if let Err(error) = self.database.fold_log().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the store's log of writes holds what was erased for a while"
            );
        }
        Ok(Erased { records, is_all, subject })
    }
}

/// puts what is left of a record in its place; answers its digest where a chain has the record
async fn restate(session: &mut Session, written: Option<Hash>, left: &Stored) -> sqlx::Result<Option<Hash>> {
    let salt = picket_shared::random::bytes();
    removal::restate(session, &left.id, &left.metadata, written.map(|written| (salt, written))).await?;
    Ok(written.map(|_| left.fields().digest(&left.personal().commitment(&salt))))
}

/// The record by which the chain proves what is left of others. It is stored with them: without it they are not what was written.
fn restatement(subject: &str, restated: &[Hash], now: Timestamp) -> AuditRecord {
    let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let message = "administrative records stated anew without an erased person";
    let hashes: Vec<_> = restated.iter().map(|hash| picket_shared::hex::encode(hash)).collect();
    let record = AuditRecord::new(EventType::AdminAction, Severity::High, nobody, message, now);
    record.with("subject", subject).with(RESTATED, hashes)
}

fn subject(key: &[u8; 32], user_id: &str) -> String {
    let mut mac = Blake2sMac256::new(key.into());
    mac.update(user_id.as_bytes());
    picket_shared::hex::encode(&mac.finalize_fixed()[..16])
}

/// keeps the hashes from which what is left of the chains goes on
async fn leave_gaps(session: &mut Session, victims: &[Victim]) -> sqlx::Result<()> {
    let mut by_writer = BTreeMap::<i64, Vec<Gap>>::new();
    for (writer, seq, hash) in victims.iter().filter_map(|victim| victim.link) {
        by_writer.entry(writer).or_default().push(Gap { first: seq, last: seq, hash });
    }
    for (writer, mut gaps) in by_writer {
        let first = gaps.iter().map(|gap| gap.first).min().unwrap_or_default();
        let last = gaps.iter().map(|gap| gap.last).max().unwrap_or_default();
        gaps.extend(chains::gaps(session, writer, first.saturating_sub(1), last.saturating_add(1)).await?);
        chains::replace_gaps(session, writer, &merged(gaps)).await?;
    }
    Ok(())
}

/// gaps that follow one another become one
fn merged(mut gaps: Vec<Gap>) -> Vec<Gap> {
    gaps.sort_unstable_by_key(|gap| gap.first);
    let mut merged: Vec<Gap> = Vec::new();
    for gap in gaps {
        match merged.last_mut() {
            Some(before) if before.last + 1 == gap.first => (before.last, before.hash) = (gap.last, gap.hash),
            _ => merged.push(gap),
        }
    }
    merged
}
