//! What attackers did and met, counted while they do it.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub struct Tally {
    /// connections or sockets that were opened
    pub opened: Count,
    pub sent: Count,
    pub echoed: Count,
    /// events that the target said it refused
    pub refused: Count,
    /// connections that the target ended
    pub closed: Count,
    /// handshakes that were refused
    pub turned_away: Count,
    /// connections that failed below HTTP
    pub failed: Count,
}

#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tally {
    pub fn line(&self) -> String {
        format!(
            "opened {}, sent {}, echoed {}, refused {}, closed {}, turned away {}",
            self.opened.get(),
            self.sent.get(),
            self.echoed.get(),
            self.refused.get(),
            self.closed.get(),
            self.turned_away.get()
        )
    }
}
