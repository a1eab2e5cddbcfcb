//! Several processes on one Redis: leases of the dead, hints, one list of blocks.

use std::sync::Arc;
use std::time::Duration;

use super::server::{Server, eventually};
use super::{UNUSED, block, messages_of};
use crate::clock::{Clock, SystemClock};
use crate::policy::{Environment, Policy};
use crate::state::{
    Acquired, BlockLog, BlockPosition, BlockView, Charge, Claim, FilePolicy, Lease, LeaseKey, LivePolicy, PolicySource,
    Published, RedisState, follow_and_seed_blocks, follow_blocks, follow_policy,
};
use crate::tasks::Tasks;
use crate::window::Quota;

fn alice(cap: u32) -> [Claim; 1] {
    [Claim { key: LeaseKey::User("alice".into()), cap }]
}

fn view_of(process: &RedisState, tasks: &Tasks) -> BlockView {
    let view = BlockView::default();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    tasks.spawn("blocks", follow_blocks(view.clone(), process.state().blocks, clock, tasks.stopped()));
    view
}

fn finds(view: &BlockView, address: &str) -> bool {
    view.find(address.parse().unwrap(), SystemClock.now()).is_some()
}

#[tokio::test]
async fn a_limit_holds_over_all_processes() {
    let server = Server::start().await;
    let processes = [server.process().await, server.process().await, server.process().await];
    let quota = Quota::new(10, 60_000);
    let mut granted = 0;
    for turn in 0..30 {
        let charge = processes[turn % 3].state().counters.charge(messages_of("alice"), quota, UNUSED).await.unwrap();
        granted += usize::from(matches!(charge, Charge::Granted(_)));
    }
    assert_eq!(granted, 10);
}

#[tokio::test]
async fn a_cap_holds_over_all_processes_under_a_race() {
    let server = Server::start().await;
    let processes = [server.process().await, server.process().await, server.process().await];
    let asks = (0..60).map(|n| {
        let leases = processes[n % 3].state().leases;
        async move { Lease::acquire(&leases, &alice(7), UNUSED).await.unwrap().ok() }
    });
    let held: Vec<_> = futures_util::future::join_all(asks).await.into_iter().flatten().collect();
    assert!(held.len() <= 7, "{} of 7", held.len());
    let leases = processes[0].state().leases;
    let mut more = Vec::new();
    eventually("what was refused in the race is free", async || {
        leases.held(&LeaseKey::User("alice".into())).await.unwrap() as usize == held.len()
    })
    .await;
    while let Ok(lease) = Lease::acquire(&leases, &alice(7), UNUSED).await.unwrap() {
        more.push(lease);
    }
    assert_eq!(held.len() + more.len(), 7);
    drop((held, more));
    let held = async || leases.held(&LeaseKey::User("alice".into())).await.unwrap() == 0;
    eventually("all came back", held).await;
}

