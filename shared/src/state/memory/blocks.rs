//! The block list as a map, with the last changes as its log.

use async_trait::async_trait;
use ipnet::IpNet;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::watch;

use super::Memory;
use crate::clock::Timestamp;
use crate::state::{
    BLOCKS_MAX, Block, BlockChange, BlockLog, BlockOrigin, BlockPosition, BlockSet, Blocks, LIFTS_MAX, Lead, Lift, Put,
    StateError, Withdrawal,
};

/// changes that the log keeps; whoever is further behind loads the set
const LOG_CHANGES_MAX: usize = 4096;

pub(super) struct List {
    blocks: Mutex<Entries>,
    hint: watch::Sender<u64>,
}

#[derive(Default)]
struct Entries {
    version: u64,
    term: u64,
    blocks: BTreeMap<IpNet, Block>,
    /// (version, change), oldest first
    log: VecDeque<(u64, BlockChange)>,
    /// (version, lift), oldest first
    lifts: VecDeque<(u64, Lift)>,
}

impl Default for List {
    fn default() -> Self {
        List { blocks: Mutex::default(), hint: watch::Sender::new(0) }
    }
}

impl Entries {
    fn log(&mut self, change: BlockChange) -> u64 {
        self.version += 1;
        self.log.push_back((self.version, change));
        if self.log.len() > LOG_CHANGES_MAX {
            self.log.pop_front();
        }
        self.version
    }

    /// one process has one history, so its mark says nothing
    fn at(&self) -> BlockPosition {
        BlockPosition { version: self.version, mark: 0 }
    }

    fn make_room(&mut self) {
        let automatic = self.blocks.values().filter(|block| block.origin == BlockOrigin::Automatic);
        let soonest = automatic.min_by_key(|block| block.until.map_or(u64::MAX, Timestamp::as_millis));
        if let Some(network) = soonest.map(|block| block.network) {
            self.blocks.remove(&network);
            self.log(BlockChange::Lifted(network));
        }
    }
}

#[async_trait]
impl Blocks for Memory {
    async fn put(&self, block: Block) -> Result<u64, StateError> {
        let mut entries = self.blocks.blocks.lock();
        if entries.blocks.len() >= BLOCKS_MAX && !entries.blocks.contains_key(&block.network) {
            entries.make_room();
        }
        entries.blocks.insert(block.network, block.clone());
        let version = entries.log(BlockChange::Put(block));
        self.blocks.hint.send_replace(version);
        Ok(version)
    }

    async fn begin_term(&self) -> Result<u64, StateError> {
        let mut entries = self.blocks.blocks.lock();
        entries.term += 1;
        Ok(entries.term)
    }

    async fn put_in_term(&self, block: Block, lead: Lead, now: Timestamp) -> Result<Put, StateError> {
        {
            let entries = self.blocks.blocks.lock();
            if entries.term > lead.term {
                return Ok(Put::Superseded);
            }
            let unheard: Vec<_> = entries.lifts.iter().filter(|(version, _)| *version > lead.heard).cloned().collect();
            if let Some((heard, _)) = unheard.last() {
                return Ok(Put::Unheard { heard: *heard, lifts: unheard.into_iter().map(|(_, lift)| lift).collect() });
            }
            let held = entries.blocks.get(&block.network);
            if held.is_some_and(|held| held.origin == BlockOrigin::Manual && held.in_force(now)) {
                return Ok(Put::Manual);
            }
        }
        self.put(block).await.map(Put::Done)
    }

    async fn withdraw(&self, network: IpNet, lead: Lead) -> Result<Withdrawal, StateError> {
        let mut entries = self.blocks.blocks.lock();
        if entries.term > lead.term {
            return Ok(Withdrawal::Superseded);
        }
        let Some(block) = entries.blocks.get(&network) else {
            return Ok(Withdrawal::Done);
        };
        if block.origin == BlockOrigin::Manual {
            return Ok(Withdrawal::Manual);
        }
        entries.blocks.remove(&network);
        let version = entries.log(BlockChange::Lifted(network));
        self.blocks.hint.send_replace(version);
        Ok(Withdrawal::Done)
    }

    async fn lift(&self, network: IpNet, now: Timestamp) -> Result<bool, StateError> {
        let mut entries = self.blocks.blocks.lock();
        let Some(block) = entries.blocks.remove(&network) else {
            return Ok(false);
        };
        let version = entries.log(BlockChange::Lifted(network));
        self.blocks.hint.send_replace(version);
        if !block.in_force(now) {
            return Ok(false);
        }
        entries.lifts.push_back((version, Lift { network, at: now }));
        if entries.lifts.len() > LIFTS_MAX {
            entries.lifts.pop_front();
        }
        Ok(true)
    }

    async fn load(&self, now: Timestamp) -> Result<BlockSet, StateError> {
        let mut entries = self.blocks.blocks.lock();
        let ended: Vec<_> =
            entries.blocks.values().filter(|block| !block.in_force(now)).map(|block| block.network).collect();
        for network in ended {
            entries.blocks.remove(&network);
            entries.log(BlockChange::Lifted(network));
        }
        Ok(BlockSet { at: entries.at(), blocks: entries.blocks.values().cloned().collect() })
    }

    async fn since(&self, position: BlockPosition) -> Result<BlockLog, StateError> {
        let entries = self.blocks.blocks.lock();
        let version = position.version;
        let reaches_back = entries.log.front().is_none_or(|(oldest, _)| *oldest <= version + 1);
        if version > entries.version || !reaches_back {
            return Ok(BlockLog::Gap);
        }
        let changes =
            entries.log.iter().filter(|(logged, _)| *logged > version).map(|(_, change)| change.clone()).collect();
        Ok(BlockLog::Changes { changes, at: entries.at() })
    }

    /// memory that is there was never lost
    async fn seed(&self, _blocks: Vec<Block>) -> Result<(), StateError> {
        Ok(())
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.blocks.hint.subscribe()
    }
}
