//! Nodes that share quotas over the model of the state, with a clock moved by hand and a network that loses things: the scenarios
//! of the reference model.

use super::super::shares_model::Book;
use super::super::{LimitName, Memory, Subject};
use super::*;
use crate::clock::ManualClock;
use proptest::prelude::*;
use std::sync::atomic::AtomicU64;

const START: Timestamp = Timestamp::from_millis(1_764_000_000_000);

/// what may happen to a trip
#[derive(Clone, Copy, Debug)]
struct Losses {
    /// of a thousand
    requests: u64,
    replies: u64,
    repeats: u64,
}

/// the way of one fleet to the state
struct Network {
    book: Book,
    losses: Mutex<Losses>,
    random: AtomicU64,
    trips: AtomicU64,
}

impl Network {
    fn new(losses: Losses, seed: u64) -> Self {
        Network {
            book: Book::default(),
            losses: Mutex::new(losses),
            random: AtomicU64::new(seed.wrapping_mul(2) + 1),
            trips: AtomicU64::new(0),
        }
    }

    /// xorshift64 (Marsaglia 2003)
    fn happens(&self, of_a_thousand: u64) -> bool {
        let mut x = self.random.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.store(x, Ordering::Relaxed);
        (x >> 11) % 1000 < of_a_thousand
    }

    fn losses(&self) -> Losses {
        *self.losses.lock()
    }

