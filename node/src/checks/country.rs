//! Admission, after the block list: may addresses of this country come in? A look-up in memory, where the policy names countries.

use ipnet::IpNet;
use picket_shared::address;
use picket_shared::policy::CountryRules;
use picket_shared::reason::Reason;
use std::net::IpAddr;

use crate::geo::Geo;
use crate::refusal::Denial;

/// who is on the allow-list comes in from anywhere
pub fn check(geo: Option<&Geo>, rules: &CountryRules, allow_list: &[IpNet], address: IpAddr) -> Result<(), Denial> {
    if rules.are_none() || address::contains_any(allow_list, address) {
        return Ok(());
    }
    let country = geo.and_then(|geo| geo.country(address));
    if rules.allow(country) {
        return Ok(());
    }
    let denial = Denial::from(Reason::CountryNotAllowed).with("setting", "security.countries");
    Err(denial.because(match country {
        Some(country) => format!("security.countries does not let in {country}"),
        None => "security.countries does not let in addresses of which no country is known".to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::{GeoConfig, tests::database};
    use picket_shared::policy::{Environment, Policy, Rules};
    use serde_json::{Value, json};

    fn verdicts(countries: Value) -> [bool; 4] {
        let file = tempfile::NamedTempFile::new().unwrap();
        let entries =
            [("192.0.2.0/24", json!({ "country_code": "DE" })), ("198.51.100.0/24", json!({ "country_code": "FR" }))];
        std::fs::write(file.path(), database(&entries)).unwrap();
        let (geo, _) = Geo::new(&GeoConfig { file: file.path().to_owned(), asn_file: None }).unwrap();
        let mut policy = Policy::default();
        policy.security.countries = serde_json::from_value(countries).unwrap();
        policy.security.allow_list = vec!["198.51.100.9".into()];
        let rules = Rules::compile(policy, Environment::Production).unwrap();
        ["192.0.2.7", "198.51.100.7", "203.0.113.7", "198.51.100.9"].map(|address| {
            let (countries, allow_list) = (&rules.security.countries, &rules.security.allow_list);
            check(Some(&geo), countries, allow_list, address.parse().unwrap()).is_ok()
        })
    }

    #[test]
    fn a_list_says_who_comes_in_and_the_allow_list_wins() {
        // Germany, France, unknown, France on the allow-list.
        assert_eq!(verdicts(json!({})), [true; 4]);
        assert_eq!(verdicts(json!({ "deny": ["FR"] })), [true, false, true, true]);
        assert_eq!(verdicts(json!({ "allow": ["DE"] })), [true, false, true, true]);
        assert_eq!(verdicts(json!({ "allow": ["DE"], "unknown": "deny" })), [true, false, false, true]);
        assert_eq!(verdicts(json!({ "allow": ["DE", "FR"], "unknown": "deny" })), [true, true, false, true]);
    }
}
