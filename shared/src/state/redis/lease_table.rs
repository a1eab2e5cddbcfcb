//! What this process holds, and what of it Redis has yet to hear. Pure.
//!
//! Redis is always told the whole count of a key, with a sequence number; so nothing that is lost, late or told twice leaves
//! a trace. What is asked for counts from before it is asked, so that what is told in between is never too low; but then it
//! may be too high, so a key is told about while it is asked for only when it has waited long.

use std::collections::HashMap;

use crate::state::LeaseKey;

#[derive(Default)]
pub(super) struct Table {
    held: HashMap<LeaseKey, Held>,
    /// keys whose count Redis has yet to hear, and the turn since which; not more than are held or were asked for
    untold: HashMap<LeaseKey, u64>,
    sequence: u64,
    turn: u64,
    round: u64,
}

struct Held {
    /// with those that are asked for
    count: u32,
    /// asked for, and not answered yet
    asked: u32,
    /// of the last command about it
    sequence: u64,
    /// the round of regular tellings it was in
    round: u64,
    /// Redis has acknowledged that some are held, and was told nothing else since
    is_known: bool,
}

/// a key's whole count, to be told
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Telling {
    pub(super) key: LeaseKey,
    pub(super) count: u32,
    pub(super) sequence: u64,
    /// Redis has acknowledged before that some are held: if it does not know, it lost them
    pub(super) is_known: bool,
}

/// a key that is always asked for is told about after so many turns
const TURNS_MAX: u64 = 2;

impl Table {
    /// counts one more, to be asked for; the answer is told to [`Table::granted`], [`Table::refused`] or [`Table::unanswered`]
    pub(super) fn ask(&mut self, key: &LeaseKey) -> Telling {
        let held = self.count_one(key);
        held.asked += 1;
        Telling { key: key.clone(), count: held.count, sequence: held.sequence, is_known: held.is_known }
    }

    pub(super) fn granted(&mut self, asked: &Telling) {
        self.answered(asked);
        if let Some(held) = self.held.get_mut(&asked.key) {
            held.is_known = true;
        }
    }

    /// it was full: Redis has not counted it, but may have counted it in a later command
    pub(super) fn refused(&mut self, asked: &Telling) {
        self.answered(asked);
        let last = self.held.get(&asked.key).map(|held| held.sequence);
        let was_untold = self.untold.contains_key(&asked.key);
        self.give_back(&asked.key);
        if last == Some(asked.sequence) && !was_untold {
            self.untold.remove(&asked.key);
            self.forget_if_none(&asked.key);
        }
    }

    /// Redis may have counted it or not
    pub(super) fn unanswered(&mut self, asked: &Telling) {
        self.answered(asked);
        self.give_back(&asked.key);
    }

    fn answered(&mut self, asked: &Telling) {
        if let Some(held) = self.held.get_mut(&asked.key) {
            held.asked = held.asked.saturating_sub(1);
        }
    }

    fn count_one(&mut self, key: &LeaseKey) -> &mut Held {
        self.sequence += 1;
        let (sequence, round) = (self.sequence, self.round);
        let none = Held { count: 0, asked: 0, sequence, round, is_known: false };
        let held = self.held.entry(key.clone()).or_insert(none);
        held.count += 1;
        held.sequence = sequence;
        held
    }

    pub(super) fn give_back(&mut self, key: &LeaseKey) {
        if let Some(held) = self.held.get_mut(key) {
            self.sequence += 1;
            held.count = held.count.saturating_sub(1);
            held.sequence = self.sequence;
            self.must_tell(key.clone());
        }
    }

    /// counts one more that was granted without asking
    pub(super) fn hold(&mut self, key: &LeaseKey) {
        self.count_one(key);
        self.must_tell(key.clone());
    }

    pub(super) fn held(&self, key: &LeaseKey) -> u32 {
        self.held.get(key).map_or(0, |held| held.count)
    }

    /// Redis may have lost everything
    pub(super) fn tell_all(&mut self) {
        for (key, held) in &mut self.held {
            held.is_known = false;
            self.untold.entry(key.clone()).or_insert(self.turn);
        }
    }

    /// puts the next part of what is held among the untold; every key has its turn within so many calls
    pub(super) fn tell_next(&mut self, part_min: usize, parts: usize) {
        let part = part_min.max(self.held.len() / parts.max(1));
        let (round, turn) = (self.round, self.turn);
        let mut told = 0;
        for (key, held) in self.held.iter_mut().filter(|(_, held)| held.round <= round).take(part) {
            held.round = round + 1;
            self.untold.entry(key.clone()).or_insert(turn);
            told += 1;
        }
        if told < part {
            self.round += 1;
        }
        self.turn += 1;
    }

    pub(super) fn next_tellings(&mut self, max: usize) -> Vec<Telling> {
        let is_quiet = |key: &LeaseKey| self.held.get(key).is_none_or(|held| held.asked == 0);
        let due = self.untold.iter().filter(|(key, since)| is_quiet(key) || **since + TURNS_MAX <= self.turn);
        let keys: Vec<_> = due.map(|(key, _)| key.clone()).take(max).collect();
        keys.into_iter().filter_map(|key| self.telling(key)).collect()
    }

