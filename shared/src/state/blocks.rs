//! The block list: a set in the state with a versioned log, and each process's view of it with longest-prefix lookup.

use async_trait::async_trait;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use parking_lot::RwLock;
use prefix_trie::PrefixMap;
use serde::{Deserialize, Serialize, Serializer};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::watch;

use super::StateError;
use crate::address;
use crate::clock::{Clock, Timestamp};

/// an address or prefix that may not come in
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    #[serde(rename = "ip", serialize_with = "network_text")]
    pub network: IpNet,
    pub reason: String,
    pub origin: BlockOrigin,
    /// who blocked: an administrator's name, or `picket`
    pub by: String,
    pub since: Timestamp,
    /// `None` until it is lifted
    pub until: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockOrigin {
    Manual,
    Automatic,
}

impl Block {
    pub fn in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

fn network_text<S: Serializer>(network: &IpNet, serializer: S) -> Result<S::Ok, S::Error> {
    struct Text(IpNet);
    impl std::fmt::Display for Text {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            address::write_network(self.0, f)
        }
    }
    serializer.collect_str(&Text(*network))
}

/// one step of the log
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockChange {
    Put(Block),
    Lifted(IpNet),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedChange {
    pub version: u64,
    pub change: BlockChange,
}

/// the whole list at a version
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockSet {
    pub version: u64,
    pub blocks: Vec<Block>,
}

/// what happened since a version
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockLog {
    Changes(Vec<LoggedChange>),
    /// the log no longer reaches back that far: load the set
    Gap,
}

#[async_trait]
pub trait Blocks: Send + Sync {
    /// blocks, or replaces the block of the same network; answers the new version
    async fn put(&self, block: Block) -> Result<u64, StateError>;

    /// lifts the block of exactly this network; false if there is none in force
    async fn lift(&self, network: IpNet, now: Timestamp) -> Result<bool, StateError>;

    /// everything that is in force
    async fn load(&self, now: Timestamp) -> Result<BlockSet, StateError>;

    /// the changes after `version`, in order
    async fn since(&self, version: u64) -> Result<BlockLog, StateError>;

    /// changes when the list may have changed; a hint, never the truth
    fn hints(&self) -> watch::Receiver<u64>;
}

/// one process's view of the block list: lookups from memory, kept up to date by [`follow_blocks`]
#[derive(Clone)]
pub struct BlockView {
    shared: Arc<View>,
}

struct View {
    tables: RwLock<Tables>,
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct Tables {
    v4: PrefixMap<Ipv4Net, Block>,
    v6: PrefixMap<Ipv6Net, Block>,
}

impl Default for BlockView {
    fn default() -> Self {
        BlockView { shared: Arc::new(View { tables: RwLock::default(), version: watch::Sender::new(0) }) }
    }
}

impl BlockView {
    /// the block in force that holds `address`
    pub fn find(&self, address: IpAddr, now: Timestamp) -> Option<Block> {
        self.shared.tables.read().find(address::canonical(address), now)
    }

    /// changes whenever the view did, so that open sessions look again
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    pub fn version(&self) -> u64 {
        *self.shared.version.borrow()
    }

    pub(super) fn replace(&self, set: BlockSet) {
        let mut tables = Tables::default();
        for block in set.blocks {
            tables.put(block);
        }
        *self.shared.tables.write() = tables;
        self.shared.version.send_replace(set.version);
    }

    pub(super) fn apply(&self, changes: Vec<LoggedChange>) {
        let Some(newest) = changes.last().map(|change| change.version) else {
            return;
        };
        let mut tables = self.shared.tables.write();
        for logged in changes {
            match logged.change {
                BlockChange::Put(block) => tables.put(block),
                BlockChange::Lifted(network) => tables.remove(network),
            }
        }
        drop(tables);
        self.shared.version.send_replace(newest);
    }
}

impl Tables {
    fn put(&mut self, block: Block) {
        match block.network {
            IpNet::V4(network) => drop(self.v4.insert(network, block)),
            IpNet::V6(network) => drop(self.v6.insert(network, block)),
        }
    }

    fn remove(&mut self, network: IpNet) {
        match network {
            IpNet::V4(network) => drop(self.v4.remove(&network)),
            IpNet::V6(network) => drop(self.v6.remove(&network)),
        }
    }

    /// the most specific block, or a wider one when that has ended
    fn find(&self, address: IpAddr, now: Timestamp) -> Option<Block> {
        let in_force = |block: &&Block| block.in_force(now);
        match address {
            IpAddr::V4(v4) => self.v4.cover(&Ipv4Net::from(v4)).map(|(_, block)| block).filter(in_force).last().cloned(),
            IpAddr::V6(v6) => self.v6.cover(&Ipv6Net::from(v6)).map(|(_, block)| block).filter(in_force).last().cloned(),
        }
    }
}

/// keeps `view` equal to the list until `stop` resolves
pub async fn follow_blocks(view: BlockView, blocks: Arc<dyn Blocks>, clock: Arc<dyn Clock>, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut hints = blocks.hints();
    hints.mark_changed();
    loop {
        tokio::select! {
            changed = hints.changed() => if changed.is_err() { return },
            () = &mut stop => return,
        }
        if let Err(error) = catch_up(&view, &*blocks, &*clock).await {
            tracing::warn!(%error, "block list not refreshed, the last known one stays in force");
        }
    }
}

async fn catch_up(view: &BlockView, blocks: &dyn Blocks, clock: &dyn Clock) -> Result<(), StateError> {
    match blocks.since(view.version()).await? {
        BlockLog::Changes(changes) => view.apply(changes),
        BlockLog::Gap => view.replace(blocks.load(clock.now()).await?),
    }
    Ok(())
}
