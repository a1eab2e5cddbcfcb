//! What a check answers when it does not let in: a decision, or an outage of what it needed to decide.

use picket_shared::appeal::AppealCode;
use picket_shared::reason::Reason;
use picket_shared::state::StateError;
use picket_shared::token::Principal;
use picket_shared::window::Quota;
use serde_json::{Map, Value};
use std::time::Duration;

/// a decision against a connection or an event; not an error
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub reason: Reason,
    pub retry_after: Option<Duration>,
    /// the exact rule, for the operator; never shown to the client
    pub detail: Option<Box<str>>,
    /// what the verdict was made of, for the audit record
    pub facts: Option<Box<Map<String, Value>>>,
    /// who it is, where that was proven and whoever records it need not know
    pub principal: Option<Box<Principal>>,
    /// by which the client can name the record of it
    pub appeal: Option<AppealCode>,
}

impl Denial {
    pub fn retry_after(self, wait: Duration) -> Self {
        Denial { retry_after: Some(wait), ..self }
    }

    pub fn because(self, detail: impl Into<String>) -> Self {
        Denial { detail: Some(detail.into().into()), ..self }
    }

    pub fn with(mut self, fact: &'static str, value: impl Into<Value>) -> Self {
        self.facts.get_or_insert_default().insert(fact.to_owned(), value.into());
        self
    }

    /// against somebody whose name was proven
    pub fn of(self, principal: &Principal) -> Self {
        Denial { principal: principal.user().map(|_| principal.clone().into()), ..self }
    }

    /// the limit that had no room, by the name of its setting
    pub fn of_limit(self, setting: impl Into<Value>, quota: Quota) -> Self {
        let window_ms = u64::try_from(quota.window.as_millis()).unwrap_or(u64::MAX);
        self.with("setting", setting).with("limit", quota.limit.get()).with("windowMs", window_ms)
    }

    pub fn retry_after_ms(&self) -> Option<u64> {
        self.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<Reason> for Denial {
    fn from(reason: Reason) -> Self {
        Denial { reason, retry_after: None, detail: None, facts: None, principal: None, appeal: None }
    }
}

/// what a check returns instead of letting in
#[derive(Clone, Debug)]
pub enum Refusal {
    Denied(Denial),
    Outage(StateError),
}

/// without the state there is no verdict, and nobody comes in
impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(denial) => denial,
            Refusal::Outage(error) => Denial::from(Reason::StateUnavailable).because(error.to_string()),
        }
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Refusal::Denied(denial)
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Refusal::Denied(reason.into())
    }
}

impl From<StateError> for Refusal {
    fn from(error: StateError) -> Self {
        Refusal::Outage(error)
    }
}
