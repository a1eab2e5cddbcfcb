//! The policy compiled: patterns parsed, limits typed, schemas built. What compiles cannot be wrong while it is in force.

use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::{
    BehaviourRules, ContentMode, CountryRules, Enforce, Enforcement, Environment, Glob, Mistake, NamedEventLimit,
    Origin, OriginPattern, Per, Policy, notification,
};
use crate::address;
use crate::reason::Reason;
use crate::window::Quota;

/// entries that a list or map of the policy may have
const ENTRIES_MAX: usize = 10_000;
/// the largest role factor
const FACTOR_MAX: f64 = 1_000_000.0;
/// what a pattern of `validation.schemas` may compile into, and what its matching may keep
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// the policy in force, as the pipelines read it
#[derive(Debug)]
pub struct Rules {
    pub document: Policy,
    pub enforcement: Enforcement,
    pub cors: CorsRules,
    pub limits: Limits,
    pub validation: ValidationRules,
    pub security: SecurityRules,
    pub behaviour: BehaviourRules,
}

#[derive(Debug)]
pub struct CorsRules {
    patterns: Vec<OriginPattern>,
    allow_missing: bool,
    allow_localhost: bool,
}

impl CorsRules {
    pub fn allows(&self, origin: Option<&Origin>) -> bool {
        let Some(origin) = origin else {
            return self.allow_missing;
        };
        self.allow_localhost && origin.is_localhost() || self.patterns.iter().any(|pattern| pattern.matches(origin))
    }
}

/// every limit with its quota
#[derive(Debug)]
pub struct Limits {
    pub handshakes: Quota,
    pub connections: Quota,
    pub messages: Quota,
    pub message_events: Vec<Glob>,
    pub events: Quota,
    pub burst: Quota,
    pub named: HashMap<String, EventLimit>,
    pub roles: BTreeMap<String, f64>,
    pub per_address: u32,
    pub per_user: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct EventLimit {
    pub quota: Quota,
    pub per: Per,
}

impl Limits {
    /// the highest factor of these roles; 1 where none has one
    pub fn factor<'a>(&self, roles: impl IntoIterator<Item = &'a str>) -> f64 {
        roles.into_iter().filter_map(|role| self.roles.get(role).copied()).max_by(f64::total_cmp).unwrap_or(1.0)
    }

    pub fn counts_as_message(&self, event: &str) -> bool {
        self.message_events.iter().any(|glob| glob.matches(event))
    }
}

#[derive(Debug)]
pub struct ValidationRules {
    pub payload_bytes_max: usize,
    pub text_chars_max: usize,
    pub depth_max: usize,
    known_events: Option<Vec<Glob>>,
    login_events: Vec<Glob>,
    roles: HashMap<String, Vec<String>>,
    pub content: ContentMode,
    schemas: HashMap<String, jsonschema::Validator>,
}

impl ValidationRules {
    pub fn knows(&self, event: &str) -> bool {
        self.known_events.as_ref().is_none_or(|globs| globs.iter().any(|glob| glob.matches(event)))
    }

    pub fn needs_login(&self, event: &str) -> bool {
        self.login_events.iter().any(|glob| glob.matches(event)) || self.roles.contains_key(event)
    }

    /// the roles of which a sender needs one, if any is needed
    pub fn roles_of(&self, event: &str) -> Option<&[String]> {
        self.roles.get(event).map(Vec::as_slice)
    }

    pub fn schema_of(&self, event: &str) -> Option<&jsonschema::Validator> {
        self.schemas.get(event)
    }
}

#[derive(Debug)]
pub struct SecurityRules {
    pub allow_anonymous: bool,
    pub anonymous_max: u32,
    pub anonymous_per_address: u32,
    pub violations_before_close: u32,
    pub allow_list: Vec<IpNet>,
    pub countries: CountryRules,
}

impl Rules {
    /// the same rules, with another word than the document's on what is done with refusals
    pub fn under(self, mode: Enforce) -> Rules {
        Rules { enforcement: Enforcement::of(mode, &self.document.shadow), ..self }
    }

    /// compiles the document, or says every mistake in it
    pub fn compile(document: Policy, environment: Environment) -> Result<Rules, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let rules = Rules {
            enforcement: Enforcement::of(document.enforce, &document.shadow),
            cors: cors(&document, environment, &mut mistakes),
            limits: limits(&document, &mut mistakes),
            validation: validation(&document, &mut mistakes),
            security: security(&document, &mut mistakes),
            behaviour: BehaviourRules::compile(
                &document.security.behaviour,
                document.security.suspicious_activity_threshold,
                &mut mistakes,
            ),
            document,
        };
        check_reputation(&rules.document, &mut mistakes);
        notification::check(&rules.document.monitoring.notifications, &mut mistakes);
        if mistakes.is_empty() { Ok(rules) } else { Err(mistakes) }
    }
}

fn bounded(path: &str, entries: usize, mistakes: &mut Vec<Mistake>) {
    if entries > ENTRIES_MAX {
        mistakes.push(Mistake::new(path, format!("has {entries} entries; at most {ENTRIES_MAX} are allowed")));
    }
}

