//! What an exact sliding log would have let through of the same messages, sent at the same moments.

use std::collections::VecDeque;

use super::ledger::{Charge, Subject};
use crate::history::record::Moment;

/// one message after the other; whether each is let through
pub struct Logs<'a> {
    subjects: &'a [Subject],
    admitted: Vec<VecDeque<Moment>>,
}

impl<'a> Logs<'a> {
    pub fn new(subjects: &'a [Subject]) -> Self {
        Logs { subjects, admitted: vec![VecDeque::new(); subjects.len()] }
    }

    /// `now` does not go back
    pub fn admit(&mut self, charges: &[Charge], now: Moment) -> bool {
        let has_room = charges.iter().all(|charge| {
            let window = self.subjects[charge.subject].window;
            let log = &mut self.admitted[charge.subject];
            while log.front().is_some_and(|then| then + window <= now) {
                log.pop_front();
            }
            log.len() < charge.limit as usize
        });
        if has_room {
            charges.iter().for_each(|charge| self.admitted[charge.subject].push_back(now));
        }
        has_room
    }
}
