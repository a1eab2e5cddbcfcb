//! Event name patterns: exact names, with `*` for any run of characters. Compared byte for byte after decoding.

/// a pattern such as `chat:*`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<String>,
}

impl Glob {
    pub fn new(pattern: &str) -> Self {
        Glob { parts: pattern.split('*').map(str::to_owned).collect() }
    }

    /// linear in the name for each part of the pattern: leftmost matches of the middle parts are enough
    pub fn matches(&self, name: &str) -> bool {
        let (Some(first), Some(last)) = (self.parts.first(), self.parts.last()) else {
            return false;
        };
        if self.parts.len() == 1 {
            return name == first;
        }
        let Some(mut rest) = name.strip_prefix(first.as_str()) else {
            return false;
        };
        for part in &self.parts[1..self.parts.len() - 1] {
            match rest.find(part.as_str()) {
                Some(position) => rest = &rest[position + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s18_patterns_are_exact_but_for_the_star() {
        for (pattern, name, expected) in [
            ("chat:send", "chat:send", true),
            ("chat:send", "Chat:send", false),
            ("chat:send", "chat:send\0", false),
            ("chat:send", "chat:send ", false),
            ("chat:*", "chat:", true),
            ("chat:*", "chat", false),
            ("*", "", true),
            ("*:typing", "room:typing", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(name), expected, "{pattern} against {name:?}");
        }
    }
}
