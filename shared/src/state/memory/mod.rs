//! The embedded backend: the state of a single process, and the reference model for every other backend.

mod answers;
mod audit;
mod blocks;
mod counters;
mod leases;
mod nodes;
mod policies;
mod revocations;
mod trials;

/// all contracts over one process's memory
#[derive(Default)]
pub struct Memory {
    answers: answers::Known,
    audit: audit::Stream,
    blocks: blocks::List,
    counters: counters::Table,
    leases: leases::Table,
    nodes: nodes::Roster,
    policies: policies::Versions,
    revocations: revocations::List,
    trials: trials::Slot,
}

#[cfg(test)]
mod tests {
    crate::state::laws::suite!(crate::state::State::memory());
}
