//! From which countries clients may come: lists of codes as people write them, and the form that the check reads.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

use super::Mistake;

/// `security.countries`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Countries {
    /// if any are named, only these come in; codes of two letters (ISO 3166-1)
    pub allow: Vec<String>,
    /// these do not come in
    pub deny: Vec<String>,
    /// what becomes of an address of which no country is known
    pub unknown: Unknown,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    #[default]
    Allow,
    Deny,
}

/// a code of two capital letters
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    pub fn parse(text: &str) -> Option<Self> {
        let letters: [u8; 2] = text.as_bytes().try_into().ok()?;
        letters.iter().all(u8::is_ascii_uppercase).then_some(Country(letters))
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

/// the lists as the check reads them
#[derive(Debug)]
pub struct CountryRules {
    allow: BTreeSet<Country>,
    deny: BTreeSet<Country>,
    unknown: Unknown,
}

impl CountryRules {
    /// whether no country is named, so that none need be looked up
    pub fn are_none(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    pub fn allow(&self, country: Option<Country>) -> bool {
        match country {
            Some(country) => (self.allow.is_empty() || self.allow.contains(&country)) && !self.deny.contains(&country),
            None => self.unknown == Unknown::Allow,
        }
    }

    pub(super) fn compile(countries: &Countries, mistakes: &mut Vec<Mistake>) -> Self {
        let allow = codes("security.countries.allow", &countries.allow, mistakes);
        let deny = codes("security.countries.deny", &countries.deny, mistakes);
        for country in allow.intersection(&deny) {
            mistakes.push(Mistake::new("security.countries.deny", format!("{country} stands under allow, too")));
        }
        if countries.unknown == Unknown::Deny && allow.is_empty() && deny.is_empty() {
            let message = "says nothing while no country is named; name some under allow or deny";
            mistakes.push(Mistake::new("security.countries.unknown", message));
        }
        CountryRules { allow, deny, unknown: countries.unknown }
    }
}

fn codes(path: &str, texts: &[String], mistakes: &mut Vec<Mistake>) -> BTreeSet<Country> {
    let mut codes = BTreeSet::new();
    for (index, text) in texts.iter().enumerate() {
        match Country::parse(text) {
            Some(country) => drop(codes.insert(country)),
            None => mistakes.push(Mistake::new(
                format!("{path}[{index}]"),
                "is not a country's code: two capital letters, such as DE (ISO 3166-1)",
            )),
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_said() {
        let list = |codes: &[&str]| codes.iter().map(|code| (*code).to_owned()).collect();
        let countries =
            Countries { allow: list(&["DE", "de", "DEU"]), deny: list(&["DE", ""]), unknown: Unknown::Allow };
        let mut mistakes = Vec::new();
        CountryRules::compile(&countries, &mut mistakes);
        let paths: Vec<_> = mistakes.iter().map(|mistake| mistake.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "security.countries.allow[1]",
                "security.countries.allow[2]",
                "security.countries.deny[1]",
                "security.countries.deny"
            ]
        );
        let mut mistakes = Vec::new();
        CountryRules::compile(&Countries { unknown: Unknown::Deny, ..Countries::default() }, &mut mistakes);
        assert_eq!(mistakes[0].path, "security.countries.unknown");
    }
}
