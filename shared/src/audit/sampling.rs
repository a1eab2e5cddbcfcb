//! Many records of one kind from one source: the first of a time are recorded one by one, the others as one that says how many it
//! stands for. So nobody hides a record behind a flood of his own, and every one is counted.

use std::collections::HashMap;
use std::time::Duration;

use super::{AuditRecord, EventType, Severity};
use crate::address::AddressKey;
use crate::clock::Timestamp;
use crate::reason::Reason;

/// records of a kind from a source that are recorded one by one in a window
const RECORDED_MAX: u32 = 100;
const WINDOW: Duration = Duration::from_secs(10);
/// sources and kinds that are watched at once; those beyond are recorded one by one, and the queue has its own bound
const SOURCES_MAX: usize = 4096;
/// the key of the metadata that says how many others a record stands for
pub(super) const SUPPRESSED: &str = "suppressed";

#[derive(Default)]
pub(super) struct Sampler {
    windows: HashMap<Source, Window>,
}

/// an address, or a user there, and a kind of record
type Source = (AddressKey, Option<String>, EventType, Option<Reason>);

struct Window {
    began: Timestamp,
    recorded: u32,
    /// the last that was not recorded by itself, and how many more there are
    held: Option<(AuditRecord, u64)>,
}

impl Sampler {
    /// gives on what is to be recorded
    pub(super) fn take(&mut self, record: AuditRecord, mut give: impl FnMut(AuditRecord)) {
        if record.severity == Severity::Critical || record.event_type.is_administrative() {
            return give(record);
        }
        let key = (AddressKey::of(record.ip), record.user_id.clone(), record.event_type, record.reason);
        if !self.windows.contains_key(&key) && self.windows.len() >= SOURCES_MAX {
            return give(record);
        }
        let new = || Window { began: record.timestamp, recorded: 0, held: None };
        let window = self.windows.entry(key).or_insert_with(new);
        if record.timestamp.since(window.began) >= WINDOW {
            std::mem::replace(window, new()).end(&mut give);
        }
        if window.recorded < RECORDED_MAX {
            window.recorded += 1;
            return give(record);
        }
        let others = window.held.as_ref().map_or(0, |(_, others)| others + 1);
        window.held = Some((record, others));
    }

    /// gives on what stands for the windows that are over
    pub(super) fn end(&mut self, now: Timestamp, mut give: impl FnMut(AuditRecord)) {
        for (_, window) in self.windows.extract_if(|_, window| now.since(window.began) >= WINDOW) {
            window.end(&mut give);
        }
    }

    /// gives on all that was held
    pub(super) fn end_all(&mut self, mut give: impl FnMut(AuditRecord)) {
        for (_, window) in self.windows.drain() {
            window.end(&mut give);
        }
    }
}

impl Window {
    fn end(self, mut give: impl FnMut(AuditRecord)) {
        match self.held {
            None => {}
            Some((record, 0)) => give(record),
            Some((record, others)) => give(record.with(SUPPRESSED, others)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_764_000_000_000 + millis)
    }

    fn refusal(reason: Reason, ip: &str, millis: u64) -> AuditRecord {
        AuditRecord::refusal(reason, ip.parse().unwrap(), at(millis))
    }

    /// how many records there were, by those that were recorded
    fn told(records: &[AuditRecord]) -> u64 {
        records.iter().map(AuditRecord::weight).sum()
    }

    #[test]
    fn r07_a_flood_is_sampled_by_source_and_every_record_is_counted() {
        let (mut sampler, mut recorded) = (Sampler::default(), Vec::new());
        for n in 0..5000 {
            sampler.take(refusal(Reason::TokenInvalid, "192.0.2.66", n), |record| recorded.push(record));
        }
        let other = refusal(Reason::HostileContent, "192.0.2.66", 5000);
        let neighbour = refusal(Reason::TokenInvalid, "192.0.2.1", 5000);
        for record in [other.clone(), neighbour.clone()] {
            sampler.take(record, |record| recorded.push(record));
        }
        assert_eq!(recorded.len(), 102, "the flood hides neither another kind nor another source");
        assert_eq!(recorded[100..], [other, neighbour]);

        sampler.end(at(9_999), |record| recorded.push(record));
        assert_eq!(recorded.len(), 102, "the window lasts");
        sampler.end(at(10_000), |record| recorded.push(record));
        assert_eq!((recorded.len(), recorded[102].metadata[SUPPRESSED].as_u64()), (103, Some(4899)));
        assert_eq!(told(&recorded), 5002);
        assert!(sampler.windows.len() == 2, "what is over is forgotten");
    }

    #[test]
    fn r07_a_new_window_begins_by_the_records_own_time() {
        let (mut sampler, mut recorded) = (Sampler::default(), Vec::new());
        for n in 0..40_000 {
            sampler.take(refusal(Reason::Schema, "192.0.2.66", n), |record| recorded.push(record));
        }
        sampler.end_all(|record| recorded.push(record));
        assert_eq!((recorded.len(), told(&recorded)), (4 * 101, 40_000));
    }

    #[test]
    fn r07_critical_and_administrative_records_are_never_sampled() {
        let (mut sampler, mut recorded) = (Sampler::default(), 0);
        for n in 0..1000 {
            let critical = AuditRecord { severity: Severity::Critical, ..refusal(Reason::Schema, "192.0.2.66", n) };
            let login = AuditRecord { event_type: EventType::AdminLogin, ..refusal(Reason::Schema, "192.0.2.66", n) };
            sampler.take(critical, |_| recorded += 1);
            sampler.take(login, |_| recorded += 1);
        }
        assert_eq!(recorded, 2000);
    }

    #[test]
    fn r07_sources_beyond_the_bound_are_recorded_one_by_one() {
        let (mut sampler, mut recorded) = (Sampler::default(), 0);
        for n in 0..6000u32 {
            let ip = std::net::Ipv4Addr::from_bits(0x0A00_0000 + n).to_string();
            sampler.take(refusal(Reason::Schema, &ip, 0), |_| recorded += 1);
        }
        assert_eq!((recorded, sampler.windows.len()), (6000, SOURCES_MAX));
    }
}