#[tokio::test]
async fn x24_what_a_dead_process_held_is_free_within_ten_seconds() {
    let server = Server::start().await;
    let (process, its_tasks) = server.process_of_its_own().await;
    let other = server.process().await.state().leases;
    assert_eq!(process.state().leases.acquire(&alice(1), UNUSED).await.unwrap(), Acquired::Granted);
    assert_eq!(other.acquire(&alice(1), UNUSED).await.unwrap(), Acquired::Full { claim: 0 });
    its_tasks.stop(Duration::from_secs(1)).await;
    let death = tokio::time::Instant::now();
    loop {
        if other.acquire(&alice(1), UNUSED).await.unwrap() == Acquired::Granted {
            break;
        }
        assert!(death.elapsed() < Duration::from_secs(10), "still held");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(death.elapsed() > Duration::from_secs(6), "not before it is surely dead");
    drop(process);
}

#[tokio::test]
async fn x07_a_block_is_known_everywhere_at_once() {
    let server = Server::start().await;
    let (coordinator, node) = (server.process().await, server.process().await);
    coordinator.state().blocks.seed(Vec::new()).await.unwrap();
    let tasks = Tasks::default();
    let view = view_of(&node, &tasks);
    eventually("the view is loaded", async || view.version() > 0).await;
    let mut slowest = Duration::ZERO;
    for n in 1..50 {
        let address = format!("192.0.2.{n}");
        coordinator.state().blocks.put(block(&address)).await.unwrap();
        slowest = slowest.max(eventually("the node knows the block", async || finds(&view, &address)).await);
    }
    println!("a block is known after {slowest:?} at most");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    tasks.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn x07_without_any_hint_a_block_is_known_within_five_and_a_half_seconds() {
    let server = Server::start().await;
    let (coordinator, node) = (server.process().await, server.process().await);
    coordinator.state().blocks.seed(Vec::new()).await.unwrap();
    let tasks = Tasks::default();
    let view = view_of(&node, &tasks);
    eventually("the view is loaded", async || view.version() > 0).await;
    server.command(&["ACL", "SETUSER", "default", "resetchannels"]).await;
    server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    let start = tokio::time::Instant::now();
    // The script cannot publish its hint, and Redis keeps what a script did before it failed.
    assert!(coordinator.state().blocks.put(block("192.0.2.1")).await.is_err());
    eventually("the node knows the block", async || finds(&view, "192.0.2.1")).await;
    assert!(start.elapsed() < Duration::from_millis(5500), "{:?}", start.elapsed());
    tasks.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn x41_the_last_word_of_two_coordinators_is_what_everybody_sees() {
    let server = Server::start().await;
    let (one, other) = (server.process().await, server.process().await);
    one.state().blocks.seed(Vec::new()).await.unwrap();
    let tasks = Tasks::default();
    let views = [view_of(&one, &tasks), view_of(&other, &tasks)];
    for _ in 0..20 {
        one.state().blocks.put(block("192.0.2.1")).await.unwrap();
        other.state().blocks.lift(block("192.0.2.1").network, UNUSED).await.unwrap();
    }
    let last = other.state().blocks.load(UNUSED).await.unwrap();
    assert_eq!(last.blocks, []);
    eventually("all views show it", async || {
        views.iter().all(|view| view.position() == last.at && !finds(view, "192.0.2.1"))
    })
    .await;
    tasks.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn x10_a_list_with_another_history_is_a_gap_even_at_the_same_version() {
    let server = Server::start().await;
    let blocks = server.process().await.state().blocks;
    blocks.seed(Vec::new()).await.unwrap();
    blocks.put(block("192.0.2.1")).await.unwrap();
    let kept = blocks.load(UNUSED).await.unwrap().at;
    blocks.put(block("192.0.2.2")).await.unwrap();
    let lost = blocks.load(UNUSED).await.unwrap().at;

    // A failover to a replica that had not heard of the last change.
    let id = |at: BlockPosition| format!("{}-{}", at.version, at.mark);
    server.command(&["XDEL", "picket:{blocks}:log", &id(lost)]).await;
    server.command(&["XSETID", "picket:{blocks}:log", &id(kept)]).await;
    let version = blocks.put(block("192.0.2.3")).await.unwrap();
    assert_eq!(version, lost.version);
    assert_eq!(blocks.since(lost).await.unwrap(), BlockLog::Gap);
    assert!(matches!(blocks.since(kept).await.unwrap(), BlockLog::Changes { changes, .. } if changes.len() == 1));
}

#[tokio::test]
async fn x08_an_empty_redis_is_not_no_blocks_and_is_seeded_again() {
    let mut server = Server::start().await;
    let (coordinator, node, tasks) = (server.process().await, server.process().await, Tasks::default());
    coordinator.state().blocks.seed(Vec::new()).await.unwrap();
    let view = view_of(&node, &tasks);
    let known = BlockView::default();
    for n in 1..=9 {
        coordinator.state().blocks.put(block(&format!("192.0.2.{n}"))).await.unwrap();
    }
    known.replace(coordinator.state().blocks.load(UNUSED).await.unwrap());
    eventually("the node knows all", async || view.blocks().len() == 9).await;

    server.kill();
    server.start_again().await;
    eventually("redis is used again", async || node.state().blocks.put(block("198.51.100.1")).await.is_ok()).await;
    eventually("the node heard of the new block", async || finds(&view, "198.51.100.1")).await;
    assert_eq!(view.blocks().len(), 10, "what it knew stays in force");

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    tasks.spawn("seed", follow_and_seed_blocks(known, coordinator.state().blocks, clock, tasks.stopped()));
    eventually("the list is whole", async || {
        coordinator.state().blocks.load(UNUSED).await.is_ok_and(|set| set.blocks.len() == 10)
    })
    .await;
    coordinator.state().blocks.lift(block("192.0.2.1").network, UNUSED).await.unwrap();
    eventually("the node follows again", async || !finds(&view, "192.0.2.1")).await;
    assert_eq!(view.blocks().len(), 9);
    tasks.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn x08_a_hundred_thousand_blocks_are_seeded_within_five_seconds() {
    let server = Server::start().await;
    let process = server.process().await;
    let blocks: Vec<_> =
        (0..100_000u32).map(|n| block(&std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string())).collect();
    let start = tokio::time::Instant::now();
    process.state().blocks.seed(blocks).await.unwrap();
    let seeded = start.elapsed();
    let loaded = process.state().blocks.load(UNUSED).await.unwrap();
    println!("seeded in {seeded:?}, loaded in {:?}", start.elapsed() - seeded);
    assert_eq!(loaded.blocks.len(), 100_000);
    assert!(seeded < Duration::from_secs(5), "{seeded:?}");
}

#[tokio::test]
async fn a_full_log_is_a_gap_and_a_long_one_comes_in_parts() {
    let server = Server::start().await;
    let (process, tasks) = (server.process().await, Tasks::default());
    let state = process.state();
    state.blocks.seed(Vec::new()).await.unwrap();
    let view = BlockView::default();
    view.replace(state.blocks.load(UNUSED).await.unwrap());
    let change = async |times: usize| {
        for _ in 0..times / 2 {
            state.blocks.put(block("192.0.2.1")).await.unwrap();
            state.blocks.lift(block("192.0.2.1").network, UNUSED).await.unwrap();
        }
    };
    change(2500).await;
    state.blocks.put(block("192.0.2.2")).await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    tasks.spawn("blocks", follow_blocks(view.clone(), state.blocks.clone(), clock, tasks.stopped()));
    eventually("it caught up", async || view.version() == 2502).await;
    assert_eq!(view.blocks(), [block("192.0.2.2")]);
    let old = view.position();
    change(10_000).await;
    assert_eq!(state.blocks.since(old).await.unwrap(), BlockLog::Gap);
    tasks.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn x08_a_policy_that_redis_lost_is_put_back_under_its_version() {
    let mut server = Server::start().await;
    let (process, tasks) = (server.process().await, Tasks::default());
    let policies = process.state().policies;
    let live = LivePolicy::starting_with(Policy::default(), Environment::Production).unwrap();
    let file = FilePolicy { policy: live.current().document.clone(), source: PolicySource::State };
    tasks.spawn("policy", follow_policy(live.clone(), policies.clone(), file, UNUSED, tasks.stopped()));
    eventually("it is seeded", async || live.version() == 1).await;
    let mut next = Policy::default();
    next.security.allow_anonymous = !next.security.allow_anonymous;
    assert_eq!(policies.publish(next.clone(), Some(1), "admin", UNUSED).await.unwrap(), Published::Version(2));
    eventually("it is in force", async || live.version() == 2).await;
    server.kill();
    server.start_again().await;
    eventually("it is back", async || {
        policies
            .current()
            .await
            .is_ok_and(|current| current.is_some_and(|current| current.version == 2 && current.policy == next))
    })
    .await;
    tasks.stop(Duration::from_secs(1)).await;
}
