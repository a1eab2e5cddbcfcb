//! The one trial that may be under way.

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::Memory;
use crate::clock::Timestamp;
use crate::state::{StateError, Trial, Trials};

pub(super) struct Slot {
    trial: Mutex<Option<Trial>>,
    hint: watch::Sender<u64>,
}

impl Default for Slot {
    fn default() -> Self {
        Slot { trial: Mutex::default(), hint: watch::Sender::new(0) }
    }
}

#[async_trait]
impl Trials for Memory {
    async fn begin(&self, trial: Trial, now: Timestamp) -> Result<bool, StateError> {
        let mut slot = self.trials.trial.lock();
        if slot.as_ref().is_some_and(|known| now < known.until) {
            return Ok(false);
        }
        *slot = Some(trial);
        self.trials.hint.send_modify(|count| *count += 1);
        Ok(true)
    }

    async fn under_way(&self, now: Timestamp) -> Result<Option<Trial>, StateError> {
        Ok(self.trials.trial.lock().clone().filter(|trial| now < trial.until))
    }

    async fn end(&self, id: &str) -> Result<(), StateError> {
        self.trials.trial.lock().take_if(|trial| trial.id == id);
        self.trials.hint.send_modify(|count| *count += 1);
        Ok(())
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.trials.hint.subscribe()
    }
}
