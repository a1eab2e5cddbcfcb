//! From a bad score to a block; relapses last longer.
//!
//! A block is for everyone at an address, unless clean users share it: then it refuses the anonymous, and the users whose own
//! score calls for it. Allow-listed addresses and trusted proxies are never blocked. Loopback is, unless it is allow-listed, but always for the
//! shortest time: in development everybody comes from there.

use ipnet::IpNet;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use picket_shared::address::{self, AddressKey, NetworkText};
use picket_shared::audit::{AuditRecord, EventType, Outbox, Severity};
use picket_shared::clock::{Clock, Timestamp};
use picket_shared::policy::{Policy, Rules, Security};
use picket_shared::reason::Reason;
use picket_shared::state::{
    BLOCK_USERS_MAX, BLOCKS_MAX, Block, BlockOrigin, BlockScope, BlockView, Blocks, Lead, LeaseKey, Leases, Lift,
    LivePolicy, Put, StateError, Withdrawal,
};

use crate::lifts::{Lifts, News};
use crate::merging::{self, Merged};
use crate::metrics::Instruments;
use crate::neighbours::{CLEAN_USERS_MIN, Neighbours};
use crate::relapses::Relapses;
use crate::reputation::{self, Offence, Scores, Standing, Worse};

/// who an automatic block is by
pub(crate) const AUTOMATIC_ACTOR: &str = "picket";

pub(crate) struct Enforcement {
    pub(crate) id: String,
    pub(crate) policy: LivePolicy,
    pub(crate) blocks: Arc<dyn Blocks>,
    pub(crate) leases: Arc<dyn Leases>,
    pub(crate) view: BlockView,
    pub(crate) outbox: Outbox,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) instruments: Instruments,
    pub(crate) memory: Mutex<Memory>,
    /// the number of blocks from which neighbours are merged
    pub(crate) crowded_at: usize,
    /// the term in which this coordinator leads: what it blocks after another one has begun to lead is refused
    pub(crate) term: AtomicU64,
}

/// the list is crowded when nine tenths of it are taken
pub(crate) const CROWDED_AT: usize = BLOCKS_MAX / 10 * 9;
/// how often a crowded list is looked through
const MERGE_PERIOD: Duration = Duration::from_secs(10);

/// what is known about addresses
#[derive(Default)]
pub(crate) struct Memory {
    scores: Scores,
    neighbours: Neighbours,
    relapses: Relapses,
    lifts: Lifts,
    merged: Option<Timestamp>,
}

/// what became of a block
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    InTheList,
    /// an administrator's block is in its place
    Manual,
    /// not tried: there were lifts to hear of, and addresses may stand otherwise than they did
    LiftsFirst,
}

/// what became of a bad score
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    Settled,
    /// by lifts that were not known; it is to be looked at again
    Overtaken,
}

impl Enforcement {
    /// this coordinator is about to lead
    pub(crate) async fn begin_term(&self) -> Result<(), StateError> {
        self.term.store(self.blocks.begin_term().await?, Ordering::Relaxed);
        Ok(())
    }

    async fn put(&self, block: Block, now: Timestamp) -> Result<Kept, StateError> {
        match self.blocks.put_in_term(block, self.lead(), now).await? {
            Put::Done(_) => Ok(Kept::InTheList),
            Put::Manual => Ok(Kept::Manual),
            Put::Superseded => Err(superseded()),
            Put::Unheard { lifts, heard } => {
                let mut memory = self.memory.lock();
                lifts.into_iter().for_each(|lift| memory.heard_of(lift));
                memory.lifts.heard = heard;
                Ok(Kept::LiftsFirst)
            }
        }
    }

    fn lead(&self) -> Lead {
        Lead { term: self.term(), heard: self.memory.lock().lifts.heard }
    }

    /// scores a record that was not seen before, and blocks its address when the score calls for it
    pub(crate) async fn observe(&self, record: &AuditRecord) {
        let now = self.clock.now();
        let rules = self.policy.current();
        let security = &rules.document.security;
        for mut worse in self.learn(record, security, now) {
            // Each round hears of lifts, of which there is a bounded number. What was forgiven took this offence with it.
            while worse.standing.calls_for_a_block_of(worse.factor, security)
                && self.block(record, &worse, &rules, now).await == Judged::Overtaken
            {
                worse.standing = self.memory.lock().scores.standing(worse.address, security, now);
            }
        }
        self.merge_if_crowded(now).await;
    }

