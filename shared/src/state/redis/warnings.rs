//! What an operator should know about this Redis before trusting it.

use super::Redis;

/// the oldest major version whose commands are enough
const VERSION_MIN: u32 = 7;
/// the first versions, by line, that fix what is known of Lua and of blocking commands (CVE-2025-49844, CVE-2025-46817,
/// CVE-2025-46818, CVE-2026-23479, CVE-2026-23631), as their release notes say
const REDIS_FIXED: [[u32; 3]; 5] = [[7, 2, 14], [7, 4, 9], [8, 2, 6], [8, 4, 3], [8, 6, 3]];
/// the same of Valkey (CVE-2025-49844, CVE-2025-46817, CVE-2025-46818, CVE-2025-67733)
const VALKEY_FIXED: [[u32; 3]; 4] = [[7, 2, 12], [8, 0, 7], [8, 1, 6], [9, 0, 2]];
/// clocks further apart than this deserve a look
const CLOCK_OFFSET_MAX_MS: u64 = 2000;

impl Redis {
    pub(super) async fn warnings(&self) -> Vec<String> {
        let mut warnings = match self.link.info().await {
            Ok(info) => of_info(&info),
            Err(error) => vec![format!("redis does not tell about itself: {error}")],
        };
        let offset = self.membership.clock_offset_ms();
        if offset.unsigned_abs() > CLOCK_OFFSET_MAX_MS {
            warnings.push(format!(
                "the clock of this process is {} ms {} redis's",
                offset.unsigned_abs(),
                if offset > 0 { "behind" } else { "ahead of" }
            ));
        }
        warnings
    }
}

fn of_info(info: &str) -> Vec<String> {
    let field = |name: &str| info.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    let mut warnings = Vec::new();
    if let Some(version) = field("redis_version") {
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < VERSION_MIN) {
            warnings.push(format!("redis is version {version}, at least {VERSION_MIN}.0 is needed"));
        }
    }
    let (name, version, fixed) = match field("valkey_version") {
        Some(version) => ("valkey", Some(version), &VALKEY_FIXED[..]),
        None => ("redis", field("redis_version"), &REDIS_FIXED[..]),
    };
    if let Some(version) = version.filter(|version| !is_fixed(version, fixed)) {
        warnings.push(format!(
            "{name} {version} has known flaws (CVE-2025-49844 in Lua among them) unless your distribution mends them; docs/cluster.md names fixed versions"
        ));
    }
    if let Some(policy) = field("maxmemory_policy").filter(|policy| policy.starts_with("allkeys-")) {
        warnings.push(format!(
            "maxmemory-policy is {policy}: redis may evict blocks and the policy; use noeviction or volatile-ttl"
        ));
    }
    warnings
}

/// whether a version is at or beyond the fix of its line, or of a line that began after all of them
fn is_fixed(version: &str, fixed: &[[u32; 3]]) -> bool {
    let mut parts = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = [0; 3].map(|none: u32| parts.next().unwrap_or(none));
    let of_its_line = fixed.iter().find(|fix| fix[..2] == version[..2]);
    match of_its_line {
        Some(fix) => version >= *fix,
        None => fixed.iter().all(|fix| version > *fix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x14_an_old_redis_and_one_that_evicts_blocks_are_told() {
        assert_eq!(of_info("redis_version:7.2.14\r\nmaxmemory_policy:noeviction\r\n"), Vec::<String>::new());
        let told = of_info("redis_version:6.2.1\r\nmaxmemory_policy:allkeys-lru\r\n");
        assert_eq!(told.len(), 3);
        assert!(told[0].contains("6.2.1") && told[2].contains("allkeys-lru"), "{told:?}");
    }

    #[test]
    fn r04_versions_with_known_flaws_are_told() {
        let flawed = |info: &str| of_info(info).iter().any(|warning| warning.contains("CVE-2025-49844"));
        for version in ["7.0.15", "7.2.13", "7.4.8", "8.0.4", "8.2.5", "8.4.2", "8.6.2"] {
            assert!(flawed(&format!("redis_version:{version}\r\n")), "{version}");
        }
        for version in ["7.2.14", "7.4.9", "8.2.6", "8.4.3", "8.6.3", "8.8.0", "10.0.0"] {
            assert!(!flawed(&format!("redis_version:{version}\r\n")), "{version}");
        }
        // Valkey says of itself that it is a Redis 7.2.4.
        for (version, is_flawed) in [("8.1.5", true), ("8.1.6", false), ("9.0.1", true), ("9.1.2", false)] {
            let info = format!("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:{version}\r\n");
            assert_eq!(flawed(&info), is_flawed, "{version}");
        }
    }
}
