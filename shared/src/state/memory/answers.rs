//! Answers to changes, by the change.

use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;

use super::Memory;
use crate::clock::Timestamp;
use crate::state::answers::{ANSWER_LIFE, ANSWERS_MAX, CHANGE_LIFE};
use crate::state::{Answers, Begun, Change, StateError};

#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<String, Entry>>);

struct Entry {
    change: Change,
    ends: Timestamp,
    /// `None` while the change is under way
    answer: Option<String>,
}

#[async_trait]
impl Answers for Memory {
    async fn begin(&self, change: &Change, now: Timestamp) -> Result<Begun, StateError> {
        let mut known = self.answers.0.lock();
        known.retain(|_, entry| now < entry.ends);
        match known.get(&change.id) {
            Some(entry) if entry.change.fingerprint != change.fingerprint => return Ok(Begun::Another),
            Some(Entry { answer: Some(answer), .. }) => return Ok(Begun::Again(answer.clone())),
            Some(_) => return Ok(Begun::UnderWay),
            None => {}
        }
        if known.len() >= ANSWERS_MAX {
            let answered = known.iter().filter(|(_, entry)| entry.answer.is_some());
            let oldest = answered.min_by_key(|(id, entry)| (entry.ends, *id)).map(|(id, _)| id.clone());
            let Some(oldest) = oldest else { return Ok(Begun::Full) };
            known.remove(&oldest);
        }
        known.insert(change.id.clone(), Entry { change: change.clone(), ends: now.plus(CHANGE_LIFE), answer: None });
        Ok(Begun::First)
    }

    async fn answer(&self, change: &Change, answer: String, now: Timestamp) -> Result<(), StateError> {
        let mut known = self.answers.0.lock();
        if let Some(entry) = known.get_mut(&change.id).filter(|entry| entry.is_under_way(change)) {
            (entry.answer, entry.ends) = (Some(answer), now.plus(ANSWER_LIFE));
        }
        Ok(())
    }

    async fn forget(&self, change: &Change) -> Result<(), StateError> {
        let mut known = self.answers.0.lock();
        if known.get(&change.id).is_some_and(|entry| entry.is_under_way(change)) {
            known.remove(&change.id);
        }
        Ok(())
    }
}

impl Entry {
    fn is_under_way(&self, change: &Change) -> bool {
        self.answer.is_none() && self.change == *change
    }
}
