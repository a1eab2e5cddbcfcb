//! Answers to changes: a hash, and the ends of its entries, those under way apart from those that were answered, in one slot.

use async_trait::async_trait;
use fred::types::Value;

use super::link::Lane;
use super::reply::{Reply, unexpected};
use super::scripts::Script;
use super::{Redis, millis, number};
use crate::clock::Timestamp;
use crate::state::answers::{ANSWER_LIFE, ANSWERS_MAX, CHANGE_LIFE};
use crate::state::{Answers, Begun, Change, StateError};

#[async_trait]
impl Answers for Redis {
    async fn begin(&self, change: &Change, now: Timestamp) -> Result<Begun, StateError> {
        let arguments = vec![
            self.now(now),
            change.id.as_str().into(),
            change.fingerprint.as_str().into(),
            change.claim.as_str().into(),
            millis(CHANGE_LIFE),
            millis(ANSWER_LIFE),
            number(ANSWERS_MAX as u64),
        ];
        let mut reply = Reply::from(self.call_answers(&self.scripts.answer_begin, arguments).await?);
        match reply.text()?.as_str() {
            "first" => Ok(Begun::First),
            "again" => Ok(Begun::Again(reply.text()?)),
            "under way" => Ok(Begun::UnderWay),
            "another" => Ok(Begun::Another),
            "full" => Ok(Begun::Full),
            _ => Err(unexpected()),
        }
    }

    async fn answer(&self, change: &Change, answer: String, now: Timestamp) -> Result<(), StateError> {
        let arguments =
            vec![self.now(now), change.id.as_str().into(), change.head().into(), answer.into(), millis(ANSWER_LIFE)];
        self.call_answers(&self.scripts.answer_put, arguments).await?;
        Ok(())
    }

    async fn forget(&self, change: &Change) -> Result<(), StateError> {
        let arguments = vec![change.id.as_str().into(), change.head().into()];
        self.call_answers(&self.scripts.answer_forget, arguments).await?;
        Ok(())
    }
}

impl Redis {
    async fn call_answers(&self, script: &Script, arguments: Vec<Value>) -> Result<Value, StateError> {
        self.link.call(Lane::Upkeep, script, self.keys.answers().into(), arguments).await
    }
}
