//! From a bad score to a block, and what is remembered of it: relapses last longer.
//!
//! Allow-listed addresses and trusted proxies are never blocked. Loopback is, unless it is allow-listed, but always for the
//! shortest time: in development everybody comes from there.

use ipnet::IpNet;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use picket_shared::address::{self, AddressKey};
use picket_shared::audit::{AuditRecord, EventType, Outbox, Severity};
use picket_shared::clock::{Clock, Timestamp};
use picket_shared::policy::{Policy, Rules};
use picket_shared::reason::Reason;
use picket_shared::state::{Block, BlockOrigin, BlockView, Blocks, LivePolicy};

use crate::metrics::Instruments;
use crate::reputation::{Offence, Scores, Standing};

/// who an automatic block is by
pub(crate) const AUTOMATIC_ACTOR: &str = "picket";
/// addresses whose automatic blocks are remembered; beyond it the longest-quiet ones are forgotten
const RELAPSES_MAX: usize = 100_000;
/// how long an automatic block is remembered
pub(crate) const RELAPSE_MEMORY: Duration = Duration::from_secs(30 * 86_400);

pub(crate) struct Enforcement {
    pub(crate) id: String,
    pub(crate) policy: LivePolicy,
    pub(crate) blocks: Arc<dyn Blocks>,
    pub(crate) view: BlockView,
    pub(crate) outbox: Outbox,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) instruments: Instruments,
    pub(crate) memory: Mutex<Memory>,
}

/// what is known about addresses
#[derive(Default)]
pub(crate) struct Memory {
    scores: Scores,
    relapses: Relapses,
}

impl Enforcement {
    /// scores a record that was not seen before, and blocks its address when the score calls for it
    pub(crate) async fn observe(&self, record: &AuditRecord) {
        let now = self.clock.now();
        let rules = self.policy.current();
        let Some(offence) = offence(record) else {
            return;
        };
        let standing = self.memory.lock().scores.add(offence, &rules.document.security, now);
        if let Some(standing) = standing.filter(|standing| standing.calls_for_a_block(&rules.document.security)) {
            self.block(record.ip, &standing, &rules, now).await;
        }
    }

    /// learns from a stored record without acting on it
    pub(crate) fn replay(&self, record: &AuditRecord) {
        let rules = self.policy.current();
        let mut memory = self.memory.lock();
        if let Some(offence) = offence(record) {
            memory.scores.add(offence, &rules.document.security, self.clock.now());
        } else if record.event_type == EventType::IpUnblocked
            && let Some(network) = network_of(record)
        {
            memory.scores.reset(network);
        }
    }

    /// remembers a stored automatic block for the length of the next one
    pub(crate) fn remember_block(&self, record: &AuditRecord) {
        if is_automatic(record) {
            self.memory.lock().relapses.remember(AddressKey::of(record.ip), record.timestamp, record.timestamp);
        }
    }

    pub(crate) fn standing(&self, address: IpAddr) -> Standing {
        let rules = self.policy.current();
        self.memory.lock().scores.standing(AddressKey::of(address), &rules.document.security, self.clock.now())
    }

    /// how many automatic blocks of the address are remembered
    pub(crate) fn relapses(&self, address: IpAddr) -> u32 {
        self.memory.lock().relapses.count(AddressKey::of(address), self.clock.now())
    }

    /// gives the addresses of a network a clean sheet; what they did is remembered for the length of a next block
    pub(crate) fn reset(&self, network: IpNet) {
        let mut memory = self.memory.lock();
        memory.scores.reset(network);
        memory.relapses.lift(network);
    }

    pub(crate) fn addresses_scored(&self) -> usize {
        self.memory.lock().scores.len()
    }

    /// whether an address is never blocked automatically
    pub(crate) fn is_exempt(&self, address: IpAddr, rules: &Rules) -> bool {
        address::contains_any(&rules.security.allow_list, address)
            || address::contains_any(&self.trusted_proxies, address)
    }

    async fn block(&self, address: IpAddr, standing: &Standing, rules: &Rules, now: Timestamp) {
        if !rules.document.security.block_suspicious_ips || self.is_exempt(address, rules) {
            return;
        }
        let key = AddressKey::of(address);
        let relapse = {
            let memory = self.memory.lock();
            // Offences that were under way when the block came are no relapse.
            if memory.relapses.is_blocked(key, now) {
                return;
            }
            memory.relapses.count(key, now)
        };
        let duration = duration(&rules.document, address, relapse);
        let until = now.plus(duration);
        let blocked_longer = |block: Block| block.until.is_none_or(|end| end >= until);
        if self.view.find(address, now).is_some_and(blocked_longer) {
            return;
        }
        let block = Block {
            network: key.network(),
            reason: format!(
                "score {} reached the threshold {}",
                standing.rounded(),
                rules.document.security.suspicious_activity_threshold
            ),
            origin: BlockOrigin::Automatic,
            by: AUTOMATIC_ACTOR.to_owned(),
            since: now,
            until: Some(until),
        };
        if let Err(error) = self.blocks.put(block).await {
            tracing::warn!(%error, %key, "address not blocked, its next offence tries again");
            return;
        }
        self.memory.lock().relapses.remember(key, now, until);
        self.record(address, standing, relapse, duration, now);
    }

