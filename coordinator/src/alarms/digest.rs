//! Grave records by kind: the first alarms at once, those that follow within a window are counted and told together at its end.
//!
//! Kinds come from enums, so that no attacker makes more of them.

use std::collections::HashMap;
use std::time::Duration;

use picket_shared::audit::{AuditRecord, EventType, Severity};
use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;

/// how long records of a kind are gathered
pub(super) const WINDOW: Duration = Duration::from_secs(300);

#[derive(Default)]
pub(super) struct Digest {
    kinds: HashMap<(EventType, Option<Reason>), Window>,
}

struct Window {
    began: Timestamp,
    /// what came after the one that was told
    gathered: Option<Gathered>,
}

/// records of one kind
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gathered {
    pub(super) count: u64,
    pub(super) since: Timestamp,
    pub(super) severity: Severity,
    pub(super) latest: AuditRecord,
}

impl Gathered {
    fn first(record: &AuditRecord) -> Self {
        Gathered { count: 1, since: record.timestamp, severity: record.severity, latest: record.clone() }
    }

    fn add(&mut self, record: &AuditRecord) {
        self.count += 1;
        self.since = self.since.min(record.timestamp);
        self.severity = self.severity.max(record.severity);
        self.latest = record.clone();
    }
}

impl Digest {
    /// what is to be told at once
    pub(super) fn notice(&mut self, record: &AuditRecord, now: Timestamp) -> Option<Gathered> {
        let Some(window) = self.kinds.get_mut(&(record.event_type, record.reason)) else {
            let kind = (record.event_type, record.reason);
            self.kinds.insert(kind, Window { began: now, gathered: None });
            return Some(Gathered::first(record));
        };
        match &mut window.gathered {
            Some(gathered) => gathered.add(record),
            None => window.gathered = Some(Gathered::first(record)),
        }
        None
    }

    /// what was gathered in windows that ended; a quiet kind is forgotten, so that its next record alarms at once
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Gathered> {
        let mut due = Vec::new();
        self.kinds.retain(|_, window| {
            if now.since(window.began) < WINDOW {
                return true;
            }
            window.began = now;
            let gathered = window.gathered.take();
            let had_some = gathered.is_some();
            due.extend(gathered);
            had_some
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_kind_is_told_at_once_and_the_others_as_a_number() {
        let mut digest = Digest::default();
        let at = |seconds: u64| Timestamp::from_millis(1_764_000_000_000 + seconds * 1000);
        let record = |reason, seconds| AuditRecord::refusal(reason, [192, 0, 2, 1].into(), at(seconds));
        let mut told = 0;
        for second in 0..100 {
            told += digest.notice(&record(Reason::AddressBlocked, second), at(second)).into_iter().count();
        }
        assert_eq!(told, 1);
        assert!(digest.notice(&record(Reason::HostileContent, 100), at(100)).is_some(), "another kind is news");
        assert_eq!(digest.due(at(299)), []);
        let due = digest.due(at(300));
        assert_eq!((due.len(), due[0].count, due[0].since, due[0].latest.timestamp), (1, 99, at(1), at(99)));
        assert!(digest.notice(&record(Reason::AddressBlocked, 301), at(301)).is_none(), "an attack that goes on");
        assert_eq!(digest.due(at(600))[0].count, 1);
        assert_eq!(digest.due(at(900)), []);
        assert!(digest.notice(&record(Reason::AddressBlocked, 901), at(901)).is_some(), "and one that begins anew");
    }
}
