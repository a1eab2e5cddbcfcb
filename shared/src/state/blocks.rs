//! The block list: a set in the state with a versioned log, and each process's view of it with longest-prefix lookup.

use async_trait::async_trait;
use ipnet::IpNet;
use parking_lot::RwLock;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use super::StateError;
use super::block_table::BlockTable;
use crate::address;
use crate::audit;
use crate::clock::{Clock, Timestamp};
use crate::telemetry::BlockPropagation;

/// the pause after a list could not be read: hints may have come before the connection did
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// an address or prefix that may not come in
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    #[serde(rename = "ip", serialize_with = "network_text", deserialize_with = "network_of_text")]
    #[schemars(with = "String")]
    pub network: IpNet,
    pub reason: String,
    pub origin: BlockOrigin,
    /// who blocked: an administrator's name, or `picket`
    pub by: String,
    pub since: Timestamp,
    /// `None` until it is lifted
    pub until: Option<Timestamp>,
    #[serde(default)]
    pub scope: BlockScope,
    /// users that it refuses although its scope would spare them, as audit records name them; at most [`BLOCK_USERS_MAX`]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
}

/// blocks that the list holds; beyond it the soonest-ending automatic one goes
pub const BLOCKS_MAX: usize = 1_000_000;

/// users that one block names; where more offend, it is for everyone
pub const BLOCK_USERS_MAX: usize = 64;

/// whom of its addresses a block refuses
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BlockScope {
    /// who has not logged in, and the users that the block names: clean users share the address (NAT, campus, carrier)
    Anonymous,
    #[default]
    Everyone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BlockOrigin {
    Manual,
    Automatic,
}

impl Block {
    pub fn in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// whether it refuses everybody, whoever they turn out to be
    pub fn binds_everyone(&self) -> bool {
        self.scope == BlockScope::Everyone
    }

    /// whether it refuses this user, or somebody who has not logged in
    pub fn binds(&self, user: Option<&str>) -> bool {
        match (self.scope, user) {
            (BlockScope::Everyone, _) | (BlockScope::Anonymous, None) => true,
            (BlockScope::Anonymous, Some(user)) => {
                !self.users.is_empty() && {
                    let user = audit::printable(user, audit::IDENTIFIER_BYTES_MAX);
                    self.users.contains(&user)
                }
            }
        }
    }

    /// whether whoever the other refuses, this one refuses, and at least as long
    pub fn covers(&self, other: &Block) -> bool {
        let lasts = self.until.is_none_or(|end| other.until.is_some_and(|other| end >= other));
        let reaches = self.binds_everyone()
            || (!other.binds_everyone() && other.users.iter().all(|user| self.users.contains(user)));
        self.network.contains(&other.network) && lasts && reaches
    }
}

fn network_text<S: Serializer>(network: &IpNet, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&address::NetworkText(*network))
}

fn network_of_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNet, D::Error> {
    let text = String::deserialize(deserializer)?;
    address::parse_network(&text).ok_or_else(|| serde::de::Error::custom("not an address or prefix"))
}

/// one step of the log
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockChange {
    Put(Block),
    Lifted(IpNet),
}

/// a place in the log: how many changes there were, and a mark of their history, so that two lists which took different ways
/// (an empty state, a failover that lost changes) never look alike
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockPosition {
    pub version: u64,
    pub mark: u64,
}

/// the whole list; the changes after `at` lead on from it
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockSet {
    pub at: BlockPosition,
    pub blocks: Vec<Block>,
}

/// what happened since a position
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockLog {
    /// the next changes and where they lead; none when nothing happened
    Changes { changes: Vec<BlockChange>, at: BlockPosition },
    /// the log does not know that position, or no longer: load the set
    Gap,
    /// the state lost the list and nobody seeded it again: what is known stays in force, what is in the set is added
    Lost,
}

/// lifts that the list remembers, so that a leader hears of them before it blocks; beyond it the oldest are forgotten
pub const LIFTS_MAX: usize = 10_000;

