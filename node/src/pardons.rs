//! Refusals that are not carried out, because their rule is in shadow: the pipeline goes on as if the check had let in.
//!
//! A pipeline asks here about every verdict; whoever runs it brings what was pardoned to `decide`.

use picket_shared::policy::{Enforcement, Reasons};
use picket_shared::reason::Reason;

use crate::gate::Gate;
use crate::refusal::{Denial, Refusal};

/// what one run of a pipeline pardoned
#[derive(Debug)]
pub struct Pardons {
    enforcement: Enforcement,
    seen: Reasons,
    pub granted: Vec<Denial>,
}

/// records of one connection's events in shadow, besides the first for each reason; the others are counted only
const NOTES_MAX: u32 = 100;

/// what the trail was told of one connection's events in shadow
#[derive(Debug)]
pub struct Notes {
    told: Reasons,
    left: u32,
}

impl Default for Notes {
    fn default() -> Self {
        Notes { told: Reasons::default(), left: NOTES_MAX }
    }
}

impl Notes {
    /// whether one more is recorded
    pub fn take(&mut self, reason: Reason) -> bool {
        if self.told.insert(reason) {
            return true;
        }
        let has_room = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_room
    }
}

impl Pardons {
    /// by the policy in force
    pub fn by(gate: &Gate) -> Self {
        Pardons::except(gate, Reasons::default())
    }

    /// by the policy in force, without a word of what was told before
    pub fn except(gate: &Gate, told: Reasons) -> Self {
        // A list without entries is no allocation.
        Pardons { enforcement: gate.policy.enforcement(), seen: told, granted: Vec::new() }
    }

    /// what the check found; `None` if it refuses and that is pardoned
    pub fn ask<T, R: Into<Refusal>>(&mut self, verdict: Result<T, R>) -> Result<Option<T>, Denial> {
        match verdict {
            Ok(found) => Ok(Some(found)),
            Err(refusal) => self.grant(refusal.into().into()).map(|()| None),
        }
    }

    /// whether what a rule would change, rather than refuse, is left as it is
    pub fn leaves_alone(&mut self, reason: Reason, detail: &str) -> bool {
        self.grant(Denial::from(reason).because(detail)).is_ok()
    }

    /// the reasons that were told, here and before
    pub fn told(&self) -> Reasons {
        self.seen
    }

    fn grant(&mut self, denial: Denial) -> Result<(), Denial> {
        if !self.enforcement.pardons(denial.reason) {
            return Err(denial);
        }
        if self.seen.insert(denial.reason) && !self.enforcement.is_off() {
            self.granted.push(denial);
        }
        Ok(())
    }
}