    /// learns from a stored record without acting on it
    pub(crate) fn replay(&self, record: &AuditRecord) {
        let rules = self.policy.current();
        self.learn(record, &rules.document.security, self.clock.now());
    }

    /// the term in which this coordinator leads, or led last
    pub(crate) fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    /// knows nothing of addresses any more, but when they were lifted: the trail may not have that yet
    pub(crate) fn forget(&self) {
        let mut memory = self.memory.lock();
        *memory = Memory { lifts: std::mem::take(&mut memory.lifts), ..Memory::default() };
    }

    /// takes note of who is where, of what was done, and of what other coordinators blocked and lifted; answers what stands worse for it
    fn learn(&self, record: &AuditRecord, security: &Security, now: Timestamp) -> Vec<Worse> {
        let mut memory = self.memory.lock();
        let offence = offence(record).filter(|offence| !memory.lifts.forgive(offence.address, offence.at));
        // Whose token was revoked is not there: it may be in anybody's hands, and makes no address a shared one.
        let is_there = record.reason != Some(Reason::TokenRevoked);
        if let Some(user) = record.user_id.as_ref().filter(|_| is_there) {
            let address = AddressKey::of(record.ip);
            memory.neighbours.saw(address, user, record.timestamp, offence, security, now);
        }
        match (record.event_type, network_of(record)) {
            (EventType::IpBlocked, Some(network)) if is_automatic(record) => {
                memory.relapses.remember(network, record.timestamp, record.timestamp.plus(duration_of(record)));
            }
            (EventType::IpUnblocked, Some(network)) => memory.heard_of(Lift { network, at: record.timestamp }),
            _ => {}
        }
        offence.map(|offence| memory.scores.add(offence, security, now)).unwrap_or_default()
    }

    pub(crate) fn standing(&self, address: IpAddr) -> Standing {
        let rules = self.policy.current();
        self.memory.lock().scores.standing(AddressKey::of(address), &rules.document.security, self.clock.now())
    }

    /// how many automatic blocks of the address are remembered
    pub(crate) fn relapses(&self, address: IpAddr) -> u32 {
        self.memory.lock().relapses.count(AddressKey::of(address).network(), self.clock.now())
    }

    /// gives the addresses of a network a clean sheet, also of what they did before and is heard of later; that they were blocked is
    /// remembered for the length of a next block
    pub(crate) fn lifted(&self, lift: Lift) {
        let mut memory = self.memory.lock();
        memory.lifts.remember(lift.network, lift.at);
        memory.clear(lift.network);
        memory.relapses.lift(lift.network, self.clock.now());
    }

    /// the users in a network of whom something counts against them
    pub(crate) fn offenders_within(&self, network: IpNet) -> HashSet<String> {
        let rules = self.policy.current();
        self.memory.lock().neighbours.offenders_within(network, &rules.document.security, self.clock.now())
    }

    pub(crate) fn addresses_scored(&self) -> usize {
        self.memory.lock().scores.len()
    }

    /// whether an address is never blocked automatically
    pub(crate) fn is_exempt(&self, address: IpAddr, rules: &Rules) -> bool {
        address::contains_any(&rules.security.allow_list, address)
            || address::contains_any(&self.trusted_proxies, address)
    }

