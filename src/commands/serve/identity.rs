//! The name of this process in audit records and among the nodes.

use picket_shared::random;

use crate::config::Config;

const RANDOM_BYTES: usize = 3;

/// the configured name, or the host's with a random part
pub fn of(config: &Config, variables: &[(String, String)]) -> String {
    config.node.id.clone().unwrap_or_else(|| format!("{}-{}", host(variables), random::hex(RANDOM_BYTES)))
}

fn host(variables: &[(String, String)]) -> String {
    let told = variables.iter().find(|(name, _)| name == "HOSTNAME").map(|(_, host)| host.clone());
    let known = told.or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    let host: String =
        known.unwrap_or_default().chars().filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c)).take(64).collect();
    if host.is_empty() { "picket".to_owned() } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_hosts_and_not_twice_the_same() {
        let variables = [("HOSTNAME".to_owned(), "edge\n7".to_owned())];
        let (one, other) = (of(&Config::default(), &variables), of(&Config::default(), &variables));
        assert!(one.starts_with("edge7-") && one != other, "{one} {other}");
    }
}
