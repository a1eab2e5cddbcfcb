//! The block list: a hash, its log as a stream, and the ends of its blocks, all in one slot.

use async_trait::async_trait;
use fred::types::Value;
use ipnet::IpNet;
use std::time::Duration;
use tokio::sync::watch;

use super::link::Lane;
use super::reply::{Reply, integer};
use super::{Redis, millis, number, wire};
use crate::address;
use crate::clock::Timestamp;
use crate::state::{
    BLOCKS_MAX, Block, BlockChange, BlockLog, BlockOrigin, BlockPosition, BlockSet, Blocks, LIFTS_MAX, Lead, Lift, Put,
    StateError, Withdrawal,
};

/// changes in one answer
const CHANGES_MAX: u64 = 1000;
/// how long after the last lift all are remembered: coordinators read of them in the audit log long before
const LIFTS_LIFE: Duration = Duration::from_secs(86_400);
/// blocks in one part of a load, of a seed, and that end in one step
const PART: usize = 500;

#[async_trait]
impl Blocks for Redis {
    async fn put(&self, block: Block) -> Result<u64, StateError> {
        self.put_block(Lane::Upkeep, &block).await
    }

    async fn put_durably(&self, block: Block) -> Result<(u64, bool), StateError> {
        let version = self.put_block(Lane::Durable, &block).await?;
        let [list, ..] = self.keys.blocks();
        Ok((version, self.reaches_a_replica(&list).await))
    }

    async fn begin_term(&self) -> Result<u64, StateError> {
        let keys = self.keys.blocks().into();
        let reply = self.link.call(Lane::Upkeep, &self.scripts.block_term, keys, Vec::new()).await?;
        Ok(integer(&reply)?.unsigned_abs())
    }

    async fn put_in_term(&self, block: Block, lead: Lead, now: Timestamp) -> Result<Put, StateError> {
        let leads = vec![number(lead.term), self.now(now), number(lead.heard), number(CHANGES_MAX)];
        let reply = self.call_put(Lane::Upkeep, &block, leads).await?;
        if reply.is_array() {
            return self.unheard(Reply::from(reply));
        }
        match integer(&reply)? {
            0 => Ok(Put::Superseded),
            -1 => Ok(Put::Manual),
            version => Ok(Put::Done(version.unsigned_abs())),
        }
    }

    async fn withdraw(&self, network: IpNet, lead: Lead) -> Result<Withdrawal, StateError> {
        let arguments = self.change(vec![network.to_string().into(), number(lead.term)]);
        let reply =
            self.link.call(Lane::Upkeep, &self.scripts.block_withdraw, self.keys.blocks().into(), arguments).await?;
        match integer(&reply)? {
            0 => Ok(Withdrawal::Superseded),
            -1 => Ok(Withdrawal::Manual),
            _ => Ok(Withdrawal::Done),
        }
    }

    async fn lift(&self, network: IpNet, now: Timestamp) -> Result<bool, StateError> {
        // Its date is the caller's, as that of the record which tells of it.
        let date = number(now.as_millis());
        let most = number(LIFTS_MAX as u64);
        let needed = vec![network.to_string().into(), self.now(now), date, most, millis(LIFTS_LIFE)];
        let arguments = self.change(needed);
        let reply =
            self.link.call(Lane::Upkeep, &self.scripts.block_lift, self.keys.blocks().into(), arguments).await?;
        Ok(integer(&reply)? == 1)
    }

    /// reads in parts after the position is known: what changes meanwhile is in the log after that position
    async fn load(&self, now: Timestamp) -> Result<BlockSet, StateError> {
        let at = match self.expires_blocks {
            true => self.expire_blocks(now).await?,
            false => self.block_position().await?,
        };
        let mut blocks = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            cursor = self.load_part(cursor, &mut blocks).await?;
            if cursor == "0" {
                break;
            }
        }
        blocks.sort_by_key(|block| block.network);
        blocks.dedup_by_key(|block| block.network);
        Ok(BlockSet { at, blocks })
    }

    async fn since(&self, position: BlockPosition) -> Result<BlockLog, StateError> {
        let arguments =
            vec![position.version.to_string().into(), position.mark.to_string().into(), number(CHANGES_MAX)];
        let reply =
            self.link.call(Lane::Upkeep, &self.scripts.block_since, self.keys.blocks().into(), arguments).await?;
        let mut reply = Reply::from(reply);
        match reply.text()?.as_str() {
            "lost" => Ok(BlockLog::Lost),
            "gap" => Ok(BlockLog::Gap),
            _ => self.changes(reply),
        }
    }

    async fn seed(&self, blocks: Vec<Block>) -> Result<(), StateError> {
        let mut parts = blocks.chunks(PART).peekable();
        let mut part = parts.next().unwrap_or_default();
        loop {
            let next = parts.next();
            let mut arguments = self.change(vec![number(u64::from(next.is_none()))]);
            for block in part {
                arguments.extend(stored(block)?);
            }
            self.link.call(Lane::Upkeep, &self.scripts.block_seed, self.keys.blocks().into(), arguments).await?;
            match next {
                Some(next) => part = next,
                None => return Ok(()),
            }
        }
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.blocks.subscribe()
    }
}

