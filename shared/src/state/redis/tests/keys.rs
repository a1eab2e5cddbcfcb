//! What is in Redis: no identity in any key, a life on every key of an identity, and little memory.

use futures_util::StreamExt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::server::Server;
use super::{UNUSED, block, messages_of};
use crate::address::AddressKey;
use crate::audit::AuditRecord;
use crate::clock::{Clock, SystemClock};
use crate::policy::Policy;
use crate::reason::Reason;
use crate::state::{
    Claim, ConnectError, CounterKey, Counters, Holdings, Identities, Lead, LeaseKey, LimitName, Put, RedisOptions,
    RedisState, State, Subject, Withdrawal,
};
use crate::tasks::Tasks;
use crate::window::Quota;

/// identities that mean something in a key, a pattern, a protocol or a hash tag
const CURIOUS: [&str; 8] = ["a:b", "{x}", "}{", "*", "nul\0nul", "cr\r\nSET x y\r\n", "", "ü\u{202e}"];

async fn use_everything(state: &State, user: &str) {
    let quota = Quota::new(10, 60_000);
    state.counters.charge(messages_of(user), quota, UNUSED).await.unwrap();
    let event = CounterKey { limit: LimitName::Event(user.into()), ..messages_of(user) };
    state.counters.charge(event, quota, UNUSED).await.unwrap();
    let claims = [Claim { key: LeaseKey::Anonymous, cap: 100 }, Claim { key: LeaseKey::User(user.into()), cap: 100 }];
    state.leases.acquire(&claims, UNUSED).await.unwrap();
}

fn is_plain(key: &str) -> bool {
    key.chars().all(|c| c.is_ascii_alphanumeric() || ":{}-".contains(c)) && key.matches('{').count() == 1
}

#[tokio::test]
async fn r01_no_identity_appears_in_a_key() {
    let server = Server::start().await;
    let state = server.process().await.state();
    for user in CURIOUS {
        use_everything(&state, user).await;
    }
    let keys = server.keys().await;
    assert!(keys.iter().all(|key| key.starts_with("picket:{") && is_plain(key)), "{keys:?}");
    for user in CURIOUS.iter().filter(|user| user.len() > 1 && **user != "}{") {
        assert!(keys.iter().all(|key| !key.contains(user)), "{user:?} in {keys:?}");
    }
    let identities = keys.iter().filter(|key| key.ends_with(":m")).count();
    assert_eq!(identities, CURIOUS.len(), "each has a counter of its own");
}

#[tokio::test]
async fn r02_the_slot_of_an_identity_is_not_the_clients_choice() {
    let (first, second) = (Server::start().await, Server::start().await);
    let mut keys = Vec::new();
    for server in [&first, &second] {
        let state = server.process().await.state();
        state.counters.charge(messages_of("{chosen}"), Quota::new(1, 1000), UNUSED).await.unwrap();
        keys.extend(server.keys().await.into_iter().filter(|key| key.ends_with(":m")));
    }
    assert_ne!(keys[0], keys[1], "the hash is keyed");
}

#[tokio::test]
async fn processes_of_one_redis_use_the_same_keys() {
    let server = Server::start().await;
    let (one, other) = (server.process().await.state(), server.process().await.state());
    let address = Subject::Address(AddressKey::of(IpAddr::from([192, 0, 2, 7])));
    for state in [&one, &other] {
        state
            .counters
            .charge(
                CounterKey { subject: address.clone(), limit: LimitName::Connections },
                Quota::new(9, 60_000),
                UNUSED,
            )
            .await
            .unwrap();
    }
    assert_eq!(server.keys().await.iter().filter(|key| key.ends_with(":c")).count(), 1);
}

#[tokio::test]
async fn r03_every_key_of_an_identity_ends_by_itself_and_is_small() {
    let server = Server::start().await;
    let state = server.process().await.state();
    use_everything(&state, "alice").await;
    for _ in 0..300 {
        state.counters.charge(messages_of("alice"), Quota::new(u32::MAX, 3000), UNUSED).await.unwrap();
        tokio::time::sleep(Duration::from_millis(12)).await;
    }
    state.blocks.put(block("192.0.2.1")).await.unwrap();
    let mut of_alice = 0;
    for key in server.keys().await {
        let life = server.command(&["PTTL", &key]).await.as_i64().unwrap();
        let memory = server.command(&["MEMORY", "USAGE", &key]).await.as_u64().unwrap();
        if key.ends_with(":m") || key.ends_with(":l:user") || key.contains(":e:") {
            of_alice += memory;
            assert!(life > 0 && life <= 120_000, "{key}: {life} ms");
        } else {
            let is_counted = key.contains("{blocks}") || key.contains("{policy}") || key.ends_with(":hash-key");
            assert!(life > 0 || is_counted, "{key}: {life} ms");
        }
        if key.ends_with(":m") {
            assert!(life <= 6000, "two windows: {life} ms");
            println!("a full counter takes {memory} B");
        }
    }
    println!("alice takes {of_alice} B");
    assert!(of_alice <= 1024, "{of_alice} B");
}