    async fn block(&self, last: &AuditRecord, worse: &Worse, rules: &Rules, now: Timestamp) -> Judged {
        let address = last.ip;
        let security = &rules.document.security;
        let network = worse.address.network();
        if !security.block_suspicious_ips || self.is_exempt(address, rules) || self.holds_a_proxy(network) {
            return Judged::Settled;
        }
        let around = self.view.around(network, now);
        let held = around.as_ref().filter(|block| block.network == network);
        if held.is_some_and(|block| block.origin == BlockOrigin::Manual) {
            return Judged::Settled;
        }
        let (relapse, is_blocked, offenders) = {
            let Memory { relapses, neighbours, .. } = &*self.memory.lock();
            (
                relapses.count(network, now),
                relapses.is_blocked(network, around.is_some(), now),
                neighbours.offenders(worse.address, security, now),
            )
        };
        // Offences that were under way when the block came are no relapse.
        if is_blocked {
            self.name_more_users(network, offenders, now).await;
            return Judged::Settled;
        }
        let is_shared = self.is_shared(worse.address, security, now).await;
        let (scope, users) = if is_shared { named(offenders) } else { (BlockScope::Everyone, Vec::new()) };
        let duration = duration(&rules.document, address, relapse);
        let until = now.plus(duration);
        let block = Block {
            network,
            reason: format!(
                "score {} reached the threshold {}",
                worse.standing.rounded(),
                reputation::threshold(worse.factor, security)
            ),
            origin: BlockOrigin::Automatic,
            by: AUTOMATIC_ACTOR.to_owned(),
            since: now,
            until: Some(until),
            scope,
            users,
        };
        if self.view.covers(&block, now) {
            return Judged::Settled;
        }
        match self.put(block.clone(), now).await {
            Ok(Kept::InTheList) => {
                self.memory.lock().relapses.remember(network, now, until);
                self.record(last, &block, &worse.standing, relapse, duration);
            }
            Ok(Kept::Manual) => {}
            Ok(Kept::LiftsFirst) => return Judged::Overtaken,
            Err(error) => {
                tracing::warn!(%error, address = %worse.address, "address not blocked, its next offence tries again");
            }
        }
        Judged::Settled
    }

    /// Whether enough clean users sit behind the prefix. Who came in long ago and has made no record since may be connected still: the
    /// state knows who holds connections, and is asked only if it matters
    async fn is_shared(&self, prefix: AddressKey, security: &Security, now: Timestamp) -> bool {
        let clean = self.memory.lock().neighbours.clean(prefix, security, now);
        let mut there = clean.seen_of_late;
        for user in clean.seen_before {
            if there >= CLEAN_USERS_MIN {
                break;
            }
            match self.leases.held(&LeaseKey::User(user.into())).await {
                Ok(held) => there += usize::from(held > 0),
                // Nor will it answer for the others, and the trail waits.
                Err(_) => break,
            }
        }
        there >= CLEAN_USERS_MIN
    }

    /// a block that spares clean users comes to bind those who turned out not to be
    async fn name_more_users(&self, network: IpNet, users: Vec<String>, now: Timestamp) {
        let Some(block) = self.view.block_of(network).filter(|block| block.in_force(now) && !block.binds_everyone())
        else {
            return;
        };
        let more: Vec<_> = users.into_iter().filter(|user| !block.users.contains(user)).collect();
        if more.is_empty() {
            return;
        }
        let (scope, users) = named([block.users.clone(), more.clone()].concat());
        match self.put(Block { scope, users, ..block }, now).await {
            Ok(Kept::InTheList) => tracing::info!(%network, ?more, "a block of a shared address binds more users"),
            // After a lift there is no such block.
            Ok(Kept::Manual | Kept::LiftsFirst) => {}
            Err(error) => tracing::warn!(%error, %network, "users not blocked, their next offence tries again"),
        }
    }

