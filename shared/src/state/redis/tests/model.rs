//! The memory backend is the model: the same operations on both, and every answer is compared.

use ipnet::IpNet;
use proptest::prelude::*;

use super::server::{Server, eventually};
use crate::address::AddressKey;
use crate::clock::Timestamp;
use crate::policy::Policy;
use crate::state::{
    Acquired, Block, BlockLog, BlockOrigin, BlockScope, BlockView, Charge, Claim, CounterKey, Lead, LeaseKey,
    LimitName, Permit, PolicyVersion, Published, Put, State, Subject,
};
use crate::window::Quota;

#[derive(Clone, Debug)]
enum Step {
    Charge { who: usize, limit: u32, window_ms: u64 },
    Refund { which: prop::sample::Index },
    Acquire { claims: Vec<(usize, u32)> },
    Release { which: prop::sample::Index },
    Block { network: usize, lasts_ms: Option<u64>, origin: BlockOrigin },
    Lift { network: usize },
    Lead { network: usize, lasts_ms: u64 },
    Withdraw { network: usize },
    BeginTerm,
    Load,
    Follow,
    Publish { expected: Option<u64> },
    Restore { version: u64 },
    Wait { millis: u64 },
    ClockBack { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let windows = prop::sample::select(vec![50u64, 1000, 1013, 10_000, 60_000, 86_400_000]);
    let lasts = prop::option::of(0u64..5000);
    let origins = prop::sample::select(vec![BlockOrigin::Manual, BlockOrigin::Automatic]);
    let claims = prop::sample::subsequence(vec![0usize, 1, 2, 3], 1..3);
    prop_oneof![
        12 => (0usize..3, 1u32..6, windows).prop_map(|(who, limit, window_ms)| Step::Charge { who, limit, window_ms }),
        3 => any::<prop::sample::Index>().prop_map(|which| Step::Refund { which }),
        4 => (claims, 0u32..4).prop_map(|(keys, cap)| Step::Acquire { claims: keys.into_iter().map(|key| (key, cap)).collect() }),
        2 => any::<prop::sample::Index>().prop_map(|which| Step::Release { which }),
        4 => (0usize..4, lasts, origins).prop_map(|(network, lasts_ms, origin)| Step::Block { network, lasts_ms, origin }),
        2 => (0usize..4).prop_map(|network| Step::Lift { network }),
        3 => (0usize..4, 0u64..5000).prop_map(|(network, lasts_ms)| Step::Lead { network, lasts_ms }),
        1 => (0usize..4).prop_map(|network| Step::Withdraw { network }),
        1 => Just(Step::BeginTerm),
        1 => Just(Step::Load),
        2 => Just(Step::Follow),
        2 => prop::option::of(1u64..4).prop_map(|expected| Step::Publish { expected }),
        1 => (1u64..6).prop_map(|version| Step::Restore { version }),
        8 => prop_oneof![0u64..30, 0u64..2000, 900u64..61_000].prop_map(|millis| Step::Wait { millis }),
        1 => (0u64..5000).prop_map(|millis| Step::ClockBack { millis }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn redis_answers_what_memory_answers(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::start().await;
            let mut both = Both::new(State::memory(), server.state_by_caller().await).await;
            for step in &steps {
                both.play(step).await;
            }
            both.agree_on_what_is_held().await;
        });
    }
}

/// the two backends, and what was granted on both
struct Both {
    model: State,
    real: State,
    now: Timestamp,
    permits: Vec<Permit>,
    leases: Vec<Vec<LeaseKey>>,
    views: (BlockView, BlockView),
    /// as whom a leader blocks at the model: it may be of an earlier term
    lead: Lead,
}

/// declaring the list whole is a change of the log that memory does not have
const SEED_CHANGES: u64 = 1;

impl Both {
    async fn new(model: State, real: State) -> Self {
        let now = Timestamp::from_millis(1_000_000_000_000);
        let views = (BlockView::default(), BlockView::default());
        views.0.replace(model.blocks.load(now).await.unwrap());
        views.1.replace(real.blocks.load(now).await.unwrap());
        Both { model, real, now, permits: Vec::new(), leases: Vec::new(), views, lead: Lead::default() }
    }