fn cors(document: &Policy, environment: Environment, mistakes: &mut Vec<Mistake>) -> CorsRules {
    let cors = &document.cors;
    bounded("cors.allowedOrigins", cors.allowed_origins.len(), mistakes);
    let mut patterns = Vec::new();
    for (index, text) in cors.allowed_origins.iter().enumerate() {
        let path = format!("cors.allowedOrigins[{index}]");
        match OriginPattern::parse(text) {
            Ok(OriginPattern::Any) if !cors.allow_any_origin => mistakes.push(Mistake::new(
                path,
                "`*` lets every web page connect as its visitor; list the origins, or set cors.allowAnyOrigin: true if that is meant",
            )),
            Ok(pattern) => patterns.push(pattern),
            Err(message) => mistakes.push(Mistake::new(path, message)),
        }
    }
    CorsRules {
        patterns,
        allow_missing: cors.allow_missing_origin,
        allow_localhost: environment == Environment::Development,
    }
}

fn limits(document: &Policy, mistakes: &mut Vec<Mistake>) -> Limits {
    let rates = &document.rate_limiting;
    bounded("rateLimiting.events", rates.events.len(), mistakes);
    bounded("rateLimiting.roles", rates.roles.len(), mistakes);
    for (role, factor) in &rates.roles {
        if !(*factor > 0.0 && *factor <= FACTOR_MAX) {
            let path = format!("rateLimiting.roles.{role}");
            mistakes.push(Mistake::new(
                path,
                format!("a factor is a number above 0 and at most {FACTOR_MAX}, not {factor}"),
            ));
        }
    }
    let named = |limit: &NamedEventLimit| EventLimit {
        quota: Quota::new(limit.max_events, limit.window_ms).exactly(limit.exact),
        per: limit.per,
    };
    Limits {
        handshakes: Quota::new(rates.handshake_limit.max_handshakes, rates.handshake_limit.window_ms),
        connections: Quota::new(rates.connection_limit.max_connections, rates.connection_limit.window_ms)
            .exactly(rates.connection_limit.exact),
        messages: Quota::new(rates.message_limit.max_messages, rates.message_limit.window_ms)
            .exactly(rates.message_limit.exact),
        message_events: globs(&rates.message_limit.events),
        events: Quota::new(rates.event_limit.max_events, rates.event_limit.window_ms),
        burst: Quota::new(rates.burst_limit.max_events, rates.burst_limit.window_ms),
        named: rates.events.iter().map(|(name, limit)| (name.clone(), named(limit))).collect(),
        roles: rates.roles.clone(),
        per_address: rates.concurrent_connections.per_address,
        per_user: rates.concurrent_connections.per_user,
    }
}

fn globs(patterns: &[String]) -> Vec<Glob> {
    patterns.iter().map(|pattern| Glob::new(pattern)).collect()
}

fn validation(document: &Policy, mistakes: &mut Vec<Mistake>) -> ValidationRules {
    let validation = &document.validation;
    bounded("validation.allowedEventTypes", validation.allowed_event_types.as_ref().map_or(0, Vec::len), mistakes);
    bounded("validation.schemas", validation.schemas.len(), mistakes);
    let mut schemas = HashMap::new();
    for (event, schema) in &validation.schemas {
        match validator(schema) {
            Ok(validator) => drop(schemas.insert(event.clone(), validator)),
            Err(error) => mistakes
                .push(Mistake::new(format!("validation.schemas.{event}"), format!("not a JSON Schema: {error}"))),
        }
    }
    ValidationRules {
        payload_bytes_max: validation.max_payload_size,
        text_chars_max: validation.max_message_length,
        depth_max: validation.max_depth,
        known_events: validation.allowed_event_types.as_deref().map(globs),
        login_events: globs(&validation.require_authentication),
        roles: validation.event_roles.clone().into_iter().collect(),
        content: validation.content.mode,
        schemas,
    }
}

/// patterns of a schema meet the texts of clients: an engine that cannot backtrack, and no pattern that compiles into much
fn validator(schema: &serde_json::Value) -> Result<jsonschema::Validator, jsonschema::ValidationError<'static>> {
    let patterns = jsonschema::PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
    jsonschema::options().with_pattern_options(patterns).build(schema)
}

fn security(document: &Policy, mistakes: &mut Vec<Mistake>) -> SecurityRules {
    let security = &document.security;
    bounded("security.allowList", security.allow_list.len(), mistakes);
    let mut allow_list = Vec::new();
    for (index, text) in security.allow_list.iter().enumerate() {
        match address::parse_network(text) {
            Some(network) => allow_list.push(network),
            None => mistakes.push(Mistake::new(
                format!("security.allowList[{index}]"),
                format!("`{text}` is neither an address nor a prefix such as 192.0.2.0/24"),
            )),
        }
    }
    if security.auto_block.max_ms < security.auto_block.base_ms {
        mistakes.push(Mistake::new("security.autoBlock.maxMs", "must not be less than security.autoBlock.baseMs"));
    }
    SecurityRules {
        allow_anonymous: security.allow_anonymous,
        anonymous_max: security.max_anonymous_connections,
        anonymous_per_address: security.max_anonymous_per_address,
        violations_before_close: security.violations_before_close,
        allow_list,
        countries: CountryRules::compile(&security.countries, mistakes),
    }
}