/// `picket-bench identities` does the same with a million
#[tokio::test]
async fn r03_thousands_of_newcomers_leave_small_keys_that_end_and_beyond_the_bound_a_few() {
    const NEWCOMERS: u32 = 4_000;
    // The test beside this one may have the processor.
    let patient = RedisOptions { timeout: Duration::from_secs(10), ..RedisOptions::default() };
    let quota = Quota::new(100, 60_000);
    let server = Server::start().await;
    let used = async || info(&server, "memory", "used_memory").await;
    let come = async |identities_max: usize, name: &str| {
        let state = server.process_with(patient.clone()).await.state();
        let identities = Identities::new(identities_max);
        let node =
            Holdings::new(state.counters, state.shares.unwrap(), Arc::new(SystemClock), identities, Arc::default());
        let newcomers = (0..NEWCOMERS).map(|number| {
            let (node, key) = (&node, messages_of(&format!("{name}-{number}")));
            async move { node.charge(key, quota, SystemClock.now()).await.unwrap() }
        });
        futures_util::stream::iter(newcomers).buffer_unordered(16).for_each(|_| std::future::ready(())).await;
    };
    let before = used().await;
    come(usize::MAX, "known").await;
    let each = (used().await - before) / u64::from(NEWCOMERS);
    for key in server.keys().await.iter().filter(|key| key.ends_with(":m")).step_by(10) {
        let life = server.command(&["PTTL", key]).await.as_i64().unwrap();
        assert!(life > 0 && life <= 120_000, "{key}: {life} ms");
    }
    let before = server.keys().await.len();
    come(100, "crowded").await;
    let more = server.keys().await.len() - before;
    println!("r03: {each} B of redis for each of {NEWCOMERS} newcomers, {more} keys for as many beyond the bound");
    assert!(each <= 1024, "{each} B");
    assert!(more <= 100 + 1024, "{more} keys");
}

async fn info(server: &Server, section: &str, name: &str) -> u64 {
    let info = server.command(&["INFO", section]).await.as_string().unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|number| number.trim().parse().ok()).unwrap()
}

#[tokio::test]
async fn x42_values_that_cannot_be_read_are_skipped_and_counted() {
    let server = Server::start().await;
    let process = server.process().await;
    let state = process.state();
    state.blocks.put(block("192.0.2.1")).await.unwrap();
    server.command(&["HSET", "picket:{blocks}:list", "192.0.2.2/32", "garbage"]).await;
    server.command(&["ZADD", "picket:{members}:nodes:seen", "9999999999999", "n1"]).await;
    server.command(&["HSET", "picket:{members}:nodes", "n1", "garbage"]).await;
    assert_eq!(state.blocks.load(UNUSED).await.unwrap().blocks, [block("192.0.2.1")]);
    assert_eq!(state.nodes.nodes(UNUSED).await.unwrap(), []);
    assert_eq!(process.corrupt_values(), 2);

    server.command(&["HSET", "picket:{policy}:versions", "version", "3", "document:3", "{}garbage"]).await;
    let error = state.policies.current().await.unwrap_err();
    assert!(error.0.contains("version 3"), "{error}");
    assert_eq!(state.policies.history(5).await.unwrap(), []);

    let counter = server.keys().await.into_iter().find(|key| key.ends_with(":m"));
    assert_eq!(counter, None);
    state.counters.charge(messages_of("alice"), Quota::new(5, 1000), UNUSED).await.unwrap();
    let counter = server.keys().await.into_iter().find(|key| key.ends_with(":m")).unwrap();
    server.command(&["SET", &counter, "garbage"]).await;
    assert!(state.counters.charge(messages_of("alice"), Quota::new(5, 1000), UNUSED).await.is_err());
    assert!(!process.is_open(), "one bad value is no outage");
}

#[tokio::test]
async fn x13_no_script_touches_two_slots() {
    let server = Server::start_cluster().await;
    let url = format!("redis-cluster://{}", server.address());
    let process = server.process_at(&url, RedisOptions::default()).await;
    let state = process.state();
    use_everything(&state, "alice").await;
    state.blocks.seed(vec![block("192.0.2.1")]).await.unwrap();
    state.blocks.put(block("192.0.2.2")).await.unwrap();
    assert!(state.blocks.lift(block("192.0.2.2").network, UNUSED).await.unwrap());
    let lead = Lead { term: state.blocks.begin_term().await.unwrap(), heard: 0 };
    let put = state.blocks.put_in_term(block("192.0.2.2"), lead, UNUSED).await.unwrap();
    assert!(matches!(put, Put::Unheard { .. }), "{put:?}");
    assert_eq!(state.blocks.withdraw(block("192.0.2.2").network, lead).await.unwrap(), Withdrawal::Done);
    assert_eq!(state.blocks.load(UNUSED).await.unwrap().blocks.len(), 1);
    state.policies.publish(Policy::default(), None, "admin", UNUSED).await.unwrap();
    assert_eq!(state.policies.history(1).await.unwrap().len(), 1);
    let record = AuditRecord::refusal(Reason::Schema, [192, 0, 2, 1].into(), UNUSED);
    state.audit.append(&[record]).await.unwrap();
    let batch = state.audit.read(1, Duration::ZERO).await.unwrap();
    state.audit.acknowledge(&[batch[0].0]).await.unwrap();
    assert_eq!(state.audit.lag().await.unwrap() + state.audit.dead_letters().await.unwrap(), 0);
    state.nodes.nodes(UNUSED).await.unwrap();
    assert_eq!(process.failures(), 0);
}

#[tokio::test]
async fn a_prefix_that_could_change_what_keys_mean_is_refused() {
    let server = Server::start().await;
    for prefix in ["", "a{b}", "a b", "a*", &"x".repeat(33)] {
        let options = RedisOptions { key_prefix: prefix.to_owned(), ..RedisOptions::default() };
        let refused = RedisState::connect(&server.url(), options, &Tasks::default(), Arc::new(SystemClock)).await;
        assert!(matches!(refused, Err(ConnectError::Prefix)), "{prefix:?}");
    }
}
