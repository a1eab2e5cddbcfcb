//! Promise and truth of the limits, while in service: what this node learnt was let through beyond a limit, and what it let
//! through alone. Both stay at zero as long as the state answers and keeps what it acknowledged.
//!
//! Seen at no cost of its own: a report tells the state the real uses, the state knows how many of them it had charged, and when more
//! came than were charged, it answers how many are beyond the limit. So it never exaggerates, and may fall short: not seen are uses
//! whose report was lost, or that a state forgot which came back empty, what other nodes' shares that are out at that moment will
//! turn out to hold, and what the stance `open` let through.

use std::sync::atomic::{AtomicU64, Ordering};

use super::LimitName;

/// of one kind of limit: uses beyond it, and the most that one report found
#[derive(Debug, Default)]
struct Kind {
    over: AtomicU64,
    most: AtomicU64,
    alone: AtomicU64,
}

impl Kind {
    fn found(&self, excess: u32) {
        self.over.fetch_add(excess.into(), Ordering::Relaxed);
        self.most.fetch_max(excess.into(), Ordering::Relaxed);
    }
}

/// the same, at one moment
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overshot {
    /// uses beyond the limit, in all
    pub over: u64,
    /// the most that one report found
    pub most: u64,
}

/// what a node learnt, by the kind of limit
#[derive(Debug, Default)]
pub struct Overshoot {
    connections: Kind,
    messages: Kind,
    events: Kind,
    places_alone: AtomicU64,
}

impl Overshoot {
    /// by the kind of limit, as a label of metrics
    pub fn overshot(&self) -> [(&'static str, Overshot); 3] {
        self.kinds().map(|(name, kind)| {
            let (over, most) = (kind.over.load(Ordering::Relaxed), kind.most.load(Ordering::Relaxed));
            (name, Overshot { over, most })
        })
    }

    /// uses that this node let through by itself, and places of caps that it gave away, without the state
    pub fn alone(&self) -> [(&'static str, u64); 4] {
        let [connections, messages, events] =
            self.kinds().map(|(name, kind)| (name, kind.alone.load(Ordering::Relaxed)));
        [connections, messages, events, ("places", self.places_alone.load(Ordering::Relaxed))]
    }

    pub(super) fn found(&self, limit: &LimitName, excess: u32) {
        if excess > 0 {
            self.kind(limit).found(excess);
        }
    }

    pub(super) fn let_through_alone(&self, limit: &LimitName) {
        self.kind(limit).alone.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn held_alone(&self) {
        self.places_alone.fetch_add(1, Ordering::Relaxed);
    }

    fn kinds(&self) -> [(&'static str, &Kind); 3] {
        [("connections", &self.connections), ("messages", &self.messages), ("events", &self.events)]
    }

    fn kind(&self, limit: &LimitName) -> &Kind {
        match limit {
            LimitName::Connections => &self.connections,
            LimitName::Messages => &self.messages,
            LimitName::Event(_) => &self.events,
        }
    }
}