/// an administrator took a block away
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lift {
    pub network: IpNet,
    pub at: Timestamp,
}

/// as whom a leader changes the list
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lead {
    pub term: u64,
    /// up to which version of the list it has heard of lifts
    pub heard: u64,
}

/// what became of a leader's block
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// with the new version
    Done(u64),
    /// another coordinator leads
    Superseded,
    /// an administrator's block is in force, and stays
    Manual,
    /// lifts that the leader has not heard of, oldest first and perhaps only the first of them, and the version up to which it has
    /// then: what was done before a lift does not count
    Unheard { lifts: Vec<Lift>, heard: u64 },
}

/// what became of a leader's wish to take a block away
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawal {
    /// there is none any more
    Done,
    /// another coordinator leads
    Superseded,
    /// it is an administrator's, and stays
    Manual,
}

#[async_trait]
pub trait Blocks: Send + Sync {
    /// blocks, or replaces the block of the same network; answers the new version
    async fn put(&self, block: Block) -> Result<u64, StateError>;

    /// Like [`Blocks::put`], and says whether a replica of the state has it too, which is waited for a moment: then the death of any
    /// one server does not undo it.
    async fn put_durably(&self, block: Block) -> Result<(u64, bool), StateError> {
        Ok((self.put(block).await?, false))
    }

    /// begins the term of a new leader (a fencing token): what a leader of an earlier term still sends is refused from here on
    async fn begin_term(&self) -> Result<u64, StateError>;

    /// Like [`Blocks::put`], for a leader: nothing is done if a later term has begun, if there are lifts that it has not heard of, or
    /// if an administrator's block of the network is in force.
    async fn put_in_term(&self, block: Block, lead: Lead, now: Timestamp) -> Result<Put, StateError>;

    /// takes the automatic block of exactly this network away, unless a later term has begun; leaders do not hear of it
    async fn withdraw(&self, network: IpNet, lead: Lead) -> Result<Withdrawal, StateError>;

    /// lifts the block of exactly this network, and remembers when, for leaders; false if there is none in force
    async fn lift(&self, network: IpNet, now: Timestamp) -> Result<bool, StateError>;

    /// everything that is in force
    async fn load(&self, now: Timestamp) -> Result<BlockSet, StateError>;

    /// the next changes after `position`, in order; a backend may answer a part of them, so ask until there are none
    async fn since(&self, position: BlockPosition) -> Result<BlockLog, StateError>;

    /// after [`BlockLog::Lost`]: adds the blocks of networks that the state has no block for, and declares the list whole;
    /// does nothing to a list that is whole
    async fn seed(&self, blocks: Vec<Block>) -> Result<(), StateError>;

    /// changes when the list may have changed; a hint, never the truth
    fn hints(&self) -> watch::Receiver<u64>;
}

/// one process's view of the block list: lookups from memory, kept up to date by [`follow_blocks`]
#[derive(Clone)]
pub struct BlockView {
    shared: Arc<View>,
}

struct View {
    tables: RwLock<BlockTable>,
    at: RwLock<BlockPosition>,
    /// how often the view changed
    changes: watch::Sender<u64>,
    /// `None` where nobody asks
    propagation: Option<BlockPropagation>,
}

impl Default for BlockView {
    fn default() -> Self {
        Self::of(None)
    }
}

impl BlockView {
    /// one that notes how long blocks take to be in force here
    pub fn measured(propagation: BlockPropagation) -> Self {
        Self::of(Some(propagation))
    }

    fn of(propagation: Option<BlockPropagation>) -> Self {
        let (tables, at, changes) = (RwLock::default(), RwLock::default(), watch::Sender::new(0));
        BlockView { shared: Arc::new(View { tables, at, changes, propagation }) }
    }

    /// the most specific block in force that holds `address`
    pub fn find(&self, address: IpAddr, now: Timestamp) -> Option<Block> {
        self.find_that(address, now, |_| true)
    }

