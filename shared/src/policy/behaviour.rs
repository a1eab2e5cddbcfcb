//! Rules over what somebody does on all sockets, as people write them, and the form that is watched by.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

use super::{Glob, Mistake};
use crate::audit::EventType;
use crate::reason::Reason;

/// rules of one policy
const RULES_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 64;
/// what `when.distinct` of records may name
const RECORD_FIELDS: [&str; 6] = ["ip", "userId", "session", "country", "route", "node"];

/// one rule of `security.behaviour`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Behaviour {
    /// stands in the records
    pub name: String,
    pub when: When,
    #[serde(default)]
    pub then: Then,
}

/// what is watched: events, by a node, or records of the audit trail, by the coordinator
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct When {
    /// events that passed, by name, with `*` globs
    #[serde(default)]
    pub event: Option<String>,
    /// audit records, by reason (`token_invalid`) or kind (`AUTHENTICATION_SUCCESS`)
    #[serde(default)]
    pub record: Option<String>,
    /// counts different values instead of uses: of an event, of what a JSON pointer into its payload names; of a record: ip (of IPv6 the
    /// /64), userId, session, country, route or node
    #[serde(default)]
    pub distinct: Option<String>,
    /// of an event: counts those alone that have the same value there
    #[serde(default)]
    pub same: Option<String>,
    /// how many are still allowed
    #[schemars(range(min = 1, max = 1000))]
    pub over: u32,
    #[serde(default)]
    pub per: Whose,
    #[schemars(range(min = 1000, max = 86_400_000))]
    pub window_ms: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// the address where there is no user
    #[default]
    User,
    Address,
    /// what came in with one token; who has none is not counted
    Session,
}

/// what follows; it is on the record in any case
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    #[default]
    Record,
    /// as many points as `suspiciousActivityThreshold`
    Block,
    /// to the score of the address
    Points(f64),
}

/// a rule as it is watched by
#[derive(Clone, Debug)]
pub struct BehaviourRule {
    pub name: String,
    names: Glob,
    pub distinct: Option<String>,
    pub same: Option<String>,
    pub over: u32,
    pub per: Whose,
    pub window: Duration,
    pub points: f64,
}

impl BehaviourRule {
    pub fn watches(&self, name: &str) -> bool {
        self.names.matches(name)
    }
}

/// the rules, by who watches
#[derive(Debug, Default)]
pub struct BehaviourRules {
    pub events: Vec<BehaviourRule>,
    pub records: Vec<BehaviourRule>,
}

impl BehaviourRules {
    pub(super) fn compile(rules: &[Behaviour], threshold: u32, mistakes: &mut Vec<Mistake>) -> Self {
        const PATH: &str = "security.behaviour";
        if rules.len() > RULES_MAX {
            mistakes.push(Mistake::new(PATH, format!("at most {RULES_MAX} rules are watched")));
        }
        let (mut compiled, mut names) = (BehaviourRules::default(), BTreeSet::new());
        for (index, rule) in rules.iter().enumerate() {
            let mut wrong = |field: &str, message: String| {
                mistakes.push(Mistake::new(format!("{PATH}[{index}].{field}"), message));
            };
            if rule.name.is_empty() || rule.name.len() > NAME_BYTES_MAX || !names.insert(&rule.name) {
                wrong("name", format!("must be a name of its own, of at most {NAME_BYTES_MAX} bytes"));
            }
            if let Then::Points(points) = rule.then
                && !(0.0..=1000.0).contains(&points)
            {
                wrong("then.points", format!("points are a number from 0 to 1000, not {points}"));
            }
            let When { event, record, distinct, same, over, per, window_ms } = &rule.when;
            let one = |names: &str| BehaviourRule {
                name: rule.name.clone(),
                names: Glob::new(names),
                distinct: distinct.clone(),
                same: same.clone(),
                over: *over,
                per: *per,
                window: Duration::from_millis(*window_ms),
                points: match rule.then {
                    Then::Record => 0.0,
                    Then::Block => f64::from(threshold),
                    Then::Points(points) => points,
                },
            };
            match (event, record) {
                (Some(event), None) => {
                    for (field, pointer) in [("distinct", distinct), ("same", same)] {
                        if pointer.as_ref().is_some_and(|pointer| !pointer.starts_with('/')) {
                            wrong(
                                &format!("when.{field}"),
                                "must be a JSON pointer into the payload, such as /room".into(),
                            );
                        }
                    }
                    compiled.events.push(one(event));
                }
                (None, Some(record)) => {
                    if Reason::from_token(record).is_none() && EventType::parse(record).is_none() {
                        wrong("when.record", format!("`{record}` is neither a reason nor a kind of record"));
                    }
                    if distinct.as_ref().is_some_and(|field| !RECORD_FIELDS.contains(&field.as_str())) {
                        wrong("when.distinct", format!("of records, it is one of {}", RECORD_FIELDS.join(", ")));
                    }
                    if same.is_some() {
                        wrong("when.same", "is for events".to_owned());
                    }
                    compiled.records.push(one(record));
                }
                _ => wrong("when", "needs either `event` or `record`".to_owned()),
            }
        }
        compiled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_could_not_be_watched_is_a_mistake() {
        let rules: Vec<Behaviour> = serde_json::from_value(json!([
            { "name": "a", "when": { "event": "join:*", "distinct": "room", "over": 5, "windowMs": 1000 } },
            { "name": "a", "when": { "record": "join", "distinct": "room", "same": "/x", "over": 5, "windowMs": 1000 } },
            { "name": "c", "when": { "over": 5, "windowMs": 1000 }, "then": { "points": -1.0 } },
            { "name": "d", "when": { "record": "token_invalid", "distinct": "ip", "over": 5, "windowMs": 1000 }, "then": "block" },
        ]))
        .unwrap();
        let mut mistakes = Vec::new();
        let compiled = BehaviourRules::compile(&rules, 5, &mut mistakes);
        let paths: Vec<_> =
            mistakes.iter().map(|mistake| mistake.path.strip_prefix("security.behaviour").unwrap()).collect();
        assert_eq!(
            paths,
            [
                "[0].when.distinct",
                "[1].name",
                "[1].when.record",
                "[1].when.distinct",
                "[1].when.same",
                "[2].then.points",
                "[2].when"
            ]
        );
        assert_eq!(compiled.records.last().unwrap().points, 5.0, "as many as the threshold");
    }
}
