//! The Lua scripts: a file each, some with a shared part in front. Each says what its KEYS, ARGV and reply are.

use fred::types::scripts::Script;

macro_rules! scripts {
    ($($script:ident: $($file:literal),+;)+) => {
        /// every script, with its digest
        pub(super) struct Scripts {
            $(pub(super) $script: Script,)+
        }

        impl Default for Scripts {
            fn default() -> Self {
                Scripts { $($script: Script::from_lua(concat!($(include_str!(concat!("scripts/", $file, ".lua"))),+)),)+ }
            }
        }
    };
}

scripts! {
    audit_acknowledge: "audit_trim", "audit_acknowledge";
    audit_append: "audit_append";
    audit_bury: "audit_trim", "audit_bury";
    audit_dead: "audit_dead";
    audit_lag: "audit_lag";
    audit_read: "audit_read";
    block_expire: "clock", "block_log", "block_expire";
    block_page: "block_page";
    block_lift: "clock", "block_log", "block_lift";
    block_put: "block_log", "block_put";
    block_seed: "block_log", "block_seed";
    block_since: "block_log", "block_since";
    charge: "clock", "charge";
    heartbeat: "clock", "heartbeat";
    lease_count: "lease_count";
    lease_publish: "lease_publish";
    lease_take: "lease_take";
    member_alive: "clock", "member_alive";
    members: "clock", "members";
    policy_publish: "clock", "policy_publish";
    policy_read: "policy_read";
    policy_restore: "clock", "policy_restore";
    refund: "refund";
    share: "clock", "window", "share";
}