fn check_reputation(document: &Policy, mistakes: &mut Vec<Mistake>) {
    for (token, points) in &document.security.reputation.points {
        let path = format!("security.reputation.points.{token}");
        if Reason::from_token(token).is_none() {
            let known: Vec<_> = Reason::ALL.into_iter().map(Reason::token).collect();
            mistakes.push(Mistake::new(path, format!("not a reason; the reasons are {}", known.join(", "))));
        } else if !(0.0..=1000.0).contains(points) {
            mistakes.push(Mistake::new(path, format!("points are a number from 0 to 1000, not {points}")));
        }
    }
}

impl Policy {
    /// how long the `relapse`-th automatic block lasts (0 for the first)
    pub fn auto_block_duration(&self, relapse: u32) -> Duration {
        let auto = &self.security.auto_block;
        let exponent = i32::try_from(relapse).unwrap_or(i32::MAX);
        let seconds = Duration::from_millis(auto.base_ms).as_secs_f64() * auto.factor.powi(exponent);
        let longest = Duration::from_millis(auto.max_ms);
        Duration::try_from_secs_f64(seconds).map_or(longest, |duration| duration.min(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_compile() {
        assert!(Rules::compile(Policy::default(), Environment::Production).is_ok());
    }

    fn with_pattern(pattern: &str) -> Result<Rules, Vec<Mistake>> {
        let mut policy = Policy::default();
        let schema = serde_json::json!({ "type": "string", "pattern": pattern });
        policy.validation.schemas.insert("chat:say".into(), schema);
        Rules::compile(policy, Environment::Production)
    }

    #[test]
    fn p13_a_pattern_that_would_backtrack_or_swell_is_no_policy() {
        for pattern in [r"(a)\1", "(?=a)b", "(?<!a)b", "((a{100}){100}){100}"] {
            let mistakes = with_pattern(pattern).expect_err(pattern);
            println!("p13: {mistakes:?}");
            assert_eq!(mistakes[0].path, "validation.schemas.chat:say");
        }
        assert!(with_pattern(r"^[\p{L}\w .,-]{1,100}$").is_ok(), "an honest pattern has room");
    }

    #[test]
    fn p13_a_mebibyte_meets_the_worst_patterns_in_milliseconds() {
        const MIB: usize = 1 << 20;
        let most = Duration::from_millis(if cfg!(debug_assertions) { 10_000 } else { 150 });
        for pattern in
            ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "(.*)*x", "^([a-zA-Z0-9]+)*$", "a.*a.*a.*a.*b", "(a?){50}a{50}b"]
        {
            let rules = with_pattern(pattern).unwrap();
            let text = serde_json::Value::from(format!("{}!", "a".repeat(MIB)));
            let start = crate::clock::thread_time();
            let matches = rules.validation.schema_of("chat:say").unwrap().is_valid(&text);
            let took = crate::clock::thread_time() - start;
            println!("p13: {:>6.1} ms per MiB against {pattern}", took.as_secs_f64() * 1000.0);
            assert!(!matches && took < most, "{pattern}: {took:?}");
        }
    }

    #[test]
    fn every_mistake_is_said_at_once() {
        let mut policy = Policy::default();
        policy.cors.allowed_origins = vec!["*".into(), "app.example.com".into()];
        policy.security.allow_list = vec!["300.1.1.1".into()];
        policy.rate_limiting.roles.insert("bot".into(), -1.0);
        policy.security.reputation.points.insert("nonsense".into(), 1.0);
        let paths: Vec<_> = Rules::compile(policy, Environment::Production)
            .unwrap_err()
            .into_iter()
            .map(|mistake| mistake.path)
            .collect();
        assert_eq!(
            paths,
            [
                "cors.allowedOrigins[0]",
                "cors.allowedOrigins[1]",
                "rateLimiting.roles.bot",
                "security.allowList[0]",
                "security.reputation.points.nonsense",
            ]
        );
    }

    #[test]
    fn the_highest_role_wins_and_a_relapse_lasts_longer() {
        let mut policy = Policy::default();
        policy.rate_limiting.roles = [("moderator".into(), 3.0), ("anonymous".into(), 0.5)].into();
        assert_eq!(policy.auto_block_duration(0), Duration::from_secs(600));
        assert_eq!(policy.auto_block_duration(1), Duration::from_secs(2400));
        assert_eq!(policy.auto_block_duration(40), Duration::from_secs(604_800));
        let rules = Rules::compile(policy, Environment::Production).unwrap();
        assert_eq!(rules.limits.factor(["anonymous", "moderator"]), 3.0);
        assert_eq!(rules.limits.factor(["member"]), 1.0);
        for (limit, factor, expected) in [(1, 0.5, 1), (100, 1.15, 115), (100, 0.57, 57), (10, 0.25, 2)] {
            assert_eq!(Quota::new(limit, 1000).scaled(factor).limit.get(), expected, "{limit} times {factor}");
        }
    }
}
