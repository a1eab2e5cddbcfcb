//! How many, and whom it concerns: bounded, the most concerned first.

use picket_shared::audit::AuditRecord;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;

/// users, and addresses, that are told apart; those that come later are counted without a name
const SUBJECTS_MAX: usize = 5000;
/// of them, those that are listed
const LISTED_MAX: usize = 20;
/// the newest records that are named
const RECORDS_MAX: usize = 10;

#[derive(Default)]
pub(super) struct Tally {
    count: u64,
    by_number: u64,
    users: Subjects<String>,
    addresses: Subjects<IpAddr>,
    records: VecDeque<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ForecastVerdicts")]
pub(crate) struct Verdicts {
    /// connections or events
    pub(crate) count: u64,
    /// of them, those that are known by their number only: records like another one are not all kept
    pub(crate) by_number: u64,
    pub(crate) users: Concerned<UserConcerned>,
    pub(crate) addresses: Concerned<AddressConcerned>,
    /// the newest records behind them
    pub(crate) records: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ForecastConcerned_{T}")]
pub(crate) struct Concerned<T> {
    pub(crate) total: u64,
    /// there may be more: what no place was left for is counted and not told apart
    pub(crate) total_is_lower_bound: bool,
    /// the most concerned first, up to 20
    pub(crate) top: Vec<T>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ForecastUser")]
pub(crate) struct UserConcerned {
    pub(crate) user_id: String,
    pub(crate) count: u64,
    /// its newest record
    pub(crate) record: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ForecastAddress")]
pub(crate) struct AddressConcerned {
    pub(crate) ip: IpAddr,
    pub(crate) count: u64,
    /// its newest record
    pub(crate) record: String,
}

struct Subjects<K> {
    known: HashMap<K, (u64, String)>,
    are_more: bool,
}

impl<K> Default for Subjects<K> {
    fn default() -> Self {
        Subjects { known: HashMap::new(), are_more: false }
    }
}

impl Tally {
    /// `count` of those that the record stands for
    pub(super) fn add(&mut self, record: &AuditRecord, count: u64) {
        if count == 0 {
            return;
        }
        self.count += count;
        self.by_number += count.saturating_sub(1);
        if let Some(user) = &record.user_id {
            self.users.add(user.clone(), count, &record.id);
        }
        self.addresses.add(record.ip, count, &record.id);
        if self.records.len() == RECORDS_MAX {
            self.records.pop_front();
        }
        self.records.push_back(record.id.clone());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn into_verdicts(self) -> Verdicts {
        Verdicts {
            count: self.count,
            by_number: self.by_number,
            users: self.users.concerned(|user_id, count, record| UserConcerned { user_id, count, record }),
            addresses: self.addresses.concerned(|ip, count, record| AddressConcerned { ip, count, record }),
            records: self.records.into_iter().rev().collect(),
        }
    }
}

impl<K: Eq + Hash + Ord> Subjects<K> {
    fn add(&mut self, subject: K, count: u64, record: &str) {
        if let Some((known, newest)) = self.known.get_mut(&subject) {
            *known += count;
            record.clone_into(newest);
        } else if self.known.len() < SUBJECTS_MAX {
            self.known.insert(subject, (count, record.to_owned()));
        } else {
            self.are_more = true;
        }
    }

    fn concerned<T>(self, told: impl Fn(K, u64, String) -> T) -> Concerned<T> {
        let (total, total_is_lower_bound) = (self.known.len() as u64, self.are_more);
        let mut subjects: Vec<_> = self.known.into_iter().collect();
        subjects.sort_unstable_by(|(a, (fewer, _)), (b, (more, _))| more.cmp(fewer).then_with(|| a.cmp(b)));
        subjects.truncate(LISTED_MAX);
        let top = subjects.into_iter().map(|(subject, (count, record))| told(subject, count, record)).collect();
        Concerned { total, total_is_lower_bound, top }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::clock::Timestamp;
    use picket_shared::reason::Reason;

    #[test]
    fn the_most_concerned_come_first_and_a_crowd_is_counted_without_names() {
        let mut tally = Tally::default();
        for n in 0..SUBJECTS_MAX as u32 + 100 {
            let ip = std::net::Ipv4Addr::from_bits(0x0A00_0000 + n);
            tally.add(&AuditRecord::refusal(Reason::ConnectionRate, ip.into(), Timestamp::from_millis(n.into())), 1);
        }
        let loud = AuditRecord::refusal(Reason::ConnectionRate, [10, 0, 0, 7].into(), Timestamp::from_millis(9000));
        tally.add(&loud, 5);
        let told = tally.into_verdicts();
        assert_eq!((told.count, told.by_number), (SUBJECTS_MAX as u64 + 105, 4));
        assert_eq!((told.addresses.total, told.addresses.total_is_lower_bound), (SUBJECTS_MAX as u64, true));
        let first = &told.addresses.top[0];
        assert_eq!((first.ip.to_string().as_str(), first.count, &first.record), ("10.0.0.7", 6, &loud.id));
        assert_eq!(
            (told.addresses.top.len(), told.records.len(), &told.records[0]),
            (LISTED_MAX, RECORDS_MAX, &loud.id)
        );
        assert_eq!((told.users.total, told.users.total_is_lower_bound), (0, false));
    }
}