    /// the most specific block in force that holds `address` and `binds`
    pub fn find_that(&self, address: IpAddr, now: Timestamp, binds: impl Fn(&Block) -> bool) -> Option<Block> {
        let network = IpNet::from(address::canonical(address));
        self.shared.tables.read().find(network, |block| block.in_force(now) && binds(block))
    }

    /// the most specific block in force that holds the whole network
    pub fn around(&self, network: IpNet, now: Timestamp) -> Option<Block> {
        self.shared.tables.read().find(network, |block| block.in_force(now))
    }

    /// whether a block in force makes this one unnecessary
    pub fn covers(&self, block: &Block, now: Timestamp) -> bool {
        self.shared.tables.read().find(block.network, |known| known.in_force(now) && known.covers(block)).is_some()
    }

    /// the block of exactly this network
    pub fn block_of(&self, network: IpNet) -> Option<Block> {
        self.shared.tables.read().find(network, |block| block.network == network)
    }

    /// how many blocks there are, ended ones too
    pub fn len(&self) -> usize {
        self.shared.tables.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// changes whenever the view did, so that open sessions look again
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// the version of the list that the view shows
    pub fn version(&self) -> u64 {
        self.position().version
    }

    /// every block of the view, ended ones too
    pub fn blocks(&self) -> Vec<Block> {
        self.shared.tables.read().all()
    }

    /// adds blocks of networks that the view has no block for: what a store or a snapshot remembers
    pub fn add_missing(&self, blocks: Vec<Block>) {
        let mut tables = self.shared.tables.write();
        for block in blocks {
            if !tables.holds(block.network) {
                tables.put(block);
            }
        }
        drop(tables);
        self.tell();
    }

    pub(super) fn position(&self) -> BlockPosition {
        *self.shared.at.read()
    }

    pub(super) fn replace(&self, set: BlockSet) {
        let mut tables = BlockTable::default();
        for block in set.blocks {
            tables.put(block);
        }
        *self.shared.tables.write() = tables;
        *self.shared.at.write() = set.at;
        self.tell();
    }

    pub(super) fn apply(&self, changes: Vec<BlockChange>, at: BlockPosition, now: Timestamp) {
        let mut tables = self.shared.tables.write();
        for change in changes {
            match change {
                BlockChange::Put(block) => {
                    if let Some(propagation) = &self.shared.propagation
                        && is_new(&block, &tables)
                    {
                        propagation.took(now.since(block.since));
                    }
                    tables.put(block);
                }
                BlockChange::Lifted(network) => tables.remove(network),
            }
        }
        drop(tables);
        *self.shared.at.write() = at;
        self.tell();
    }

    fn tell(&self) {
        self.shared.changes.send_modify(|count| *count += 1);
    }
}

/// a block that only names more users keeps its beginning, which says nothing of its way
fn is_new(block: &Block, tables: &BlockTable) -> bool {
    let is_same = |known: &Block| known.network == block.network && known.since == block.since;
    tables.find(block.network, is_same).is_none()
}

/// keeps `view` equal to the list until `stop` resolves; a list that the state lost leaves the view in force
pub async fn follow_blocks(
    view: BlockView,
    blocks: Arc<dyn Blocks>,
    clock: Arc<dyn Clock>,
    stop: impl Future<Output = ()>,
) {
    follow(view, blocks, clock, OnLoss::Wait, stop).await;
}

/// like [`follow_blocks`], and gives a state that lost the list the view's blocks: for the process that knows them all
pub async fn follow_and_seed_blocks(
    view: BlockView,
    blocks: Arc<dyn Blocks>,
    clock: Arc<dyn Clock>,
    stop: impl Future<Output = ()>,
) {
    follow(view, blocks, clock, OnLoss::Seed, stop).await;
}

#[derive(Clone, Copy)]
enum OnLoss {
    Wait,
    Seed,
}

async fn follow(
    view: BlockView,
    blocks: Arc<dyn Blocks>,
    clock: Arc<dyn Clock>,
    on_loss: OnLoss,
    stop: impl Future<Output = ()>,
) {
    tokio::pin!(stop);
    let mut hints = blocks.hints();
    hints.mark_changed();
    let mut is_behind = false;
    loop {
        tokio::select! {
            changed = hints.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY_DELAY), if is_behind => {}
            () = &mut stop => return,
        }
        let outcome = catch_up(&view, &*blocks, &*clock, on_loss).await;
        if let (Err(error), false) = (&outcome, is_behind) {
            tracing::warn!(%error, "block list not refreshed, the last known one stays in force");
        }
        is_behind = outcome.is_err();
    }
}

