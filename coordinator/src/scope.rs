//! What callers of the management API may do: each endpoint asks for one scope.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Scope {
    /// the audit trail, what is counted from it, and reports
    #[serde(rename = "audit:read")]
    AuditRead,
    /// erasing what the audit trail says of a person
    #[serde(rename = "audit:erase")]
    AuditErase,
    /// live numbers, nodes and health
    #[serde(rename = "metrics:read")]
    MetricsRead,
    /// blocks in force
    #[serde(rename = "blocks:read")]
    BlocksRead,
    /// blocking, unblocking, whom a block would hit, and revoking tokens
    #[serde(rename = "blocks:write")]
    BlocksWrite,
    /// the policy and its history
    #[serde(rename = "config:read")]
    ConfigRead,
    /// changing the policy, and reading it
    #[serde(rename = "config:write")]
    ConfigWrite,
}

impl Scope {
    pub const ALL: [Scope; 7] = [
        Scope::AuditRead,
        Scope::AuditErase,
        Scope::MetricsRead,
        Scope::BlocksRead,
        Scope::BlocksWrite,
        Scope::ConfigRead,
        Scope::ConfigWrite,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Scope::AuditRead => "audit:read",
            Scope::AuditErase => "audit:erase",
            Scope::MetricsRead => "metrics:read",
            Scope::BlocksRead => "blocks:read",
            Scope::BlocksWrite => "blocks:write",
            Scope::ConfigRead => "config:read",
            Scope::ConfigWrite => "config:write",
        }
    }

    /// who may change the policy sees it in the answers, and may read it
    pub fn includes(self, other: Scope) -> bool {
        self == other || (self, other) == (Scope::ConfigWrite, Scope::ConfigRead)
    }

    pub fn is_read(self) -> bool {
        self.as_str().ends_with(":read")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_configured_by_the_name_that_refusals_say() {
        for scope in Scope::ALL {
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
        }
    }

    #[test]
    fn every_scope_is_documented() {
        let page = include_str!("../../docs/management.md");
        for scope in Scope::ALL {
            assert!(page.contains(&format!("`{}`", scope.as_str())), "{} is not in docs/management.md", scope.as_str());
        }
    }
}
