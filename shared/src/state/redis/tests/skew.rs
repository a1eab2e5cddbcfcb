//! Machines whose clocks are five minutes off: the cluster's clock is Redis's, for limits, blocks and leases alike.

use std::sync::Arc;
use std::time::Duration;

use super::server::{Server, eventually};
use super::{block, messages_of};
use crate::clock::{CLOCK_OFFSET_MAX_MS, Clock, SystemClock, Timestamp};
use crate::state::{
    Acquired, Block, BlockView, Charge, Claim, LeaseKey, RedisOptions, RedisState, follow_and_seed_blocks,
};
use crate::tasks::Tasks;
use crate::window::Quota;

const SKEW_MS: i64 = 300_000;

struct Skewed(i64);

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        SystemClock.now().shifted(self.0)
    }
}

async fn process(server: &Server, skew_ms: i64, tasks: &Tasks) -> RedisState {
    RedisState::connect(&server.url(), RedisOptions::default(), tasks, Arc::new(Skewed(skew_ms))).await.unwrap()
}

fn error_ms(clock: &dyn Clock) -> u64 {
    clock.now().as_millis().abs_diff(SystemClock.now().as_millis())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x16_clocks_five_minutes_off_change_no_limit_and_no_block() {
    let (server, tasks) = (Server::start().await, Tasks::default());
    let processes = [
        process(&server, SKEW_MS, &tasks).await,
        process(&server, 0, &tasks).await,
        process(&server, -SKEW_MS, &tasks).await,
    ];
    let clocks = processes.each_ref().map(RedisState::clock);
    let errors = clocks.each_ref().map(|clock| error_ms(&**clock));
    let offsets = clocks.each_ref().map(|clock| clock.offset_ms());
    println!("x16: offsets measured {offsets:?} ms, the clocks then err by {errors:?} ms");
    assert!(errors.iter().all(|error| *error <= 50), "{errors:?}");
    assert!(offsets[0].unsigned_abs() > CLOCK_OFFSET_MAX_MS && offsets[2].unsigned_abs() > CLOCK_OFFSET_MAX_MS);

    let (quota, mut granted) = (Quota::new(100, 60_000), 0);
    for turn in 0..300 {
        let now = clocks[turn % 3].now();
        let charge = processes[turn % 3].state().counters.charge(messages_of("alice"), quota, now).await.unwrap();
        granted += usize::from(matches!(charge, Charge::Granted(_)));
    }
    println!("x16: {granted} of 300 charges by three clocks, the limit is 100");
    assert_eq!(granted, 100);

    // Blocked for two seconds by one whose own clock is ahead; seen by one whose own clock is behind, and the reverse.
    let views = [BlockView::default(), BlockView::default(), BlockView::default()];
    for (view, (process, clock)) in views.iter().zip(processes.iter().zip(&clocks)) {
        let (view, blocks, clock) = (view.clone(), process.state().blocks, clock.clone());
        tasks.spawn("blocks", follow_and_seed_blocks(view, blocks, clock, tasks.stopped()));
    }
    let life = Duration::from_secs(2);
    for (index, address) in ["192.0.2.1", "192.0.2.2", "192.0.2.3"].into_iter().enumerate() {
        let until = Some(clocks[index].now().plus(life));
        let start = tokio::time::Instant::now();
        processes[index].state().blocks.put(Block { until, ..block(address) }).await.unwrap();
        let finds = |view: &BlockView, clock: &dyn Clock| view.find(address.parse().unwrap(), clock.now()).is_some();
        let seen = async |expected: bool| {
            eventually("all agree", async || {
                views.iter().zip(&clocks).all(|(view, clock)| finds(view, &**clock) == expected)
            })
            .await;
            start.elapsed()
        };
        let (began, ended) = (seen(true).await, seen(false).await);
        println!("x16: a block of {life:?} held everywhere from {began:?} to {ended:?}");
        assert!(ended.abs_diff(life) <= Duration::from_millis(200), "{ended:?}");
    }
    tasks.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn x16_a_process_with_a_wrong_clock_is_not_taken_for_dead_and_keeps_its_places() {
    let (server, tasks) = (Server::start().await, Tasks::default());
    let (late, right) = (process(&server, -SKEW_MS, &tasks).await, process(&server, 0, &tasks).await);
    let claim = [Claim { key: LeaseKey::User("alice".into()), cap: 1 }];
    assert_eq!(late.state().leases.acquire(&claim, late.clock().now()).await.unwrap(), Acquired::Granted);
    let beats = async |process: &RedisState| process.clock().now();
    let start = beats(&right).await;
    // Two heartbeats of each.
    eventually("two heartbeats", async || beats(&right).await.since(start) > Duration::from_millis(2200)).await;
    let asked = right.state().leases.acquire(&claim, right.clock().now()).await.unwrap();
    assert_eq!(asked, Acquired::Full { claim: 0 });
    println!("x16: a place held by a process five minutes late is still counted");
    tasks.stop(Duration::from_secs(1)).await;
}