    async fn play(&mut self, step: &Step) {
        match step {
            Step::Charge { who, limit, window_ms } => self.charge(counter(*who), Quota::new(*limit, *window_ms)).await,
            Step::Refund { which } => self.refund(which).await,
            Step::Acquire { claims } => {
                let claims: Vec<_> = claims.iter().map(|&(key, cap)| Claim { key: lease(key), cap }).collect();
                self.acquire(&claims).await;
            }
            Step::Release { which } => self.release(which),
            Step::Block { network, lasts_ms, origin } => self.block(networks()[*network], *lasts_ms, *origin).await,
            Step::Lift { network } => self.lift(networks()[*network]).await,
            Step::Lead { network, lasts_ms } => self.lead(networks()[*network], *lasts_ms).await,
            Step::Withdraw { network } => self.withdraw(networks()[*network]).await,
            Step::BeginTerm => self.begin_term().await,
            Step::Load => self.load().await,
            Step::Follow => self.follow().await,
            Step::Publish { expected } => self.publish(*expected).await,
            Step::Restore { version } => self.restore(*version).await,
            Step::Wait { millis } => self.now = Timestamp::from_millis(self.now.as_millis() + millis),
            Step::ClockBack { millis } => self.now = Timestamp::from_millis(self.now.as_millis() - millis),
        }
    }

    async fn charge(&mut self, key: CounterKey, quota: Quota) {
        let model = self.model.counters.charge(key.clone(), quota, self.now).await.unwrap();
        let real = self.real.counters.charge(key, quota, self.now).await.unwrap();
        assert_eq!(real, model);
        if let Charge::Granted(permit) = model {
            self.permits.push(permit);
        }
    }

    async fn refund(&mut self, which: &prop::sample::Index) {
        if !self.permits.is_empty() {
            let permit = self.permits.remove(which.index(self.permits.len()));
            self.model.counters.refund(permit.clone()).await.unwrap();
            self.real.counters.refund(permit).await.unwrap();
        }
    }

    async fn acquire(&mut self, claims: &[Claim]) {
        let model = self.model.leases.acquire(claims, self.now).await.unwrap();
        assert_eq!(self.real.leases.acquire(claims, self.now).await.unwrap(), model);
        if model == Acquired::Granted {
            self.leases.push(claims.iter().map(|claim| claim.key.clone()).collect());
        }
    }

    fn release(&mut self, which: &prop::sample::Index) {
        if !self.leases.is_empty() {
            let keys = self.leases.remove(which.index(self.leases.len()));
            self.model.leases.release(&keys);
            self.real.leases.release(&keys);
        }
    }

    async fn agree_on_what_is_held(&self) {
        for key in (0..4).map(lease) {
            let model = self.model.leases.held(&key).await.unwrap();
            let agrees = async || self.real.leases.held(&key).await.unwrap() == model;
            eventually(&format!("{key:?} is held {model} times"), agrees).await;
        }
    }

    fn block_of(&self, network: IpNet, lasts_ms: Option<u64>, origin: BlockOrigin) -> Block {
        let until = lasts_ms.map(|lasts| Timestamp::from_millis(self.now.as_millis() + lasts));
        Block {
            network,
            reason: "model".into(),
            origin,
            by: "proptest".into(),
            since: self.now,
            until,
            scope: BlockScope::Everyone,
            users: Vec::new(),
        }
    }

    async fn block(&mut self, network: IpNet, lasts_ms: Option<u64>, origin: BlockOrigin) {
        let block = self.block_of(network, lasts_ms, origin);
        let model = self.model.blocks.put(block.clone()).await.unwrap();
        assert_eq!(self.real.blocks.put(block).await.unwrap(), model + SEED_CHANGES);
    }

    async fn lift(&mut self, network: IpNet) {
        let model = self.model.blocks.lift(network, self.now).await.unwrap();
        assert_eq!(self.real.blocks.lift(network, self.now).await.unwrap(), model);
    }

