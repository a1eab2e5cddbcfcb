//! The policy: the security rules as people write them ([`Policy`]), and the form the pipelines read ([`Rules`]).

mod behaviour;
mod countries;
mod document;
mod enforcement;
mod glob;
mod notification;
mod origin;
mod rules;
mod stored;
mod validate;

pub use behaviour::{Behaviour, BehaviourRule, BehaviourRules, Then, When, Whose};
pub use countries::{Countries, Country, CountryRules, Unknown};
pub use document::*;
pub use enforcement::{Enforcement, Reasons, Rule};
pub use glob::Glob;
pub use notification::{Notification, NotificationKind};
pub use origin::{Origin, OriginPattern};
pub use rules::{CorsRules, EventLimit, Limits, Rules, SecurityRules, ValidationRules};
pub use stored::{serialize_stored, stored, unmask};
pub use validate::read;

use schemars::JsonSchema;
use serde::Serialize;

/// one thing that is wrong in a document, and where
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Mistake {
    /// dotted path of the field, as in `policy.cors.allowedOrigins[0]`
    pub path: String,
    /// what is wrong and how to mend it
    pub message: String,
}

impl Mistake {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Mistake { path: path.into(), message: message.into() }
    }
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}