    fn record(&self, last: &AuditRecord, block: &Block, standing: &Standing, relapse: u32, duration: Duration) {
        let parts: serde_json::Map<_, _> = standing
            .parts
            .iter()
            .map(|(reason, points)| (reason.token().to_owned(), rounded(*points).into()))
            .collect();
        let network = NetworkText(block.network);
        let record = AuditRecord::new(
            EventType::IpBlocked,
            Severity::High,
            last.ip,
            "address blocked automatically",
            block.since,
        )
        .with("automatic", true)
        .with("network", network.to_string())
        .with("score", rounded(standing.score))
        .with("parts", parts)
        .with("relapse", relapse)
        .with("durationMs", u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
        .with("until", block.since.plus(duration).to_string())
        .with("scope", serde_json::to_value(block.scope).unwrap_or_default())
        .with("users", block.users.clone());
        let place = ["country", "asn"].into_iter().filter_map(|key| last.metadata.get_key_value(key));
        let record = place.fold(record, |record, (key, value)| record.with(key, value.clone()));
        self.outbox.record(AuditRecord { node: Some(self.id.clone()), ..record });
        self.instruments.automatic_blocks.add(1, &[]);
        tracing::info!(%network, score = standing.score, ?duration, scope = ?block.scope, "address blocked automatically");
    }

    /// a block list that fills up with neighbouring prefixes gets their common ones instead
    async fn merge_if_crowded(&self, now: Timestamp) {
        if self.view.len() < self.crowded_at {
            return;
        }
        {
            let mut memory = self.memory.lock();
            if memory.merged.is_some_and(|last| now.since(last) < MERGE_PERIOD) {
                return;
            }
            memory.merged = Some(now);
        }
        for merged in merging::merge(&self.view.blocks(), now) {
            if self.holds_a_proxy(merged.block.network) {
                continue;
            }
            if let Err(error) = self.replace(&merged, now).await {
                tracing::warn!(%error, "neighbouring blocks not merged");
                return;
            }
        }
    }

    async fn replace(&self, merged: &Merged, now: Timestamp) -> Result<(), StateError> {
        if self.put(merged.block.clone(), now).await? != Kept::InTheList {
            return Ok(());
        }
        for network in &merged.replaces {
            // An administrator's that came meanwhile stays, though the wider one holds it.
            if self.blocks.withdraw(*network, self.lead()).await? == Withdrawal::Superseded {
                return Err(superseded());
            }
        }
        let Merged { block, replaces } = merged;
        let record = AuditRecord::new(
            EventType::IpBlocked,
            Severity::High,
            block.network.addr(),
            "neighbouring blocks merged",
            now,
        )
        .with("merged", replaces.len())
        .with("network", block.network.to_string());
        self.outbox.record(AuditRecord { node: Some(self.id.clone()), ..record });
        Ok(())
    }

    fn holds_a_proxy(&self, network: IpNet) -> bool {
        self.trusted_proxies.iter().any(|proxy| network.contains(proxy))
    }
}

impl Memory {
    /// what was blocked again since stays so
    fn heard_of(&mut self, Lift { network, at }: Lift) {
        if self.lifts.remember(network, at) == News::New && !self.relapses.has_later(network, at) {
            self.clear(network);
        }
        self.relapses.lift(network, at);
    }

    fn clear(&mut self, network: IpNet) {
        self.scores.reset(network);
        self.neighbours.reset(network);
    }
}

fn superseded() -> StateError {
    StateError("another coordinator leads".to_owned())
}

/// names the users, unless they are so many that the address is theirs
fn named(users: Vec<String>) -> (BlockScope, Vec<String>) {
    match users.len() <= BLOCK_USERS_MAX {
        true => (BlockScope::Anonymous, users),
        false => (BlockScope::Everyone, Vec::new()),
    }
}

/// what the record is to its address's score; nobody's records (0.0.0.0) are none
fn offence(record: &AuditRecord) -> Option<Offence> {
    let reason = record.reason.filter(|_| !record.ip.is_unspecified())?;
    // What is refused before the origin is known can be any web page's doing, whatever is wrong with it.
    let before_origin = record.metadata.get("stage").is_some_and(|stage| stage == "handshake");
    let reason = if before_origin { Reason::TooManyHandshakes } else { reason };
    let points = record.metadata.get("points").and_then(serde_json::Value::as_f64);
    let points = points.filter(|points| reason == Reason::Behaviour && (0.0..=1000.0).contains(points));
    Some(Offence { address: AddressKey::of(record.ip), reason, at: record.timestamp, points })
}

fn is_automatic(record: &AuditRecord) -> bool {
    record.event_type == EventType::IpBlocked
        && record.metadata.get("automatic").is_some_and(|automatic| automatic == true)
}

fn network_of(record: &AuditRecord) -> Option<IpNet> {
    record.metadata.get("network").and_then(serde_json::Value::as_str).and_then(address::parse_network)
}

fn duration_of(block: &AuditRecord) -> Duration {
    let millis = block.metadata.get("durationMs").and_then(serde_json::Value::as_u64);
    millis.map_or(Duration::ZERO, Duration::from_millis)
}

fn duration(policy: &Policy, address: IpAddr, relapse: u32) -> Duration {
    policy.auto_block_duration(if address.is_loopback() { 0 } else { relapse })
}

/// to a hundredth, for people
pub(crate) fn rounded(points: f64) -> f64 {
    (points * 100.0).round() / 100.0
}

#[cfg(test)]
#[path = "enforcement_tests.rs"]
mod tests;
