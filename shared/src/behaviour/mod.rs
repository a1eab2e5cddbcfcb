//! Watching what somebody does over all sockets: how often, or with how many different values, within a time.
//!
//! Nothing is kept but hashes and times, for a bounded number of them in all. Whoever fills the table makes it forget who was quiet
//! longest, so a flood of identities can hide what is slow; the limits that do not forget are `rateLimiting`.

use parking_lot::Mutex;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::collections::HashMap;
use std::hash::Hash;

use crate::address::AddressKey;
use crate::clock::Timestamp;
use crate::policy::{BehaviourRule, Whose};

/// hashes that are kept at once, of 16 bytes with their time
const VALUES_MAX: usize = 400_000;

/// something that was done
pub struct Deed<'a> {
    pub name: &'a str,
    pub user: Option<&'a str>,
    pub session: Option<&'a str>,
    pub address: AddressKey,
    /// how often, where one record tells of many
    pub times: u64,
}

/// who did what lately
pub struct Watch {
    key: [u8; 16],
    inner: Mutex<Inner>,
    values_max: usize,
}

#[derive(Default)]
struct Inner {
    traces: HashMap<u128, Trace>,
    values: usize,
    /// tells uses apart where no values do
    uses: u64,
}

/// values of one subject under one rule, with when each was seen last
#[derive(Default)]
struct Trace {
    values: Vec<(u64, Timestamp)>,
    seen: Timestamp,
}

impl Default for Watch {
    fn default() -> Self {
        Self::with_capacity(VALUES_MAX)
    }
}

impl Watch {
    pub fn with_capacity(values_max: usize) -> Self {
        Watch { key: crate::random::bytes(), inner: Mutex::default(), values_max }
    }

    /// the rules that this deed is one too many for; `field` finds what `distinct` and `same` name, and a deed without it does not
    /// count. A subject that was told of begins anew
    pub fn see<'r, V: AsRef<[u8]>>(
        &self,
        rules: &'r [BehaviourRule],
        deed: &Deed<'_>,
        field: impl Fn(&str) -> Option<V>,
        now: Timestamp,
    ) -> Vec<&'r BehaviourRule> {
        let watching = rules.iter().filter(|rule| rule.watches(deed.name));
        watching.filter(|rule| self.is_one_too_many(rule, deed, &field, now)).collect()
    }

    fn is_one_too_many<V: AsRef<[u8]>>(
        &self,
        rule: &BehaviourRule,
        deed: &Deed<'_>,
        field: impl Fn(&str) -> Option<V>,
        now: Timestamp,
    ) -> bool {
        let value_of = |pointer: &Option<String>| pointer.as_deref().map(&field);
        let (distinct, same) = match (value_of(&rule.distinct), value_of(&rule.same)) {
            (Some(None), _) | (_, Some(None)) => return false,
            (distinct, same) => (distinct.flatten(), same.flatten()),
        };
        let whose = match (rule.per, deed.session) {
            (Whose::Session, None) => return false,
            (Whose::Session, session) => session,
            (Whose::User, _) => deed.user,
            (Whose::Address, _) => None,
        };
        let subject = self.hash(|hasher| {
            rule.name.hash(hasher);
            match whose {
                Some(name) => name.hash(hasher),
                None => deed.address.network().hash(hasher),
            }
            same.as_ref().map(AsRef::as_ref).hash(hasher);
        });
        let counted = match distinct {
            Some(value) => Counted::Value(self.hash(|hasher| value.as_ref().hash(hasher))),
            None => Counted::Uses(deed.times),
        };
        self.inner.lock().add(subject, &counted, rule, now, self.values_max)
    }

    fn hash(&self, write: impl FnOnce(&mut SipHasher13)) -> u128 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        write(&mut hasher);
        hasher.finish128().as_u128()
    }
}

/// what a deed adds to its subject's trace
enum Counted {
    Value(u128),
    Uses(u64),
}

impl Counted {
    /// as many values as there may be more: beyond the first that is one too many none matters
    fn values(&self, rule: &BehaviourRule) -> usize {
        match self {
            Counted::Value(_) => 1,
            Counted::Uses(times) => usize::try_from(*times).unwrap_or(usize::MAX).min(rule.over as usize + 1),
        }
    }
}

impl Inner {
    #[expect(clippy::cast_possible_truncation, reason = "half of a hash is one")]
    fn add(
        &mut self,
        subject: u128,
        counted: &Counted,
        rule: &BehaviourRule,
        now: Timestamp,
        values_max: usize,
    ) -> bool {
        let more = counted.values(rule);
        if self.values + more > values_max {
            self.forget_the_quiet();
        }
        let trace = self.traces.entry(subject).or_default();
        trace.seen = now;
        let before = trace.values.len();
        trace.values.retain(|(_, at)| now.since(*at) < rule.window);
        match counted {
            Counted::Value(value) => {
                let value = *value as u64;
                match trace.values.iter_mut().find(|(known, _)| *known == value) {
                    Some((_, at)) => *at = now,
                    None => trace.values.push((value, now)),
                }
            }
            Counted::Uses(_) => {
                let first = self.uses + 1;
                self.uses += more as u64;
                trace.values.extend((first..=self.uses).map(|number| (number, now)));
            }
        }
        let after = trace.values.len();
        let is_one_too_many = after > rule.over as usize;
        self.values = self.values + after - before;
        if is_one_too_many {
            self.values -= after;
            self.traces.remove(&subject);
        }
        is_one_too_many
    }

    /// the half that was quiet longest
    fn forget_the_quiet(&mut self) {
        let mut times: Vec<_> = self.traces.values().map(|trace| trace.seen).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        self.traces.retain(|_, trace| trace.seen > median);
        self.values = self.traces.values().map(|trace| trace.values.len()).sum();
    }
}

#[cfg(test)]
mod tests;
