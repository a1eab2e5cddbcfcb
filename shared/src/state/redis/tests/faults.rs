//! Redis forgets its scripts, hangs, dies, comes back, refuses.

use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use super::server::{Server, eventually};
use super::{UNUSED, messages_of};
use crate::clock::SystemClock;
use crate::state::{Charge, Claim, ConnectError, Lease, LeaseKey, RedisOptions, RedisState, State, StateError};
use crate::tasks::Tasks;
use crate::window::Quota;

async fn charge(state: &State, user: &str) -> Result<Charge, StateError> {
    state.counters.charge(messages_of(user), Quota::new(1_000_000, 60_000), UNUSED).await
}

#[tokio::test]
async fn x11_a_server_that_forgot_its_scripts_answers_the_same() {
    let server = Server::start().await;
    let (process, quota) = (server.process().await, Quota::new(3, 60_000));
    let mut granted = Vec::new();
    for _ in 0..6 {
        server.command(&["SCRIPT", "FLUSH"]).await;
        let charge = process.state().counters.charge(messages_of("alice"), quota, UNUSED).await.unwrap();
        granted.push(matches!(charge, Charge::Granted(_)));
    }
    assert_eq!(granted, [true, true, true, false, false, false]);
    let stats = server.command(&["INFO", "commandstats"]).await.as_string().unwrap();
    let texts = stats.lines().find_map(|line| line.strip_prefix("cmdstat_eval:calls=")?.split(',').next()).unwrap();
    println!("x11: {} of 6 checks failed; {texts} scripts were sent as text, heartbeats included", process.failures());
    assert_eq!(process.failures(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x03_while_redis_hangs_calls_fail_at_once_and_afterwards_all_is_normal() {
    let server = Server::start().await;
    let process = server.process().await;
    let state = process.state();
    charge(&state, "alice").await.unwrap();
    server.pause();
    let mut slowest = Duration::ZERO;
    let mut calls = 0;
    while !process.is_open() {
        let start = Instant::now();
        assert!(charge(&state, "alice").await.is_err());
        slowest = slowest.max(start.elapsed());
        calls += 1;
    }
    assert!(calls <= 6, "{calls} calls before the circuit opened");
    assert!(slowest <= Duration::from_millis(60), "a call took {slowest:?}");
    let start = Instant::now();
    for _ in 0..1000 {
        assert!(charge(&state, "alice").await.is_err());
    }
    assert!(start.elapsed() < Duration::from_millis(100), "1000 calls took {:?}", start.elapsed());
    tokio::time::sleep(Duration::from_secs(4)).await;
    server.resume();
    let normal = eventually("redis is used again", async || charge(&state, "alice").await.is_ok()).await;
    println!("slowest call {slowest:?}, {calls} calls until open, normal {normal:?} after SIGCONT");
    assert!(normal <= Duration::from_secs(2), "{normal:?}");
    let stats = server.command(&["INFO", "stats"]).await.as_string().unwrap();
    let connections = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:")).unwrap();
    assert!(connections.parse::<u32>().unwrap() < 30, "{connections} connections: a storm");
}

#[tokio::test]
async fn x03_nothing_is_sent_later() {
    let server = Server::start().await;
    let process = server.process().await;
    let state = process.state();
    charge(&state, "alice").await.unwrap();
    server.pause();
    let lost = futures_util::future::join_all((0..3000).map(|_| charge(&state, "bob"))).await;
    assert!(lost.iter().all(Result::is_err));
    eventually("the circuit opens", async || process.is_open()).await;
    server.resume();
    eventually("redis is used again", async || charge(&state, "alice").await.is_ok()).await;
    let calls = server.command(&["INFO", "commandstats"]).await.as_string().unwrap();
    let evaluated: u32 = calls
        .lines()
        .filter_map(|line| {
            line.strip_prefix("cmdstat_eval")?.split_once("calls=")?.1.split(',').next()?.parse::<u32>().ok()
        })
        .sum();
    println!("{evaluated} scripts were run in all");
    assert!(evaluated < 1200, "{evaluated}: not more than were in flight");
}

#[tokio::test]
async fn x02_while_redis_is_dead_calls_fail_and_it_is_used_when_it_is_back() {
    let mut server = Server::start().await;
    let process = server.process().await;
    let (state, mut circuit) = (process.state(), process.circuit());
    let lease =
        Lease::acquire(&state.leases, &[Claim { key: LeaseKey::User("alice".into()), cap: 2 }], UNUSED).await.unwrap();
    server.kill();
    let start = Instant::now();
    while !process.is_open() {
        assert!(charge(&state, "alice").await.is_err());
    }
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    assert!(circuit.wait_for(|open| *open).await.is_ok());
    server.start_again().await;
    let normal = eventually("redis is used again", async || charge(&state, "alice").await.is_ok()).await;
    println!("normal {normal:?} after the restart");
    assert!(normal <= Duration::from_secs(2), "{normal:?}");
    let alice = LeaseKey::User("alice".into());
    let recounted = eventually("what is held is counted again", async || {
        state.leases.held(&alice).await.is_ok_and(|held| held == 1)
    })
    .await;
    assert!(recounted <= Duration::from_secs(2), "{recounted:?}");
    drop(lease);
}

#[tokio::test]
async fn x14_a_redis_that_refuses_writes_is_an_outage_of_the_counters_and_blocks_are_still_read() {
    let server = Server::start().await;
    let process = server.process().await;
    let state = process.state();
    state.blocks.put(super::block("192.0.2.1")).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let error = charge(&state, "alice").await.unwrap_err();
    assert!(error.0.contains("OOM"), "{error}");
    eventually("the circuit opens", async || charge(&state, "alice").await.is_err() && process.is_open()).await;
    let log = state.blocks.since(Default::default()).await;
    assert!(log.is_ok(), "blocks are still read: {log:?}");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let normal = eventually("redis is used again", async || charge(&state, "alice").await.is_ok()).await;
    println!("x14: blocks were read while writes were refused; normal {normal:?} after there was room");
    assert!(normal <= Duration::from_secs(2), "{normal:?}");
}

#[tokio::test]
async fn x12_a_master_that_became_a_replica_is_left() {
    let server = Server::start().await;
    let process = server.process().await;
    let state = process.state();
    charge(&state, "alice").await.unwrap();
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    eventually("the circuit opens", async || charge(&state, "alice").await.is_err() && process.is_open()).await;
    server.command(&["REPLICAOF", "NO", "ONE"]).await;
    let normal = eventually("redis is used again", async || charge(&state, "alice").await.is_ok()).await;
    assert!(normal <= Duration::from_secs(2), "{normal:?}");
}

/// the driver alone stays on a master that hangs for as long as it hangs
#[tokio::test]
async fn x09_with_sentinel_a_hung_master_is_left() {
    let master = Server::start().await;
    let (_replica, sentinel) = (master.start_replica().await, master.start_sentinel().await);
    let url = format!("redis-sentinel://{}/0?sentinelServiceName=main", sentinel.address());
    let process = master.process_at(&url, RedisOptions::default()).await;
    let state = process.state();
    charge(&state, "alice").await.unwrap();
    master.pause();
    eventually("the circuit opens", async || charge(&state, "alice").await.is_err() && process.is_open()).await;
    let normal = eventually("the new master is used", async || charge(&state, "alice").await.is_ok()).await;
    println!("normal {normal:?} after the master hung");
    assert!(normal <= Duration::from_secs(8), "{normal:?}");
    master.resume();
}

#[tokio::test]
async fn without_redis_a_start_fails_unless_it_may_begin_degraded() {
    let mut server = Server::start().await;
    let url = server.url();
    server.kill();
    let (tasks, clock) = (Tasks::default(), Arc::new(SystemClock));
    let refused = RedisState::connect(&url, RedisOptions::default(), &tasks, clock.clone()).await;
    assert!(matches!(refused, Err(ConnectError::Unreachable(_))));
    let options = RedisOptions { required: false, ..RedisOptions::default() };
    let process = RedisState::connect(&url, options, &tasks, clock).await.unwrap();
    assert!(process.is_open());
    assert!(charge(&process.state(), "alice").await.is_err());
    server.start_again().await;
    let normal = eventually("redis is used", async || charge(&process.state(), "alice").await.is_ok()).await;
    assert!(normal <= Duration::from_secs(2), "{normal:?}");
}

#[tokio::test]
async fn warnings_tell_of_a_redis_that_may_evict_blocks() {
    let server = Server::start().await;
    let process = server.process().await;
    let warned = async || process.warnings().await.iter().any(|warning| warning.contains("allkeys-lru"));
    assert!(!warned().await);
    server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    assert!(warned().await);
}
