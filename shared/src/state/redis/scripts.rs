//! The Lua scripts: a file each, some with a shared part in front. Each says what its KEYS, ARGV and reply are.

use fred::types::scripts::Script as Text;

/// a script with its digest
pub(super) struct Script {
    pub(super) text: Text,
    pub(super) effect: Effect,
}

/// what a script does to its keys; who may not write them may still run what only reads
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Reads,
    Writes,
}

macro_rules! scripts {
    ($($script:ident: $($reads:ident)? $($file:literal),+;)+) => {
        /// every script; `reads` stands before those that only read
        pub(super) struct Scripts {
            $(pub(super) $script: Script,)+
        }

        impl Default for Scripts {
            fn default() -> Self {
                Scripts {
                    $($script: Script {
                        text: Text::from_lua(concat!($(include_str!(concat!("scripts/", $file, ".lua"))),+)),
                        effect: scripts!(@effect $($reads)?),
                    },)+
                }
            }
        }
    };
    (@effect reads) => { Effect::Reads };
    (@effect) => { Effect::Writes };
}

scripts! {
    answer_begin: "clock", "answer_begin";
    answer_forget: "answer_forget";
    answer_put: "clock", "answer_put";
    audit_acknowledge: "audit_trim", "audit_acknowledge";
    audit_append: "audit_append";
    audit_bury: "audit_trim", "audit_bury";
    audit_dead: reads "audit_dead";
    audit_lag: reads "audit_lag";
    audit_read: "audit_read";
    block_expire: "clock", "block_log", "block_expire";
    block_page: reads "block_page";
    block_position: reads "block_log", "block_position";
    block_lift: "clock", "block_log", "block_lift";
    block_put: "clock", "block_log", "block_put";
    block_seed: "block_log", "block_seed";
    block_since: reads "block_log", "block_since";
    block_term: "block_term";
    block_withdraw: "block_log", "block_withdraw";
    charge: "clock", "charge";
    heartbeat: "clock", "heartbeat";
    lease_count: reads "lease_count";
    lease_publish: "lease_publish";
    lease_take: "lease_take";
    member_alive: "clock", "member_alive";
    members: "clock", "members";
    policy_publish: "clock", "policy_publish";
    policy_read: reads "policy_read";
    policy_restore: "clock", "policy_restore";
    refund: "refund";
    revoke: "clock", "revoke";
    revoked_since: reads "revoked_since";
    share: "clock", "share";
    trial_begin: "clock", "trial_begin";
    trial_end: "trial_end";
    trial_read: reads "trial_read";
}
