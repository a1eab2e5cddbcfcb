//! The rules that are shipped, against stories in `fixtures/`: who does what when, and what is noticed.

use super::*;
use crate::policy::{Behaviour, BehaviourRules, Environment, Policy, Rules};
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;

const START: Timestamp = Timestamp::from_millis(1_764_000_000_000);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Story {
    /// of the shipped ones
    rule: String,
    deeds: Vec<Told>,
}

/// one deed, or so many like it: `{n}` counts them
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    at: f64,
    #[serde(default = "one")]
    times: u64,
    #[serde(default)]
    every: f64,
    name: String,
    user: Option<String>,
    session: Option<String>,
    ip: IpAddr,
    #[serde(default)]
    payload: Value,
    /// how many of them are one too many
    noticed: usize,
}

fn one() -> u64 {
    1
}

fn shipped() -> Vec<Behaviour> {
    serde_saphyr::from_str(include_str!("../../../deploy/behaviour.yaml")).unwrap()
}

fn compiled() -> BehaviourRules {
    let mut policy = Policy::default();
    policy.security.behaviour = shipped();
    Rules::compile(policy, Environment::Production).unwrap().behaviour
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn play(story: &Story, name: &str) {
    let rules = compiled();
    let all: Vec<_> =
        rules.events.iter().chain(&rules.records).filter(|rule| rule.name == story.rule).cloned().collect();
    assert_eq!(all.len(), 1, "{name}: {} is shipped", story.rule);
    let watch = Watch::default();
    for (index, told) in story.deeds.iter().enumerate() {
        let mut noticed = 0;
        for n in 0..told.times {
            let fill = |text: &str| text.replace("{n}", &n.to_string());
            let payload: Value = serde_json::from_str(&fill(&told.payload.to_string())).unwrap();
            let (user, session) = (told.user.as_deref().map(fill), told.session.as_deref().map(fill));
            let (address, now) = (AddressKey::of(told.ip), START.plus(seconds(told.at + told.every * n as f64)));
            let (user, session) = (user.as_deref(), session.as_deref());
            let deed = Deed { name: &told.name, user, session, address, times: 1 };
            let field = |pointer: &str| match pointer.strip_prefix('/') {
                Some(_) => payload.pointer(pointer).map(Value::to_string),
                None if pointer == "ip" => Some(address.to_string()),
                None => payload.get(pointer).map(Value::to_string),
            };
            noticed += watch.see(&all, &deed, field, now).len();
        }
        assert_eq!(noticed, told.noticed, "{name}: deed {index}, {}", told.name);
    }
}

#[test]
fn the_shipped_rules_notice_what_their_stories_say_and_only_that() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/behaviour/fixtures");
    let mut played = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let story: Story = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        play(&story, &path.display().to_string());
        played.insert(story.rule);
    }
    let names = shipped().into_iter().map(|rule| rule.name).collect();
    assert_eq!(played, names, "every shipped rule has a story");
    assert!(compiled().events.iter().chain(&compiled().records).all(|rule| rule.points == 0.0), "they only record");
}

fn deed(user: Option<&str>, ip: IpAddr) -> Deed<'_> {
    Deed { name: "e", user, session: None, address: AddressKey::of(ip), times: 1 }
}

fn rule(over: u32) -> Vec<BehaviourRule> {
    let one = serde_json::json!([{ "name": "x", "when": { "event": "*", "distinct": "/v", "over": over, "windowMs": 60_000 } }]);
    let mut policy = Policy::default();
    policy.security.behaviour = serde_json::from_value(one).unwrap();
    Rules::compile(policy, Environment::Production).unwrap().behaviour.events
}

#[test]
fn a_deed_that_tells_of_many_counts_as_many_where_uses_are_counted_and_once_where_values_are() {
    let by_value = rule(10);
    let mut by_use = by_value.clone();
    by_use[0].distinct = None;
    let noticed = |rules: &[BehaviourRule], times: &[u64]| {
        let watch = Watch::default();
        let see = |times: &u64| {
            let deed = Deed { times: *times, ..deed(Some("alice"), [192, 0, 2, 1].into()) };
            watch.see(rules, &deed, |_| Some("one value"), START).len()
        };
        let noticed: Vec<_> = times.iter().map(see).collect();
        let inner = watch.inner.lock();
        assert_eq!(inner.values, inner.traces.values().map(|trace| trace.values.len()).sum::<usize>());
        noticed
    };
    assert_eq!(noticed(&by_use, &[4, 6, 1]), [0, 0, 1]);
    assert_eq!(noticed(&by_use, &[u64::MAX, 10, 1]), [1, 0, 1]);
    assert_eq!(noticed(&by_value, &[u64::MAX, 1, 100]), [0, 0, 0]);
}

#[test]
fn who_has_no_session_is_not_counted_by_session() {
    let mut by_session = rule(1);
    (by_session[0].distinct, by_session[0].per) = (None, Whose::Session);
    let watch = Watch::default();
    let see = |session| {
        let deed = Deed { session, ..deed(Some("alice"), [192, 0, 2, 1].into()) };
        watch.see(&by_session, &deed, |_| None::<&str>, START).len()
    };
    let seen = [None, None, None, Some("a"), Some("b"), Some("a")].map(see);
    assert_eq!(seen, [0, 0, 0, 0, 0, 1]);
}

#[test]
fn what_is_kept_is_bounded_however_many_come() {
    let (watch, rules) = (Watch::with_capacity(1000), rule(10));
    for n in 0..100_000u32 {
        let deed = deed(None, IpAddr::from(n.to_be_bytes()));
        watch.see(&rules, &deed, |_| Some(n.to_be_bytes()), START.plus(Duration::from_millis(n.into())));
        assert!(watch.inner.lock().values <= 1000);
    }
    let inner = watch.inner.lock();
    assert_eq!(inner.values, inner.traces.values().map(|trace| trace.values.len()).sum::<usize>());
}

#[test]
fn what_a_look_costs_is_small_and_nothing_where_no_rule_watches() {
    let (watch, rules) = (Watch::default(), rule(100));
    let deed = deed(Some("alice"), [192, 0, 2, 1].into());
    let timed = |rules: &[BehaviourRule]| {
        let start = crate::clock::thread_time();
        for n in 0..10_000u32 {
            watch.see(rules, &deed, |_| Some((n % 100).to_be_bytes()), START.plus(Duration::from_millis(n.into())));
        }
        (crate::clock::thread_time() - start) / 10_000
    };
    println!("a deed that is watched costs {:?}, one that is not {:?}", timed(&rules), timed(&[]));
}
