//! The checks of a connection that its record suffices for, in the order of admission.

use picket_shared::address::{self, AddressKey};
use picket_shared::audit::AuditRecord;
use picket_shared::clock::Timestamp;
use picket_shared::policy::{Country, Origin, Rule, Rules};
use picket_shared::reason::Reason;
use picket_shared::window::{Quota, Window};
use serde_json::Value;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::settings::Touched;

/// connections that are told apart; those beyond count as new ones
const CONNECTIONS_MAX: usize = 500_000;
/// addresses whose rate is followed at once; of those beyond it is not known
const ADDRESSES_MAX: usize = 200_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Country,
    Origin,
    Rate,
    Anonymous,
}

impl Step {
    fn next(self) -> Option<Step> {
        match self {
            Step::Country => Some(Step::Origin),
            Step::Origin => Some(Step::Rate),
            Step::Rate => Some(Step::Anonymous),
            Step::Anonymous => None,
        }
    }

    pub(super) fn that_refuses_with(reason: Reason) -> Option<Step> {
        match reason {
            Reason::CountryNotAllowed => Some(Step::Country),
            Reason::OriginNotAllowed => Some(Step::Origin),
            Reason::ConnectionRate => Some(Step::Rate),
            Reason::LoginRequired => Some(Step::Anonymous),
            _ => None,
        }
    }

    /// whether who is refused with this reason had been counted against the rate of its address
    pub(super) fn are_before(reason: Reason) -> bool {
        use Reason::*;
        matches!(
            reason,
            TokenInvalid | TokenExpired | TokenRevoked | LoginRequired | TooManyConnections | AnonymousLimit
        )
    }

    fn rule(self) -> Rule {
        match self {
            Step::Country => Rule::Countries,
            Step::Origin => Rule::Origin,
            Step::Rate => Rule::ConnectionRate,
            Step::Anonymous => Rule::Identity,
        }
    }

    fn reason(self) -> Reason {
        match self {
            Step::Country => Reason::CountryNotAllowed,
            Step::Origin => Reason::OriginNotAllowed,
            Step::Rate => Reason::ConnectionRate,
            Step::Anonymous => Reason::LoginRequired,
        }
    }
}

/// what becomes of the connections that one record stands for
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// how many, by which rule
    pub(super) refused: Vec<(Rule, u64)>,
    /// rules of which the record does not say enough
    pub(super) unknown: Vec<Rule>,
}

/// what the connections so far leave behind
#[derive(Default)]
pub(super) struct Connections {
    hasher: RandomState,
    /// whether it was refused, by the hash of its id: one connection may have a record for each namespace
    seen: HashMap<u64, bool>,
    rates: HashMap<AddressKey, Window>,
    tidied: Timestamp,
    /// some record named one, so the nodes look them up
    pub(super) has_countries: bool,
}

impl Connections {
    /// all checks of a connection that came in, or was refused for a reason; `None` of one that was refused before
    pub(super) fn judge(
        &mut self,
        rules: &Rules,
        touched: &Touched,
        record: &AuditRecord,
        refused_for: Option<Reason>,
        is_anonymous: Option<bool>,
    ) -> Option<Judged> {
        let mut judged = Judged::default();
        if rules.enforcement.is_off() {
            return Some(judged);
        }
        let id = record.socket_id.as_ref().map(|id| self.hasher.hash_one(id));
        let known = id.and_then(|id| self.seen.get(&id).copied());
        if known == Some(true) {
            return None;
        }
        // What another namespace of an open connection asks is only who it is.
        let mut at = Some(if known.is_some() { Step::Anonymous } else { Step::Country });
        let mut left = record.weight();
        while let Some(step) = at.filter(|_| left > 0) {
            let refused = match step {
                Step::Rate => self.charge(rules, touched, record, refused_for, left),
                Step::Anonymous if is_anonymous != Some(true) => Some(0),
                _ => self.passes(step, rules, record).map(|passes| if passes { 0 } else { left }),
            };
            match refused {
                Some(0) => {}
                Some(refused) => {
                    judged.refused.push((step.rule(), refused));
                    left -= refused;
                }
                None => judged.unknown.push(step.rule()),
            }
            at = step.next();
        }
        if let Some(id) = id.filter(|_| self.seen.len() < CONNECTIONS_MAX) {
            self.seen.insert(id, left == 0);
        }
        Some(judged)
    }

