//! Which settings a change touches, and which of them the trail holds no evidence of.

use picket_shared::policy::{ContentMode, Enforcement, Policy, Rule};
use picket_shared::reason::Reason;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{Name, Other};

const EVENTS: Option<&str> = Some(
    "events that pass leave no record; put the rule in `shadow` with the new setting, and its audit records say whom it would refuse",
);
const REFUSED: Option<&str> =
    Some("the records of refused events do not say enough of them; try the change with `canary`");
const OPEN: Option<&str> = Some(
    "the audit trail does not say how long connections stayed open; put `concurrency` in `shadow` with the new setting",
);
const HANDSHAKES: Option<&str> =
    Some("handshakes that became no connection leave no record; put `connectionRate` in `shadow` with the new setting");
const SCORES: Option<&str> =
    Some("the scores of the past are not computed again; put `blocks` in `shadow` with the new setting");
const CLOSED: Option<&str> =
    Some("what clients would have sent on connections that were closed, or were left open, is not known");

/// a setting that refuses; why the trail cannot say what it would refuse, and what it would let pass
struct Setting {
    path: &'static str,
    rule: Option<Name>,
    refused: Option<&'static str>,
    passing: Option<&'static str>,
}

#[rustfmt::skip] // a table is read by its columns
fn settings() -> Vec<Setting> {
    use Rule::*;
    let row = |path, rule: Rule, refused, passing| Setting { path, rule: Some(Name::Rule(rule)), refused, passing };
    vec![
        row("security.allowList", Blocks, Some("whom the list spared a block is not in the trail; `GET /blocks` lists the blocks in force"), None),
        row("security.suspiciousActivityThreshold", Blocks, SCORES, SCORES),
        row("security.blockSuspiciousIps", Blocks, SCORES, SCORES),
        row("security.autoBlock", Blocks, SCORES, SCORES),
        row("security.reputation", Blocks, SCORES, SCORES),
        row("security.behaviour", Blocks, SCORES, SCORES),
        row("security.countries", Countries, None, None),
        row("cors.allowedOrigins", Origin, None, None),
        row("cors.allowAnyOrigin", Origin, None, None),
        row("cors.allowMissingOrigin", Origin, None, None),
        row("rateLimiting.handshakeLimit", ConnectionRate, HANDSHAKES, HANDSHAKES),
        row("rateLimiting.connectionLimit", ConnectionRate, None, None),
        row("security.allowAnonymous", Identity, None, None),
        row("rateLimiting.concurrentConnections", Concurrency, OPEN, OPEN),
        row("security.maxAnonymousConnections", Concurrency, OPEN, OPEN),
        row("security.maxAnonymousPerAddress", Concurrency, OPEN, OPEN),
        row("rateLimiting.messageLimit", MessageRate, EVENTS, REFUSED),
        row("rateLimiting.eventLimit", MessageRate, EVENTS, REFUSED),
        row("rateLimiting.burstLimit", MessageRate, EVENTS, REFUSED),
        row("rateLimiting.events", MessageRate, EVENTS, REFUSED),
        row("rateLimiting.roles", MessageRate, EVENTS, REFUSED),
        Setting { path: "validation.maxPayloadSize", rule: Some(Name::Other(Other::PayloadSize)), refused: Some("events that pass leave no record; try the change with `canary`"), passing: None },
        row("validation.maxMessageLength", Form, EVENTS, REFUSED),
        row("validation.maxDepth", Form, EVENTS, REFUSED),
        row("validation.allowedEventTypes", EventTypes, EVENTS, None),
        row("validation.requireAuthentication", Permission, EVENTS, None),
        row("validation.eventRoles", Permission, EVENTS, None),
        row("validation.schemas", Schema, EVENTS, None),
        row("validation.content", Content, None, None),
        Setting { path: "security.violationsBeforeClose", rule: None, refused: CLOSED, passing: CLOSED },
    ]
}

/// a setting that the change touches, and of which the trail cannot say, in one direction or both, what it would do
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct NotJudged {
    pub(crate) setting: &'static str,
    /// by which `shadow` knows it; `null` where there is none
    pub(crate) rule: Option<Name>,
    /// whether it is not known what would be refused
    pub(crate) refused: bool,
    /// whether it is not known what would pass
    pub(crate) passing: bool,
    /// and how to find out, where there is a way
    pub(crate) why: &'static str,
}

pub(super) fn without_countries() -> NotJudged {
    let why = "no record names a country: the nodes have no `node.geoip`";
    let rule = Some(Name::Rule(Rule::Countries));
    NotJudged { setting: "security.countries", rule, refused: true, passing: true, why }
}

/// what differs between two policies
pub(super) struct Touched {
    paths: Vec<&'static str>,
    /// rules that are in shadow in one of them only
    shadows: Vec<Rule>,
    rules: Vec<Name>,
}

impl Touched {
    pub(super) fn between(before: &Policy, after: &Policy) -> Self {
        let json = |policy: &Policy| serde_json::to_value(policy).unwrap_or_default();
        let (old, new) = (json(before), json(after));
        let differs = |path: &str| {
            let pointer = format!("/{}", path.replace('.', "/"));
            old.pointer(&pointer).unwrap_or(&Value::Null) != new.pointer(&pointer).unwrap_or(&Value::Null)
        };
        let changed: Vec<_> = settings().into_iter().filter(|setting| differs(setting.path)).collect();
        let enforced = |policy: &Policy| Enforcement::of(policy.enforce, &policy.shadow);
        let (was, is) = (enforced(before), enforced(after));
        let switches = |rule: &Rule| rule.reasons().iter().any(|reason| was.pardons(*reason) != is.pardons(*reason));
        let shadows: Vec<_> = Rule::ALL.into_iter().filter(switches).collect();
        // Who is on the list comes in from every country.
        let exempts = differs("security.allowList").then_some(Name::Rule(Rule::Countries));
        let rules = changed.iter().filter_map(|setting| setting.rule).chain(exempts);
        let rules = rules.chain(shadows.iter().copied().map(Name::Rule)).collect();
        Touched { paths: changed.iter().map(|setting| setting.path).collect(), shadows, rules }
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.paths.contains(&path)
    }