    async fn lead(&mut self, network: IpNet, lasts_ms: u64) {
        let block = self.block_of(network, Some(lasts_ms), BlockOrigin::Automatic);
        let model = self.model.blocks.put_in_term(block.clone(), self.lead, self.now).await.unwrap();
        let real = self.real.blocks.put_in_term(block, self.real_lead(), self.now).await.unwrap();
        assert_eq!(
            real,
            match model.clone() {
                Put::Done(version) => Put::Done(version + SEED_CHANGES),
                Put::Unheard { lifts, heard } => Put::Unheard { lifts, heard: heard + SEED_CHANGES },
                refused => refused,
            }
        );
        match model {
            Put::Unheard { heard, .. } => self.lead.heard = heard,
            // The next one that leads has heard of nothing.
            Put::Superseded => self.lead = Lead { term: self.lead.term + 1, heard: 0 },
            _ => {}
        }
    }

    fn real_lead(&self) -> Lead {
        Lead { heard: self.lead.heard + SEED_CHANGES, ..self.lead }
    }

    async fn withdraw(&mut self, network: IpNet) {
        let model = self.model.blocks.withdraw(network, self.lead).await.unwrap();
        assert_eq!(self.real.blocks.withdraw(network, self.real_lead()).await.unwrap(), model);
    }

    async fn begin_term(&mut self) {
        let model = self.model.blocks.begin_term().await.unwrap();
        assert_eq!(self.real.blocks.begin_term().await.unwrap(), model);
    }

    async fn load(&mut self) {
        let model = self.model.blocks.load(self.now).await.unwrap();
        let real = self.real.blocks.load(self.now).await.unwrap();
        assert_eq!((real.at.version, real.blocks), (model.at.version + SEED_CHANGES, model.blocks));
    }

    async fn follow(&mut self) {
        catch_up(&self.model, &self.views.0).await;
        catch_up(&self.real, &self.views.1).await;
        assert_eq!(self.views.1.version(), self.views.0.version() + SEED_CHANGES);
        assert_eq!(self.views.1.blocks(), self.views.0.blocks());
    }

    async fn publish(&mut self, expected: Option<u64>) {
        let current = self.model.policies.current().await.unwrap().map(|current| current.version);
        // Half of them see what is in force.
        let expected = if expected.is_some_and(|version| version % 2 == 0) { current } else { expected };
        let mut policy = Policy::default();
        policy.security.allow_anonymous = expected.is_some();
        let model = self.model.policies.publish(policy.clone(), expected, "admin \"a\"\r\n", self.now).await.unwrap();
        let real: Published = self.real.policies.publish(policy, expected, "admin \"a\"\r\n", self.now).await.unwrap();
        assert_eq!(real, model);
        self.agree_on_policies().await;
    }

    async fn restore(&mut self, version: u64) {
        let lost = PolicyVersion { version, policy: Policy::default(), by: "restored".into(), at: self.now };
        self.model.policies.restore(lost.clone()).await.unwrap();
        self.real.policies.restore(lost).await.unwrap();
        self.agree_on_policies().await;
    }

    async fn agree_on_policies(&self) {
        assert_eq!(self.real.policies.current().await.unwrap(), self.model.policies.current().await.unwrap());
        assert_eq!(self.real.policies.history(3).await.unwrap(), self.model.policies.history(3).await.unwrap());
    }
}

async fn catch_up(state: &State, view: &BlockView) {
    loop {
        match state.blocks.since(view.position()).await.unwrap() {
            BlockLog::Changes { at, .. } if at == view.position() => return,
            BlockLog::Changes { changes, at } => view.apply(changes, at, Timestamp::default()),
            other => panic!("a view that follows sees {other:?}"),
        }
    }
}

fn counter(who: usize) -> CounterKey {
    let limits = [LimitName::Messages, LimitName::Connections, LimitName::Event("a b".into())];
    CounterKey { subject: Subject::User("alice".into()), limit: limits[who].clone() }
}

fn lease(which: usize) -> LeaseKey {
    let [one, other] = [7, 8].map(|host| LeaseKey::AnonymousOf(AddressKey::of([192, 0, 2, host].into())));
    let keys = [LeaseKey::Anonymous, one, other, LeaseKey::User("alice".into())];
    keys[which].clone()
}

fn networks() -> [IpNet; 4] {
    ["192.0.2.7/32", "192.0.2.0/24", "2001:db8::/48", "10.0.0.0/8"].map(|text| text.parse().unwrap())
}
