//! A processor that is as busy before the attack as during it: what a machine whose cores have something to do costs everybody,
//! attackers on that machine or not, is then in both halves of the ratio.

use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, available_parallelism};

use crate::cli::take_what_is_left;

/// one thread for each core that only spins, by `SCHED_IDLE`; all end when this is dropped
pub struct Busy(Arc<AtomicBool>);

impl Busy {
    pub fn begin() -> Result<Self> {
        let busy = Busy(Arc::new(AtomicBool::new(true)));
        for _ in 0..available_parallelism()?.get() {
            let goes_on = busy.0.clone();
            Builder::new().name("busy".to_owned()).spawn(move || {
                take_what_is_left();
                while goes_on.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })?;
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