    /// whether the record passes a check that needs no other record; `None` if it does not say enough
    fn passes(&self, step: Step, rules: &Rules, record: &AuditRecord) -> Option<bool> {
        if rules.enforcement.pardons(step.reason()) {
            return Some(true);
        }
        match step {
            Step::Country => {
                let (countries, allow_list) = (&rules.security.countries, &rules.security.allow_list);
                let country = record.metadata.get("country").and_then(Value::as_str).and_then(Country::parse);
                let is_let_in = address::contains_any(allow_list, record.ip) || countries.are_none();
                let is_known = self.has_countries || country.is_some();
                match is_let_in || countries.allow(country) {
                    true => Some(true),
                    false => is_known.then_some(false),
                }
            }
            Step::Origin => Some(match record.metadata.get("origin")? {
                Value::Null => rules.cors.allows(None),
                Value::String(text) => Origin::parse(text).is_some_and(|origin| rules.cors.allows(Some(&origin))),
                _ => false,
            }),
            Step::Rate => None,
            Step::Anonymous => Some(rules.security.allow_anonymous),
        }
    }

    /// counts connections against the rate of their address; how many are one too many, `None` if that is not known
    fn charge(
        &mut self,
        rules: &Rules,
        touched: &Touched,
        record: &AuditRecord,
        refused_for: Option<Reason>,
        count: u64,
    ) -> Option<u64> {
        if rules.enforcement.pardons(Reason::ConnectionRate) {
            return Some(0);
        }
        // Under the limit of then the node knew better than a replay: it counted what left no record, too.
        let is_settled = !touched.touches_rate();
        if is_settled && refused_for == Some(Reason::ConnectionRate) {
            return Some(count);
        }
        let had_passed = refused_for.is_none_or(Step::are_before);
        let refused = self.count(rules.limits.connections, record, count);
        if is_settled && had_passed { Some(0) } else { refused }
    }

    fn count(&mut self, quota: Quota, record: &AuditRecord, count: u64) -> Option<u64> {
        let now = record.timestamp;
        self.tidy(quota, now);
        let tiers: Vec<_> = AddressKey::tiers(record.ip).map(|(key, factor)| (key, quota.times(factor))).collect();
        let new = tiers.iter().filter(|(key, _)| !self.rates.contains_key(key)).count();
        if self.rates.len() + new > ADDRESSES_MAX {
            return None;
        }
        let mut room = count;
        for (key, quota) in &tiers {
            let used = self.rates.entry(*key).or_default().used(*quota, now);
            room = room.min(u64::from(quota.limit.get().saturating_sub(used)));
        }
        for (key, quota) in &tiers {
            let window = self.rates.entry(*key).or_default();
            for _ in 0..room {
                window.admit(*quota, now);
            }
        }
        Some(count - room)
    }

    /// forgets addresses that have been quiet for a window
    fn tidy(&mut self, quota: Quota, now: Timestamp) {
        if self.rates.len() * 2 > ADDRESSES_MAX && now.since(self.tidied) >= quota.window {
            self.tidied = now;
            self.rates.retain(|_, window| !window.is_idle(quota, now));
        }
    }

    /// a connection that failed at the application counts for nothing
    pub(super) fn give_back(&mut self, rules: &Rules, record: &AuditRecord) {
        let id = record.socket_id.as_ref().map(|id| self.hasher.hash_one(id));
        if super::evidence::stage(record) != Some("admission") || id.and_then(|id| self.seen.get(&id)) != Some(&false) {
            return;
        }
        for (key, factor) in AddressKey::tiers(record.ip) {
            if let Some(window) = self.rates.get_mut(&key) {
                window.used(rules.limits.connections.times(factor), record.timestamp);
                window.refund(record.timestamp);
            }
        }
    }
}