impl Redis {
    /// removes blocks that have ended; answers where the log is then
    pub(super) async fn expire_blocks(&self, now: Timestamp) -> Result<BlockPosition, StateError> {
        loop {
            let arguments = self.change(vec![self.now(now), number(PART as u64)]);
            let reply =
                self.link.call(Lane::Upkeep, &self.scripts.block_expire, self.keys.blocks().into(), arguments).await?;
            let mut reply = Reply::from(reply);
            let removed = reply.number()?;
            let at = BlockPosition { version: reply.number()?, mark: reply.number()? };
            if removed < PART as u64 {
                return Ok(at);
            }
        }
    }

    async fn block_position(&self) -> Result<BlockPosition, StateError> {
        let script = &self.scripts.block_position;
        let mut reply = Reply::from(self.link.call(Lane::Upkeep, script, self.keys.blocks().into(), vec![]).await?);
        Ok(BlockPosition { version: reply.number()?, mark: reply.number()? })
    }

    async fn put_block(&self, lane: Lane, block: &Block) -> Result<u64, StateError> {
        let anyone = vec![Value::from_static_str("")];
        Ok(integer(&self.call_put(lane, block, anyone).await?)?.unsigned_abs())
    }

    async fn call_put(&self, lane: Lane, block: &Block, leads: Vec<Value>) -> Result<Value, StateError> {
        let mut arguments = self.change(vec![number(BLOCKS_MAX as u64)]);
        arguments.extend(stored(block)?);
        arguments.extend(leads);
        self.link.call(lane, &self.scripts.block_put, self.keys.blocks().into(), arguments).await
    }

    fn unheard(&self, mut reply: Reply) -> Result<Put, StateError> {
        let heard = reply.number()?;
        let mut lifts = Vec::new();
        while !reply.is_empty() {
            let (network, at) = (reply.text()?, Timestamp::from_millis(reply.number()?));
            match address::parse_network(&network) {
                Some(network) => lifts.push(Lift { network, at }),
                None => self.skip_corrupt("lift"),
            }
        }
        Ok(Put::Unheard { lifts, heard })
    }

    /// the arguments of a change: the seed of a history that may begin, the channel, and what the change needs
    fn change(&self, needed: Vec<Value>) -> Vec<Value> {
        let mut arguments = vec![crate::random::hex(16).into(), self.keys.blocks_channel().into()];
        arguments.extend(needed);
        arguments
    }

    async fn load_part(&self, cursor: String, blocks: &mut Vec<Block>) -> Result<String, StateError> {
        let arguments = vec![cursor.into(), number(PART as u64)];
        let reply =
            self.link.call(Lane::Upkeep, &self.scripts.block_page, self.keys.blocks().into(), arguments).await?;
        let mut reply = Reply::from(reply);
        let next = reply.text()?;
        let mut part = Reply::from(reply.value()?);
        while !part.is_empty() {
            part.value()?;
            match part.bytes()?.and_then(|bytes| wire::decode(&bytes)) {
                Some(block) => blocks.push(block),
                None => self.skip_corrupt("block"),
            }
        }
        Ok(next)
    }

    fn changes(&self, mut reply: Reply) -> Result<BlockLog, StateError> {
        let at = BlockPosition { version: reply.number()?, mark: reply.number()? };
        let mut changes = Vec::new();
        while !reply.is_empty() {
            let (network, block) = (reply.value()?.as_string(), reply.value()?.into_owned_bytes());
            match (network.as_deref(), block.map(|bytes| wire::decode(&bytes))) {
                (_, Some(Some(block))) => changes.push(BlockChange::Put(block)),
                // The mark of a list that was declared whole names no network.
                (Some(""), None) => {}
                (Some(network), None) => match address::parse_network(network) {
                    Some(network) => changes.push(BlockChange::Lifted(network)),
                    None => self.skip_corrupt("change of the block list"),
                },
                _ => self.skip_corrupt("change of the block list"),
            }
        }
        Ok(BlockLog::Changes { changes, at })
    }
}

/// network, block, end or nothing, and whether it is automatic, as scripts take them
fn stored(block: &Block) -> Result<[Value; 4], StateError> {
    let ends = block.until.map_or(Value::from_static_str(""), |until| number(until.as_millis()));
    let automatic = number(u64::from(block.origin == BlockOrigin::Automatic));
    Ok([block.network.to_string().into(), Value::Bytes(wire::encode(block)?.into()), ends, automatic])
}