    /// whether the setting, or what it is a part of, is another one
    pub(super) fn is_within(&self, setting: &str) -> bool {
        let holds =
            |path: &&&str| setting.strip_prefix(**path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        // A role's factor multiplies these.
        let is_scaled = ["rateLimiting.messageLimit", "rateLimiting.events"].iter().any(|one| setting.starts_with(one));
        let by_role = is_scaled && self.has("rateLimiting.roles");
        by_role || self.paths.iter().any(|path| holds(&path))
    }

    pub(super) fn touches(&self, rule: Name) -> bool {
        self.rules.contains(&rule)
    }

    pub(super) fn touches_rate(&self) -> bool {
        self.has("rateLimiting.connectionLimit") || self.shadows.contains(&Rule::ConnectionRate)
    }

    /// what the trail says nothing of, whatever it holds
    pub(super) fn not_judged(&self, before: &Policy) -> Vec<NotJudged> {
        let mut all = Vec::new();
        for Setting { path, rule, refused, passing } in settings().into_iter().filter(|one| self.has(one.path)) {
            let reasons: &[_] = match (refused, passing) {
                (Some(why), Some(other)) if why == other => &[(why, true, true)],
                (Some(why), Some(other)) => &[(why, true, false), (other, false, true)],
                (Some(why), None) => &[(why, true, false)],
                (None, Some(why)) => &[(why, false, true)],
                (None, None) => &[],
            };
            let one = |&(why, refused, passing)| NotJudged { setting: path, rule, refused, passing, why };
            all.extend(reasons.iter().map(one));
        }
        let refused = |setting, rule, why| NotJudged { setting, rule, refused: true, passing: false, why };
        if self.has("validation.content") && before.validation.content.mode == ContentMode::Off {
            let why = "while `content.mode` is `off` no text is looked at; set it to `detect` first";
            all.push(refused("validation.content", Some(Name::Rule(Rule::Content)), why));
        }
        if Enforcement::of(before.enforce, &before.shadow).is_off() {
            let why = "while `enforce` is `off` no rule is asked; set it to `shadow` first";
            let silent = self.shadows.iter().copied().filter(|rule| !is_judged_from_connections(*rule));
            all.extend(silent.map(|rule| refused("enforce", Some(Name::Rule(rule)), why)));
        }
        if !before.security.enable_audit_logging {
            let why = "while it is false, who came in is not in the trail";
            let rules = Rule::ALL.into_iter().filter(|rule| is_judged_from_connections(*rule));
            let touched = rules.map(Name::Rule).filter(|rule| self.touches(*rule));
            all.extend(touched.map(|rule| refused("security.enableAuditLogging", Some(rule), why)));
        }
        all
    }
}

fn is_judged_from_connections(rule: Rule) -> bool {
    let reasons = [Reason::CountryNotAllowed, Reason::OriginNotAllowed, Reason::ConnectionRate, Reason::LoginRequired];
    reasons.iter().any(|reason| rule.reasons().contains(reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// settings of a policy that refuse nothing
    const HARMLESS: [&str; 10] = [
        "cors.allowCredentials",
        "cors.allowedHeaders",
        "cors.allowedMethods",
        "enforce",
        "monitoring.alertThresholds",
        "monitoring.enableHealthChecks",
        "monitoring.enableMetrics",
        "monitoring.notifications",
        "security.enableAuditLogging",
        "shadow",
    ];

    #[test]
    fn every_setting_of_the_policy_is_known() {
        let policy = serde_json::to_value(Policy::default()).unwrap();
        let mut paths = BTreeSet::new();
        for (part, value) in policy.as_object().unwrap() {
            match value {
                Value::Object(fields) => paths.extend(fields.keys().map(|field| format!("{part}.{field}"))),
                _ => drop(paths.insert(part.clone())),
            }
        }
        let known: BTreeSet<_> = settings().into_iter().map(|setting| setting.path).chain(HARMLESS).collect();
        let unknown: Vec<_> = paths.iter().filter(|path| !known.contains(path.as_str())).collect();
        assert!(unknown.is_empty(), "a row of the table, or harmless: {unknown:?}");
        let gone: Vec<_> = known.iter().filter(|path| !paths.contains(**path)).collect();
        assert!(gone.is_empty(), "no settings: {gone:?}");
    }

    #[test]
    fn what_is_not_judged_is_what_the_change_touches() {
        let before = Policy::default();
        assert_eq!(Touched::between(&before, &before).not_judged(&before), []);
        let mut after = Policy::default();
        after.rate_limiting.message_limit.max_messages = 5;
        after.cors.allowed_origins.push("https://app.example.com".into());
        let touched = Touched::between(&before, &after);
        let told: Vec<_> =
            touched.not_judged(&before).into_iter().map(|one| (one.setting, one.refused, one.passing)).collect();
        assert_eq!(told, [("rateLimiting.messageLimit", true, false), ("rateLimiting.messageLimit", false, true)]);
        assert!(touched.touches(Name::Rule(Rule::Origin)) && !touched.touches(Name::Rule(Rule::Content)));
        assert!(touched.is_within("rateLimiting.messageLimit") && !touched.is_within("rateLimiting.messageLimitless"));
    }
}