    fn record(&self, address: IpAddr, standing: &Standing, relapse: u32, duration: Duration, now: Timestamp) {
        let key = AddressKey::of(address);
        let parts: serde_json::Map<_, _> = standing
            .parts
            .iter()
            .map(|(reason, points)| (reason.token().to_owned(), rounded(*points).into()))
            .collect();
        let record =
            AuditRecord::new(EventType::IpBlocked, Severity::High, address, "address blocked automatically", now)
                .with("automatic", true)
                .with("network", key.to_string())
                .with("score", rounded(standing.score))
                .with("parts", parts)
                .with("relapse", relapse)
                .with("durationMs", u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
                .with("until", now.plus(duration).to_string());
        self.outbox.record(AuditRecord { node: Some(self.id.clone()), ..record });
        self.instruments.automatic_blocks.add(1, &[]);
        tracing::info!(address = %key, score = standing.score, ?duration, "address blocked automatically");
    }
}

/// what the record is to its address's score; nobody's records (0.0.0.0) are none
fn offence(record: &AuditRecord) -> Option<Offence> {
    let reason = record.reason.filter(|_| !record.ip.is_unspecified())?;
    // What is refused before the origin is known can be any web page's doing, whatever is wrong with it.
    let before_origin = record.metadata.get("stage").is_some_and(|stage| stage == "handshake");
    let reason = if before_origin { Reason::TooManyHandshakes } else { reason };
    Some(Offence { address: AddressKey::of(record.ip), reason, at: record.timestamp })
}

fn is_automatic(record: &AuditRecord) -> bool {
    record.event_type == EventType::IpBlocked
        && record.metadata.get("automatic").is_some_and(|automatic| automatic == true)
}

fn network_of(record: &AuditRecord) -> Option<IpNet> {
    record.metadata.get("network").and_then(serde_json::Value::as_str).and_then(address::parse_network)
}

fn duration(policy: &Policy, address: IpAddr, relapse: u32) -> Duration {
    policy.auto_block_duration(if address.is_loopback() { 0 } else { relapse })
}

/// to a hundredth, for people
pub(crate) fn rounded(points: f64) -> f64 {
    (points * 100.0).round() / 100.0
}

/// automatic blocks by address
#[derive(Default)]
struct Relapses {
    addresses: HashMap<AddressKey, Relapse>,
}

struct Relapse {
    blocks: u32,
    last: Timestamp,
    until: Timestamp,
}

impl Relapses {
    fn count(&self, address: AddressKey, now: Timestamp) -> u32 {
        let recent = self.addresses.get(&address).filter(|relapse| now.since(relapse.last) < RELAPSE_MEMORY);
        recent.map_or(0, |relapse| relapse.blocks)
    }

    fn is_blocked(&self, address: AddressKey, now: Timestamp) -> bool {
        self.addresses.get(&address).is_some_and(|relapse| now < relapse.until)
    }

    fn lift(&mut self, network: IpNet) {
        let lifted = self.addresses.iter_mut().filter(|(address, _)| network.contains(&address.network()));
        lifted.for_each(|(_, relapse)| relapse.until = relapse.last);
    }

    fn remember(&mut self, address: AddressKey, at: Timestamp, until: Timestamp) {
        if !self.addresses.contains_key(&address) && self.addresses.len() >= RELAPSES_MAX {
            self.forget_the_quiet();
        }
        let relapse = self.addresses.entry(address).or_insert(Relapse { blocks: 0, last: at, until });
        relapse.blocks = if at.since(relapse.last) < RELAPSE_MEMORY { relapse.blocks.saturating_add(1) } else { 1 };
        relapse.last = at.max(relapse.last);
        relapse.until = until.max(relapse.until);
    }

    fn forget_the_quiet(&mut self) {
        let mut times: Vec<_> = self.addresses.values().map(|relapse| relapse.last).collect();
        let (_, median, _) = times.select_nth_unstable(RELAPSES_MAX / 2);
        let median = *median;
        self.addresses.retain(|_, relapse| relapse.last > median);
    }
}

#[cfg(test)]
#[path = "enforcement_tests.rs"]
mod tests;
