//! What this process holds, and what of it Redis has yet to hear. Pure.
//!
//! Redis is always told the whole count of a key, with a sequence number; so nothing that is lost, late or told twice leaves
//! a trace. What is asked for counts from before it is asked, so that what is told in between is never too low.

use std::collections::{HashMap, HashSet};

use crate::state::LeaseKey;

#[derive(Default)]
pub(super) struct Table {
    held: HashMap<LeaseKey, Held>,
    /// keys whose count Redis has yet to hear; not more than are held or were asked for
    untold: HashSet<LeaseKey>,
    sequence: u64,
    round: u64,
}

struct Held {
    count: u32,
    /// of the last command about it
    sequence: u64,
    /// the round of regular tellings it was in
    round: u64,
}

/// a key's whole count, to be told
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Telling {
    pub(super) key: LeaseKey,
    pub(super) count: u32,
    pub(super) sequence: u64,
}

impl Table {
    /// counts one more, to be asked for
    pub(super) fn ask(&mut self, key: &LeaseKey) -> Telling {
        self.sequence += 1;
        let (sequence, round) = (self.sequence, self.round);
        let held = self.held.entry(key.clone()).or_insert(Held { count: 0, sequence, round });
        held.count += 1;
        held.sequence = sequence;
        Telling { key: key.clone(), count: held.count, sequence }
    }

    /// it was full: Redis has not counted it, but may have counted it in a later command
    pub(super) fn refused(&mut self, asked: &Telling) {
        let last = self.held.get(&asked.key).map(|held| held.sequence);
        let was_untold = self.untold.contains(&asked.key);
        self.give_back(&asked.key);
        if last == Some(asked.sequence) && !was_untold {
            self.untold.remove(&asked.key);
            self.forget_if_none(&asked.key);
        }
    }

    pub(super) fn give_back(&mut self, key: &LeaseKey) {
        if let Some(held) = self.held.get_mut(key) {
            held.count = held.count.saturating_sub(1);
            self.untold.insert(key.clone());
        }
    }

    /// counts one more that was granted without asking
    pub(super) fn hold(&mut self, key: &LeaseKey) {
        self.ask(key);
        self.untold.insert(key.clone());
    }

    pub(super) fn held(&self, key: &LeaseKey) -> u32 {
        self.held.get(key).map_or(0, |held| held.count)
    }

    pub(super) fn tell_all(&mut self) {
        self.untold.extend(self.held.keys().cloned());
    }

    /// puts the next part of what is held among the untold; every key has its turn within so many calls
    pub(super) fn tell_next(&mut self, part_min: usize, parts: usize) {
        let part = part_min.max(self.held.len() / parts.max(1));
        let round = self.round;
        let mut told = 0;
        for (key, held) in self.held.iter_mut().filter(|(_, held)| held.round <= round).take(part) {
            held.round = round + 1;
            self.untold.insert(key.clone());
            told += 1;
        }
        if told < part {
            self.round += 1;
        }
    }

    pub(super) fn next_tellings(&mut self, max: usize) -> Vec<Telling> {
        let keys: Vec<_> = self.untold.iter().take(max).cloned().collect();
        keys.into_iter().filter_map(|key| self.telling(key)).collect()
    }

    fn telling(&mut self, key: LeaseKey) -> Option<Telling> {
        self.untold.remove(&key);
        self.sequence += 1;
        let held = self.held.get_mut(&key)?;
        held.sequence = self.sequence;
        Some(Telling { key, count: held.count, sequence: held.sequence })
    }

    pub(super) fn told(&mut self, telling: &Telling) {
        if self.held.get(&telling.key).is_some_and(|held| held.sequence == telling.sequence) {
            self.forget_if_none(&telling.key);
        }
    }

    /// Redis may not have heard it
    pub(super) fn not_told(&mut self, telling: &Telling) {
        if self.held.contains_key(&telling.key) {
            self.untold.insert(telling.key.clone());
        }
    }

    fn forget_if_none(&mut self, key: &LeaseKey) {
        if self.held.get(key).is_some_and(|held| held.count == 0) && !self.untold.contains(key) {
            self.held.remove(key);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.held.len() + self.untold.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> LeaseKey {
        LeaseKey::User("alice".into())
    }

    #[test]
    fn what_is_given_back_is_told_and_then_forgotten() {
        let mut table = Table::default();
        assert_eq!(table.ask(&alice()).count, 1);
        table.give_back(&alice());
        let tellings = table.next_tellings(10);
        assert_eq!(tellings[0].count, 0);
        table.told(&tellings[0]);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_refusal_leaves_nothing_to_tell_unless_a_later_command_counted_it() {
        let mut table = Table::default();
        let asked = table.ask(&alice());
        table.refused(&asked);
        assert_eq!(table.len(), 0);

        let first = table.ask(&alice());
        assert_eq!(table.ask(&alice()).count, 2);
        table.refused(&first);
        assert_eq!(table.next_tellings(10)[0].count, 1);
    }

    #[test]
    fn a_refusal_does_not_swallow_what_was_to_be_told() {
        let mut table = Table::default();
        table.ask(&alice());
        table.give_back(&alice());
        let asked = table.ask(&alice());
        table.refused(&asked);
        assert_eq!(table.next_tellings(10)[0].count, 0);
    }

    #[test]
    fn what_was_not_told_is_told_again() {
        let mut table = Table::default();
        table.ask(&alice());
        table.give_back(&alice());
        let telling = table.next_tellings(10).remove(0);
        table.not_told(&telling);
        assert_eq!(table.next_tellings(10).len(), 1);
    }

    #[test]
    fn every_key_has_its_turn() {
        let mut table = Table::default();
        for n in 0..100 {
            table.ask(&LeaseKey::User(n.to_string().into()));
        }
        let mut told = HashSet::new();
        for _ in 0..10 {
            table.tell_next(1, 10);
            told.extend(table.next_tellings(100).into_iter().map(|telling| telling.key));
        }
        assert_eq!(told.len(), 100);
    }
}
