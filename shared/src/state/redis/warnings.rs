//! What an operator should know about this Redis before trusting it.

use super::Redis;

/// the oldest major version whose commands are enough
const VERSION_MIN: u32 = 7;
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
    if let Some(policy) = field("maxmemory_policy").filter(|policy| policy.starts_with("allkeys-")) {
        warnings.push(format!(
            "maxmemory-policy is {policy}: redis may evict blocks and the policy; use noeviction or volatile-ttl"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x14_an_old_redis_and_one_that_evicts_blocks_are_told() {
        assert_eq!(of_info("redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\n"), Vec::<String>::new());
        let told = of_info("redis_version:6.2.1\r\nmaxmemory_policy:allkeys-lru\r\n");
        assert_eq!(told.len(), 2);
        assert!(told[0].contains("6.2.1") && told[1].contains("allkeys-lru"), "{told:?}");
    }
}
