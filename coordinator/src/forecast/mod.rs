//! What a proposed policy would have changed: a replay of it over the audit trail, record by record, oldest first. Pure.
//!
//! A connection that came in is judged from its own record: country, origin, rate of its address, whether it was anonymous. A refusal
//! is asked whether the rule behind it would refuse again. What was pardoned in shadow is evidence for its rule, as long as that
//! rule's settings stay. What the trail holds no evidence of is named ([`settings`]), and never guessed.

mod connections;
mod evidence;
mod settings;
mod tally;

pub(crate) use settings::NotJudged;
pub(crate) use tally::Verdicts;

use picket_shared::audit::{AuditRecord, EventType};
use picket_shared::policy::{ContentMode, Policy, Rule, Rules};
use picket_shared::reason::Reason;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

use connections::{Connections, Judged, Step};
use evidence::Deed;
use settings::Touched;
use tally::Tally;

/// a rule by the name that `shadow` knows it by, or the bound of messages, which no shadow lifts
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "ForecastRule")]
pub(crate) enum Name {
    Rule(Rule),
    Other(Other),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ForecastOtherRule")]
pub(crate) enum Other {
    /// `maxPayloadSize`
    PayloadSize,
}

impl Name {
    fn all() -> impl Iterator<Item = Name> {
        Rule::ALL.into_iter().map(Name::Rule).chain([Name::Other(Other::PayloadSize)])
    }

    /// which rule refuses with this reason
    fn behind(reason: Reason) -> Option<Name> {
        if reason == Reason::PayloadTooLarge {
            return Some(Name::Other(Other::PayloadSize));
        }
        Rule::ALL.into_iter().find(|rule| rule.reasons().contains(&reason)).map(Name::Rule)
    }
}

/// what would have been different, rule by rule
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ForecastOfRule")]
pub(crate) struct OfRule {
    pub(crate) rule: Name,
    /// whether the change touches it
    pub(crate) changed: bool,
    /// what passed and would have been refused; `null` where the trail cannot say
    pub(crate) refused: Option<Verdicts>,
    /// what was refused and would pass this rule and every other one of which the trail can say; `null` where it cannot say
    pub(crate) passing: Option<Verdicts>,
    /// how many cannot be judged, because their records lack the evidence
    pub(crate) unknown: u64,
}

#[derive(Debug)]
pub(crate) struct Forecast {
    pub(crate) rules: Vec<OfRule>,
    pub(crate) not_judged: Vec<NotJudged>,
    /// records that never reached the trail
    pub(crate) dropped: u64,
}

#[derive(Default)]
struct Counts {
    refused: Tally,
    passing: Tally,
    unknown: u64,
}

/// a proposed policy on its way through the trail
pub(crate) struct Replay {
    rules: Rules,
    current: Policy,
    touched: Touched,
    connections: Connections,
    counts: BTreeMap<Name, Counts>,
    dropped: u64,
}

impl Replay {
    pub(crate) fn new(current: Policy, rules: Rules) -> Self {
        Replay {
            touched: Touched::between(&current, &rules.document),
            connections: Connections::default(),
            counts: Name::all().map(|name| (name, Counts::default())).collect(),
            dropped: 0,
            rules,
            current,
        }
    }

    /// the next record, not older than those before
    pub(crate) fn see(&mut self, record: &AuditRecord) {
        if record.event_type == EventType::AuditDropped {
            self.dropped += record.metadata.get("dropped").and_then(Value::as_u64).unwrap_or(0);
        }
        self.connections.has_countries |= record.metadata.contains_key("country");
        match Deed::of(record) {
            Some(Deed::CameIn { is_anonymous }) => self.came_in(record, is_anonymous),
            Some(Deed::Refused(reason)) => self.refused(record, reason),
            Some(Deed::Pardoned(reason)) => self.pardoned(record, reason),
            Some(Deed::Noticed(Reason::ActiveContent)) => {
                let is_refused = self.rules.validation.content == ContentMode::Reject;
                if is_refused && !self.rules.enforcement.pardons(Reason::HostileContent) {
                    self.of(Name::Rule(Rule::Content)).refused.add(record, record.weight());
                }
            }
            Some(Deed::Noticed(_)) | None => {}
        }
    }

