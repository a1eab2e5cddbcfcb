//! Which refusals are carried out: all, all but those of some rules, or none. What protects the gateway itself is no rule.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Enforce;
use crate::reason::Reason;

/// a rule that can be in shadow by itself: what it would refuse is recorded and passes
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Rule {
    /// the block list
    Blocks,
    /// `countries`
    Countries,
    /// `cors`
    Origin,
    /// `handshakeLimit`, `connectionLimit`
    ConnectionRate,
    /// tokens, and `allowAnonymous`: who is not proven is anonymous
    Identity,
    /// `concurrentConnections`, `maxAnonymousConnections`, `maxAnonymousPerAddress`
    Concurrency,
    /// `messageLimit`, `eventLimit`, `burstLimit`, `events`
    MessageRate,
    /// `maxMessageLength`, `maxDepth`
    Form,
    /// `allowedEventTypes`
    EventTypes,
    /// `requireAuthentication`, `eventRoles`
    Permission,
    /// `schemas`
    Schema,
    /// `content`, and hostile keys
    Content,
}

impl Rule {
    pub const ALL: [Rule; 12] = [
        Rule::Blocks,
        Rule::Countries,
        Rule::Origin,
        Rule::ConnectionRate,
        Rule::Identity,
        Rule::Concurrency,
        Rule::MessageRate,
        Rule::Form,
        Rule::EventTypes,
        Rule::Permission,
        Rule::Schema,
        Rule::Content,
    ];

    /// what it refuses with
    pub const fn reasons(self) -> &'static [Reason] {
        match self {
            Rule::Blocks => &[Reason::AddressBlocked],
            Rule::Countries => &[Reason::CountryNotAllowed],
            Rule::Origin => &[Reason::OriginNotAllowed],
            Rule::ConnectionRate => &[Reason::TooManyHandshakes, Reason::ConnectionRate],
            Rule::Identity => {
                &[Reason::TokenInvalid, Reason::TokenExpired, Reason::TokenRevoked, Reason::LoginRequired]
            }
            Rule::Concurrency => &[Reason::TooManyConnections, Reason::AnonymousLimit],
            Rule::MessageRate => &[Reason::EventRate, Reason::Burst, Reason::MessageRate],
            Rule::Form => &[Reason::TextTooLong, Reason::TooDeep],
            Rule::EventTypes => &[Reason::UnknownEvent],
            Rule::Permission => &[Reason::EventLoginRequired, Reason::RoleRequired],
            Rule::Schema => &[Reason::Schema],
            Rule::Content => &[Reason::HostileContent, Reason::ActiveContent],
        }
    }
}

/// what else passes where all rules are in shadow: a payload that cannot be parsed, and an outage's stance
const WITH_ALL_RULES: [Reason; 3] = [Reason::Malformed, Reason::StateUnavailable, Reason::KeysUnavailable];

/// a set of reasons in one word
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reasons(u64);

impl Reasons {
    pub fn contains(self, reason: Reason) -> bool {
        self.0 & bit(reason) != 0
    }

    /// says whether it is new
    pub fn insert(&mut self, reason: Reason) -> bool {
        let is_new = !self.contains(reason);
        self.0 |= bit(reason);
        is_new
    }
}

fn bit(reason: Reason) -> u64 {
    const { assert!(Reason::ALL.len() <= 64) };
    1 << (reason as u64)
}

/// what is done with refusals
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforcement {
    mode: Enforce,
    pardoned: Reasons,
}

impl Enforcement {
    pub fn of(mode: Enforce, in_shadow: &[Rule]) -> Self {
        let mut pardoned = Reasons::default();
        let rules = if mode == Enforce::On { in_shadow } else { &Rule::ALL };
        for reason in rules.iter().flat_map(|rule| rule.reasons()) {
            pardoned.insert(*reason);
        }
        for reason in WITH_ALL_RULES.into_iter().filter(|_| mode != Enforce::On) {
            pardoned.insert(reason);
        }
        Enforcement { mode, pardoned }
    }

    pub fn mode(&self) -> Enforce {
        self.mode
    }

    /// nothing is looked at but what is needed to forward
    pub fn is_off(&self) -> bool {
        self.mode == Enforce::Off
    }

    /// whether what is refused for this reason passes
    pub fn pardons(&self, reason: Reason) -> bool {
        self.pardoned.contains(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_in_shadow_pardons_its_own_reasons_and_nothing_pardons_what_protects_the_gateway() {
        let some = Enforcement::of(Enforce::On, &[Rule::Origin, Rule::Content]);
        let pardoned: Vec<_> = Reason::ALL.into_iter().filter(|reason| some.pardons(*reason)).collect();
        assert_eq!(pardoned, [Reason::OriginNotAllowed, Reason::HostileContent, Reason::ActiveContent]);
        let none = Enforcement::of(Enforce::On, &[]);
        assert!(!Reason::ALL.into_iter().any(|reason| none.pardons(reason)));
        for mode in [Enforce::Shadow, Enforce::Off] {
            let all = Enforcement::of(mode, &[]);
            let enforced: Vec<_> = Reason::ALL.into_iter().filter(|reason| !all.pardons(*reason)).collect();
            assert_eq!(
                enforced,
                [
                    Reason::InspectionTime,
                    Reason::PayloadTooLarge,
                    Reason::SuspiciousContent,
                    Reason::Behaviour,
                    Reason::TypeNotAllowed,
                    Reason::ProtocolError,
                    Reason::HeadTooLarge,
                    Reason::BadUtf8,
                    Reason::Slow,
                    Reason::Idle,
                    Reason::Flood,
                    Reason::Overload,
                    Reason::Draining,
                    Reason::UpstreamUnavailable,
                    Reason::UpstreamSlow,
                    Reason::UpstreamProtocol,
                    Reason::InternalError,
                ]
            );
        }
    }

    #[test]
    fn every_rule_is_listed_and_no_reason_is_of_two() {
        let mut seen = Reasons::default();
        for rule in Rule::ALL {
            assert!(rule.reasons().iter().all(|reason| seen.insert(*reason)), "{rule:?}");
        }
    }
}