    fn lose(&self, of_a_thousand: u64) -> Result<(), StateError> {
        if self.happens(of_a_thousand) { Err(StateError("lost".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl Shares for Network {
    async fn take(
        &self,
        key: &CounterKey,
        quota: Quota,
        share: ShareId,
        life: Duration,
        spent: Option<&Spent>,
        now: Timestamp,
    ) -> Result<Taken, StateError> {
        self.trips.fetch_add(1, Ordering::Relaxed);
        self.lose(self.losses().requests)?;
        let taken = self.book.take(key, quota, share, life, spent, now).await;
        self.lose(self.losses().replies)?;
        taken
    }

    async fn settle(&self, key: &CounterKey, quota: Quota, spent: &Spent, now: Timestamp) -> Result<(), StateError> {
        self.trips.fetch_add(1, Ordering::Relaxed);
        self.lose(self.losses().requests)?;
        self.book.settle(key, quota, spent, now).await?;
        if self.happens(self.losses().repeats) {
            self.book.settle(key, quota, spent, now).await?;
        }
        Ok(())
    }
}

struct Fleet {
    nodes: Vec<Arc<Holdings>>,
    network: Arc<Network>,
    clock: Arc<ManualClock>,
}

impl Fleet {
    fn of(nodes: usize, losses: Losses, seed: u64) -> Self {
        let (network, clock) = (Arc::new(Network::new(losses, seed)), Arc::new(ManualClock::at(START)));
        let nodes = (0..nodes).map(|_| node(&network, &clock)).collect();
        Fleet { nodes, network, clock }
    }

    /// one use at a node; whether it was admitted. Without an answer of the state it is not
    async fn uses(&self, node: usize, quota: Quota) -> bool {
        for node in &self.nodes {
            node.settle(|share, now| now >= share.until).await;
        }
        let charge = self.nodes[node].charge(key(), quota, self.clock.now()).await;
        matches!(charge, Ok(Charge::Granted(_)))
    }
}

fn node(network: &Arc<Network>, clock: &Arc<ManualClock>) -> Arc<Holdings> {
    Arc::new(Holdings::new(Arc::new(Memory::default()), network.clone(), clock.clone(), Identities::new(1000)))
}

fn key() -> CounterKey {
    CounterKey { subject: Subject::User("alice".into()), limit: LimitName::Messages }
}

const NO_LOSSES: Losses = Losses { requests: 0, replies: 0, repeats: 0 };

fn most_in_any_trailing_window(admitted: &[u64], window_ms: u64) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, end) in admitted.iter().enumerate() {
        while admitted[first] + window_ms <= *end {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most
}

fn run<T>(story: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(story)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn x01_no_arrivals_losses_or_deaths_put_more_than_the_limit_into_a_trailing_window(
        limit in prop::sample::select(vec![1u32, 7, 100]),
        nodes in prop::sample::select(vec![1usize, 3, 8]),
        losses in prop::sample::select(vec![0u64, 30]),
        deaths in prop::sample::select(vec![0u64, 20]),
        seed in any::<u64>(),
        bursts in prop::collection::vec(
            (prop::sample::select(vec![5u64, 40, 150, 300]), prop::sample::select(vec![200u64, 990, 7000, 29_900, 30_100, 59_000, 59_900, 60_010, 61_000])),
            2..7,
        ),
    ) {
        run(async {
            let quota = Quota::new(limit, 60_000);
            let mut fleet = Fleet::of(nodes, Losses { requests: losses, replies: losses, repeats: losses }, seed);
            let (mut now, mut admitted) = (0, Vec::new());
            for (uses, gap) in bursts {
                for one in 0..uses {
                    let which = usize::try_from((seed ^ one.wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 33).unwrap() % nodes;
                    if fleet.network.happens(deaths) {
                        fleet.nodes[which] = node(&fleet.network, &fleet.clock);
                    }
                    if fleet.uses(which, quota).await {
                        admitted.push(now);
                    }
                    if one % 15 == 0 {
                        now += 1;
                        fleet.clock.advance(Duration::from_millis(1));
                    }
                }
                now += gap;
                fleet.clock.advance(Duration::from_millis(gap));
            }
            prop_assert!(most_in_any_trailing_window(&admitted, 60_000) <= limit as usize);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn shares_admit_nearly_what_an_exact_window_admits_in_few_trips() {
    println!("limit nodes demand/limit | trips per 1,000 admitted | admitted ÷ exact");
    for limit in [100u32, 1000] {
        for nodes in [1usize, 3, 8] {
            for demand in [0.9, 0.95, 3.0, 30.0] {
                let quota = Quota::new(limit, 60_000);
                let fleet = Fleet::of(nodes, NO_LOSSES, 7);
                let mut exact = crate::window::Window::default();
                let (mut admitted, mut by_window) = (0u32, 0u32);
                let gap = 60_000.0 / (f64::from(limit) * demand);
                let uses = (f64::from(limit) * demand * 8.0) as u32;
                let mut time = 0.0;
                for one in 0..uses {
                    time += gap;
                    let due = START.plus(Duration::from_millis(time as u64));
                    fleet.clock.advance(due.since(fleet.clock.now()));
                    admitted += u32::from(fleet.uses(one as usize * 7 % nodes, quota).await);
                    by_window += u32::from(exact.admit(quota, due) == crate::window::Verdict::Admitted);
                }
                let trips = fleet.network.trips.load(Ordering::Relaxed) * 1000 / u64::from(admitted);
                let part = f64::from(admitted) / f64::from(by_window);
                println!("{limit:5} {nodes:5} {demand:12} | {trips:24} | {part:.3}");
                let trips_max = 16_000 / u64::from(limit);
                assert!(part >= 0.97, "limit {limit}, {nodes} nodes, {demand} times: {part}");
                assert!(nodes > 1 || trips <= trips_max, "limit {limit}, {demand} times: {trips} trips");
            }
        }
    }
}

#[tokio::test]
async fn a_refused_use_costs_no_trip() {
    let fleet = Fleet::of(1, NO_LOSSES, 1);
    let quota = Quota::new(100, 60_000);
    let mut admitted = 0;
    for _ in 0..1000 {
        admitted += u32::from(fleet.uses(0, quota).await);
    }
    let trips = fleet.network.trips.load(Ordering::Relaxed);
    println!("{admitted} of 1,000 admitted in {trips} trips");
    assert!((97..=100).contains(&admitted) && trips <= 15, "{admitted} {trips}");
}

#[tokio::test]
async fn a_permit_given_back_makes_room_for_one() {
    let fleet = Fleet::of(1, NO_LOSSES, 1);
    let quota = Quota::new(1, 60_000);
    let Charge::Granted(permit) = fleet.nodes[0].charge(key(), quota, fleet.clock.now()).await.unwrap() else {
        panic!("an empty quota refused");
    };
    fleet.nodes[0].refund(permit).await.unwrap();
    assert!(fleet.uses(0, quota).await);
}

#[tokio::test]
async fn a_lost_share_costs_at_most_a_window_and_a_half() {
    let fleet = Fleet::of(1, Losses { replies: 1000, ..NO_LOSSES }, 1);
    let quota = Quota::new(10, 60_000);
    for _ in 0..50 {
        assert!(!fleet.uses(0, quota).await);
    }
    *fleet.network.losses.lock() = NO_LOSSES;
    let healthy = node(&fleet.network, &fleet.clock);
    assert!(matches!(healthy.charge(key(), quota, fleet.clock.now()).await.unwrap(), Charge::Exhausted { .. }));
    fleet.clock.advance(Duration::from_secs(92));
    assert!(matches!(healthy.charge(key(), quota, fleet.clock.now()).await.unwrap(), Charge::Granted(_)));
}