async fn catch_up(view: &BlockView, blocks: &dyn Blocks, clock: &dyn Clock, on_loss: OnLoss) -> Result<(), StateError> {
    loop {
        match blocks.since(view.position()).await? {
            BlockLog::Changes { at, .. } if at == view.position() => return Ok(()),
            BlockLog::Changes { changes, at } => view.apply(changes, at, clock.now()),
            BlockLog::Gap => {
                let set = blocks.load(clock.now()).await?;
                // A list that was lost while it was read came in part; the log tells.
                match blocks.since(set.at).await? {
                    BlockLog::Changes { .. } => view.replace(set),
                    BlockLog::Lost => return survive_loss(view, blocks, clock, on_loss).await,
                    BlockLog::Gap => return Err(StateError("the block list changed while it was read".to_owned())),
                }
            }
            BlockLog::Lost => return survive_loss(view, blocks, clock, on_loss).await,
        }
    }
}

async fn survive_loss(
    view: &BlockView,
    blocks: &dyn Blocks,
    clock: &dyn Clock,
    on_loss: OnLoss,
) -> Result<(), StateError> {
    view.add_missing(blocks.load(clock.now()).await?.blocks);
    match on_loss {
        // Before the first seed there is nothing to be lost.
        OnLoss::Wait if view.position() == BlockPosition::default() => Ok(()),
        OnLoss::Wait => {
            tracing::warn!("the state has lost the block list, the last known one stays in force");
            Ok(())
        }
        OnLoss::Seed => {
            let now = clock.now();
            let known: Vec<_> = view.blocks().into_iter().filter(|block| block.in_force(now)).collect();
            match known.is_empty() {
                true => tracing::info!("the block list is new"),
                false => tracing::warn!(blocks = known.len(), "the state has lost the block list, it is seeded again"),
            }
            blocks.seed(known).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    const MADE: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    #[test]
    fn the_way_of_a_block_is_timed_once_and_not_when_it_names_more_users() {
        let metrics = Metrics::start("test").unwrap();
        let view = BlockView::measured(BlockPropagation::new(&metrics.meter("test")));
        let block = Block {
            network: address::parse_network("192.0.2.7").unwrap(),
            reason: "test".into(),
            origin: BlockOrigin::Automatic,
            by: "picket".into(),
            since: MADE,
            until: None,
            scope: BlockScope::Anonymous,
            users: Vec::new(),
        };
        let named = Block { users: vec!["mallory".into()], ..block.clone() };
        let learns = |changes, version, after_ms| {
            let now = MADE.plus(Duration::from_millis(after_ms));
            view.apply(changes, BlockPosition { version, mark: 0 }, now);
        };
        learns(vec![BlockChange::Put(block.clone())], 1, 20);
        learns(vec![BlockChange::Put(named)], 2, 9000);
        learns(vec![BlockChange::Lifted(block.network)], 3, 9500);

        let shown = metrics.render().unwrap();
        let value = |name: &str| {
            let line =
                shown.lines().find_map(|line| line.strip_prefix(&format!("picket_block_propagation_seconds_{name}")));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        };
        assert_eq!((value("count"), value("sum")), (Some(1.0), Some(0.02)), "{shown}");
    }
}