    /// what is to be told of these keys; they stay untold until they were
    pub(super) fn tellings_of(&mut self, keys: &[LeaseKey]) -> Vec<Telling> {
        keys.iter().filter_map(|key| Some(self.held.get_mut(key)?.telling(key))).collect()
    }

    fn must_tell(&mut self, key: LeaseKey) {
        self.untold.entry(key).or_insert(self.turn);
    }

    fn telling(&mut self, key: LeaseKey) -> Option<Telling> {
        self.untold.remove(&key);
        self.sequence += 1;
        let held = self.held.get_mut(&key)?;
        held.sequence = self.sequence;
        Some(held.telling(&key))
    }

    pub(super) fn told(&mut self, telling: &Telling) {
        if let Some(held) = self.held.get_mut(&telling.key).filter(|held| held.sequence == telling.sequence) {
            held.is_known = telling.count > 0;
            self.untold.remove(&telling.key);
            self.forget_if_none(&telling.key);
        }
    }

    /// Redis may not have heard it
    pub(super) fn not_told(&mut self, telling: &Telling) {
        if self.held.contains_key(&telling.key) {
            self.must_tell(telling.key.clone());
        }
    }

    fn forget_if_none(&mut self, key: &LeaseKey) {
        if self.held.get(key).is_some_and(|held| held.count == 0) && !self.untold.contains_key(key) {
            self.held.remove(key);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.held.len() + self.untold.len()
    }
}

impl Held {
    /// who is told that none are held forgets the key before it answers
    fn telling(&mut self, key: &LeaseKey) -> Telling {
        self.is_known &= self.count > 0;
        Telling { key: key.clone(), count: self.count, sequence: self.sequence, is_known: self.is_known }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn alice() -> LeaseKey {
        LeaseKey::User("alice".into())
    }

    fn granted(table: &mut Table, key: &LeaseKey) {
        let asked = table.ask(key);
        table.granted(&asked);
    }

    #[test]
    fn what_is_given_back_is_told_and_then_forgotten() {
        let mut table = Table::default();
        granted(&mut table, &alice());
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

        let (first, second) = (table.ask(&alice()), table.ask(&alice()));
        assert_eq!(second.count, 2);
        table.refused(&first);
        table.granted(&second);
        assert_eq!(table.next_tellings(10)[0].count, 1);
    }

    #[test]
    fn a_refusal_does_not_swallow_what_was_to_be_told() {
        let mut table = Table::default();
        granted(&mut table, &alice());
        table.give_back(&alice());
        let asked = table.ask(&alice());
        table.refused(&asked);
        assert_eq!(table.next_tellings(10)[0].count, 0);
    }

    #[test]
    fn what_changed_while_it_was_told_is_told_again() {
        let mut table = Table::default();
        granted(&mut table, &alice());
        granted(&mut table, &alice());
        table.give_back(&alice());
        let first = table.tellings_of(&[alice()]).remove(0);
        table.give_back(&alice());
        table.told(&first);
        let second = table.next_tellings(10).remove(0);
        assert_eq!((first.count, second.count), (1, 0));
        table.told(&second);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn what_is_asked_for_is_not_told_unless_it_must() {
        let mut table = Table::default();
        granted(&mut table, &alice());
        let asked = table.ask(&alice());
        table.give_back(&alice());
        assert_eq!(table.next_tellings(10), []);
        table.tell_next(1, 1);
        assert_eq!(table.next_tellings(10), []);
        table.tell_next(1, 1);
        assert_eq!(table.next_tellings(10)[0].count, 1, "it waited long");
        table.unanswered(&asked);
        assert_eq!(table.next_tellings(10)[0].count, 0);
    }

    #[test]
    fn what_was_not_told_is_told_again() {
        let mut table = Table::default();
        granted(&mut table, &alice());
        table.give_back(&alice());
        let telling = table.next_tellings(10).remove(0);
        table.not_told(&telling);
        assert_eq!(table.next_tellings(10).len(), 1);
    }

    #[test]
    fn what_redis_acknowledged_is_known_until_it_is_told_of_none_or_may_have_lost_it() {
        let mut table = Table::default();
        let first = table.ask(&alice());
        assert!(!first.is_known);
        table.granted(&first);
        let second = table.ask(&alice());
        assert!(second.is_known);
        table.refused(&second);

        table.tell_all();
        let third = table.ask(&alice());
        assert!(!third.is_known, "it may be lost");
        table.refused(&third);
        let telling = table.next_tellings(10).remove(0);
        table.told(&telling);
        let fourth = table.ask(&alice());
        assert!(fourth.is_known, "it was told again");
        table.refused(&fourth);

        table.give_back(&alice());
        table.next_tellings(10);
        assert!(!table.ask(&alice()).is_known, "it is on its way to be told of none");
    }

    #[test]
    fn every_key_has_its_turn() {
        let mut table = Table::default();
        for n in 0..100 {
            granted(&mut table, &LeaseKey::User(n.to_string().into()));
        }
        let mut told = HashSet::new();
        for _ in 0..10 {
            table.tell_next(1, 10);
            told.extend(table.next_tellings(100).into_iter().map(|telling| telling.key));
        }
        assert_eq!(told.len(), 100);
    }
}
