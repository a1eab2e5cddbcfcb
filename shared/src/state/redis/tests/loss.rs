//! A Redis that is emptied under running processes: it is noticed at once, blocks stay in force, and caps hold.

use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use super::server::{Server, eventually};
use super::{UNUSED, block};
use crate::clock::{Clock, SystemClock};
use crate::state::{
    BlockView, Claim, KnownNodes, Lease, LeaseKey, Leases, RedisState, Stance, Stances, WithStance,
    follow_and_seed_blocks, follow_blocks,
};
use crate::tasks::Tasks;

const NODES: usize = 3;
const BLOCKS: u32 = 100_000;

fn address_of(n: u32) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from(0x0a00_0000 + n)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x08_an_emptied_redis_has_a_hundred_thousand_blocks_again_within_five_seconds_and_nobody_slips_in() {
    const SEEDED_WITHIN: Duration = Duration::from_secs(5);
    let server = Server::start().await;
    let (coordinator, node, tasks) = (server.process().await, server.process().await, Tasks::default());
    let (known, view) = (BlockView::default(), BlockView::default());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    known.add_missing((0..BLOCKS).map(|n| block(&address_of(n).to_string())).collect());
    let list = coordinator.state().blocks;
    tasks.spawn("seed", follow_and_seed_blocks(known, list, clock.clone(), tasks.stopped()));
    tasks.spawn("blocks", follow_blocks(view.clone(), node.state().blocks, clock, tasks.stopped()));
    eventually("the node knows all", async || view.blocks().len() == BLOCKS as usize).await;
    let is_whole = async || {
        let whole = server.command(&["EXISTS", "picket:{blocks}:whole"]).await.as_u64();
        whole == Some(1) && server.command(&["HLEN", "picket:{blocks}:list"]).await.as_u64() == Some(BLOCKS.into())
    };

    // The second time comes right after everybody looked: the longest way to the next look.
    for time in 1..=2 {
        server.command(&["FLUSHALL"]).await;
        let start = Instant::now();
        let (mut looks, mut slipped) = (0u32, 0u32);
        while !is_whole().await {
            assert!(start.elapsed() < SEEDED_WITHIN, "not seeded again within {SEEDED_WITHIN:?}");
            for n in (0..BLOCKS).step_by(997) {
                looks += 1;
                slipped += u32::from(view.find(address_of(n).into(), SystemClock.now()).is_none());
            }
        }
        println!(
            "x08: {BLOCKS} blocks seeded {:?} after FLUSHALL {time}; {slipped} of {looks} looks let in",
            start.elapsed()
        );
        assert_eq!(slipped, 0);
    }
    tasks.stop(Duration::from_secs(1)).await;
}

/// what a node has in front of Redis
fn limits(process: &RedisState) -> Arc<dyn Leases> {
    let (state, known) = (process.state(), KnownNodes::default());
    known.remember(NODES as u32);
    Arc::new(WithStance::new(state.counters, state.leases, Stances::all(Stance::Share), known, Arc::default()))
}

async fn race(nodes: &[Arc<dyn Leases>], claim: &Claim, on_each: usize) -> Vec<Lease> {
    let racers = (0..on_each * nodes.len())
        .map(|n| Lease::acquire(&nodes[n % nodes.len()], std::slice::from_ref(claim), UNUSED));
    join_all(racers).await.into_iter().filter_map(|outcome| outcome.unwrap().ok()).collect()
}

fn everyone(cap: u32) -> Claim {
    Claim { key: LeaseKey::Anonymous, cap }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x08_a_cap_raced_from_three_nodes_right_after_redis_was_emptied_holds() {
    const CAP: u32 = 9;
    let server = Server::start().await;
    let processes = join_all((0..NODES).map(|_| server.process())).await;
    let nodes: Vec<_> = processes.iter().map(limits).collect();
    let mut inside = Vec::new();
    for node in &nodes {
        inside.extend(race(std::slice::from_ref(node), &everyone(CAP), 2).await);
    }
    assert_eq!(inside.len(), 6);

    server.command(&["FLUSHALL"]).await;
    // One node alone first: it holds two, and does not know of the others' four.
    inside.extend(race(&nodes[..1], &everyone(CAP), 7).await);
    let alone = inside.len();
    inside.extend(race(&nodes, &everyone(CAP), 4).await);
    println!(
        "x08: after FLUSHALL {} are in after one node was asked, {} after three; the cap is {CAP}",
        alone,
        inside.len()
    );
    assert!(alone <= 7, "{alone}: a node takes its share at most while nobody knows more");
    assert!(inside.len() <= CAP as usize, "{}", inside.len());

    let told = eventually("Redis knows what is held", async || {
        nodes[0].held(&LeaseKey::Anonymous).await.is_ok_and(|held| held as usize == inside.len())
    })
    .await;
    println!("x08: all is counted again {told:?} later");
    let recounted = eventually("the counts are trusted", async || nodes.iter().all(|node| !node.is_recounting())).await;
    inside.extend(race(&nodes, &everyone(CAP), 4).await);
    println!("x08: counts are trusted {recounted:?} later, then {} are in", inside.len());
    assert_eq!(inside.len(), CAP as usize);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x05_a_cap_raced_from_three_nodes_right_after_a_heal_holds() {
    const CAP: u32 = 9;
    let mut server = Server::start().await;
    let processes = join_all((0..NODES).map(|_| server.process())).await;
    let nodes: Vec<_> = processes.iter().map(limits).collect();
    let mut inside = race(&nodes, &everyone(CAP), 2).await;
    assert_eq!(inside.len(), 6);
    server.kill();
    eventually("all are degraded", async || processes.iter().all(RedisState::is_open)).await;
    server.start_again().await;
    let returned = Instant::now();

    // Whoever is back first is asked first, long before the others have told what they hold.
    let mut rounds = 0;
    while returned.elapsed() < Duration::from_secs(3) {
        inside.extend(race(&nodes, &everyone(CAP), 2).await);
        rounds += 1;
        assert!(inside.len() <= CAP as usize, "{} in after {:?}", inside.len(), returned.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!(
        "x05: {} are in after {rounds} races in the three seconds after the return, the cap is {CAP}",
        inside.len()
    );
    assert_eq!(inside.len(), CAP as usize, "and what is free is given");
}