    pub(crate) fn end(self) -> Forecast {
        let mut not_judged = self.touched.not_judged(&self.current);
        if self.touched.has("security.countries") && !self.connections.has_countries {
            not_judged.push(settings::without_countries());
        }
        let lacks = |name: Name, which: fn(&NotJudged) -> bool| {
            not_judged.iter().any(|one| one.rule == Some(name) && which(one))
        };
        let told = |tally: Tally, is_lacking: bool| match tally.is_empty() && is_lacking {
            true => None,
            false => Some(tally.into_verdicts()),
        };
        let rules = self.counts.into_iter().map(|(rule, counts)| OfRule {
            changed: self.touched.touches(rule),
            refused: told(counts.refused, self.touched.touches(rule) && lacks(rule, |one| one.refused)),
            passing: told(counts.passing, self.touched.touches(rule) && lacks(rule, |one| one.passing)),
            unknown: counts.unknown,
            rule,
        });
        Forecast { rules: rules.collect(), not_judged, dropped: self.dropped }
    }

    fn of(&mut self, name: Name) -> &mut Counts {
        self.counts.entry(name).or_default()
    }

    fn came_in(&mut self, record: &AuditRecord, is_anonymous: bool) {
        let judged = self.connections.judge(&self.rules, &self.touched, record, None, Some(is_anonymous));
        let judged = judged.unwrap_or_default();
        for (rule, weight) in judged.refused {
            self.of(Name::Rule(rule)).refused.add(record, weight);
        }
        for rule in judged.unknown {
            self.of(Name::Rule(rule)).unknown += record.weight();
        }
    }

    fn refused(&mut self, record: &AuditRecord, reason: Reason) {
        if evidence::is_of_upstream(reason) {
            return self.connections.give_back(&self.rules, record);
        }
        let Some(name) = Name::behind(reason) else {
            return;
        };
        let (step, weight) = (Step::that_refuses_with(reason), record.weight());
        let is_of_session = matches!(evidence::stage(record), Some("inspection" | "session"));
        // Of an open session that the policy ended, nothing is known of how it came in.
        if step.is_some() && is_of_session {
            return;
        }
        let passes = match step {
            Some(_) => Some(true),
            None => evidence::passes(record, reason, &self.rules, &self.current, &self.touched),
        };
        // The checks of a connection are run again: what came before its refusal, and what it never came to.
        let reaches_them = !is_of_session && (passes == Some(true) || Step::are_before(reason));
        let judged = match reaches_them {
            true => {
                let who = evidence::is_anonymous(record, reason);
                self.connections.judge(&self.rules, &self.touched, record, Some(reason), who)
            }
            false => Some(Judged::default()),
        };
        let Some(judged) = judged else {
            return;
        };
        let is_unknown = judged.unknown.iter().any(|rule| Name::Rule(*rule) == name);
        let stopped = judged.refused.iter().map(|(_, stopped)| stopped).sum();
        match passes.filter(|_| !is_unknown) {
            Some(true) => self.of(name).passing.add(record, weight.saturating_sub(stopped)),
            Some(false) => {}
            None => self.of(name).unknown += weight,
        }
    }

    /// what passed because its rule was in shadow; a connection's own record tells more of the rules that are judged from it
    fn pardoned(&mut self, record: &AuditRecord, reason: Reason) {
        let Some(name) = Name::behind(reason).filter(|_| Step::that_refuses_with(reason).is_none()) else {
            return;
        };
        match evidence::passes(record, reason, &self.rules, &self.current, &self.touched) {
            Some(true) => {}
            Some(false) => self.of(name).refused.add(record, record.weight()),
            None => self.of(name).unknown += record.weight(),
        }
    }
}

#[cfg(test)]
mod tests;
