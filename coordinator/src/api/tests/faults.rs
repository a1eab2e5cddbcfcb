//! A state that answers late, or not at all.

use async_trait::async_trait;
use ipnet::IpNet;
use parking_lot::Mutex;
use picket_shared::clock::Timestamp;
use picket_shared::policy::Policy;
use picket_shared::state::{
    Answers, Begun, Block, BlockLog, BlockPosition, BlockSet, Blocks, Change, Lead, Policies, PolicyVersion, Published,
    Put, StateError, Withdrawal,
};
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore, watch};

fn lost() -> StateError {
    StateError("no answer in time".into())
}

/// blocks that are put, and answered when that is allowed: never, once nobody may allow it any more
pub struct SlowBlocks {
    blocks: Arc<dyn Blocks>,
    pub put: Notify,
    pub answers: Semaphore,
}

impl SlowBlocks {
    pub fn before(blocks: Arc<dyn Blocks>) -> Arc<Self> {
        Arc::new(SlowBlocks { blocks, put: Notify::new(), answers: Semaphore::new(0) })
    }
}

#[async_trait]
impl Blocks for SlowBlocks {
    async fn put(&self, block: Block) -> Result<u64, StateError> {
        let version = self.blocks.put(block).await?;
        self.put.notify_one();
        self.answers.acquire().await.map_err(|_| lost())?.forget();
        Ok(version)
    }

    async fn begin_term(&self) -> Result<u64, StateError> {
        self.blocks.begin_term().await
    }

    async fn put_in_term(&self, block: Block, lead: Lead, now: Timestamp) -> Result<Put, StateError> {
        self.blocks.put_in_term(block, lead, now).await
    }

    async fn withdraw(&self, network: IpNet, lead: Lead) -> Result<Withdrawal, StateError> {
        self.blocks.withdraw(network, lead).await
    }

    async fn lift(&self, network: IpNet, now: Timestamp) -> Result<bool, StateError> {
        self.blocks.lift(network, now).await
    }

    async fn load(&self, now: Timestamp) -> Result<BlockSet, StateError> {
        self.blocks.load(now).await
    }

    async fn since(&self, position: BlockPosition) -> Result<BlockLog, StateError> {
        self.blocks.since(position).await
    }

    async fn seed(&self, blocks: Vec<Block>) -> Result<(), StateError> {
        self.blocks.seed(blocks).await
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.blocks.hints()
    }
}

/// a call to the answers
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Begin,
    Answer,
    Forget,
}

/// answers of which some calls fail: to begin is done all the same, what comes later is not
pub struct LossyAnswers {
    answers: Arc<dyn Answers>,
    /// those that fail, each once
    failing: Mutex<Vec<Call>>,
}

impl LossyAnswers {
    pub fn before(answers: Arc<dyn Answers>, failing: &[Call]) -> Arc<Self> {
        Arc::new(LossyAnswers { answers, failing: Mutex::new(failing.to_vec()) })
    }

    fn passes(&self, call: Call) -> Result<(), StateError> {
        let mut failing = self.failing.lock();
        let found = failing.iter().position(|failing| *failing == call);
        found.map_or(Ok(()), |at| {
            failing.remove(at);
            Err(lost())
        })
    }
}

#[async_trait]
impl Answers for LossyAnswers {
    async fn begin(&self, change: &Change, now: Timestamp) -> Result<Begun, StateError> {
        let begun = self.answers.begin(change, now).await;
        self.passes(Call::Begin).and(begun)
    }

    async fn answer(&self, change: &Change, answer: String, now: Timestamp) -> Result<(), StateError> {
        self.passes(Call::Answer)?;
        self.answers.answer(change, answer, now).await
    }

    async fn forget(&self, change: &Change) -> Result<(), StateError> {
        self.passes(Call::Forget)?;
        self.answers.forget(change).await
    }
}

/// how the newest policy can be read
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    Sound,
    /// its document makes no sense
    Corrupt,
    /// its document is not told in time
    Away,
}

/// policies of which the documents are read well or badly
pub struct BadlyRead {
    policies: Arc<dyn Policies>,
    pub reading: Mutex<Reading>,
}

impl BadlyRead {
    pub fn before(policies: Arc<dyn Policies>) -> Arc<Self> {
        Arc::new(BadlyRead { policies, reading: Mutex::new(Reading::Sound) })
    }
}

#[async_trait]
impl Policies for BadlyRead {
    async fn current(&self) -> Result<Option<PolicyVersion>, StateError> {
        let reading = *self.reading.lock();
        if reading == Reading::Sound { self.policies.current().await } else { Err(lost()) }
    }

    async fn newest_version(&self) -> Result<u64, StateError> {
        self.policies.newest_version().await
    }

    async fn publish(
        &self,
        policy: Policy,
        expected: Option<u64>,
        by: &str,
        now: Timestamp,
    ) -> Result<Published, StateError> {
        self.policies.publish(policy, expected, by, now).await
    }

    async fn restore(&self, lost: PolicyVersion) -> Result<(), StateError> {
        self.policies.restore(lost).await
    }

    async fn history(&self, max: usize) -> Result<Vec<PolicyVersion>, StateError> {
        let reading = *self.reading.lock();
        match reading {
            Reading::Sound => self.policies.history(max).await,
            Reading::Corrupt => Ok(self.policies.history(max).await?.into_iter().skip(1).collect()),
            Reading::Away => Err(lost()),
        }
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.policies.hints()
    }
}
