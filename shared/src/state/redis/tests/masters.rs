//! A Redis Cluster of three masters: the laws hold on it, and while slots move.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fred::types::Value;
use fred::util::redis_keyslot;
use futures_util::future::join_all;
use parking_lot::Mutex;

use super::server::{Server, eventually};
use super::{UNUSED, messages_of};
use crate::state::{Charge, Claim, ClockSource, Lease, LeaseKey, RedisOptions, RedisState, State};
use crate::window::Quota;

const SLOTS: u16 = 16_384;

struct Masters {
    servers: Vec<Server>,
    states: AtomicU32,
}

impl Masters {
    async fn start() -> Self {
        let (one, two, three) = tokio::join!(Server::start_member(), Server::start_member(), Server::start_member());
        let members = [one, two, three];
        let share = SLOTS / members.len() as u16 + 1;
        for (n, (server, _)) in members.iter().enumerate() {
            let first = n as u16 * share;
            let last = (first + share).min(SLOTS) - 1;
            server.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
            server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]).await;
        }
        for (server, bus) in &members[1..] {
            members[0].0.command(&["CLUSTER", "MEET", "127.0.0.1", &server.port().to_string(), bus]).await;
        }
        let masters = Masters { servers: members.map(|(server, _)| server).into(), states: AtomicU32::new(0) };
        for server in &masters.servers {
            let agrees = async || {
                let told = server.command(&["CLUSTER", "INFO"]).await.as_string().unwrap();
                told.contains("cluster_state:ok") && told.contains("cluster_size:3")
            };
            eventually("the masters agree", agrees).await;
        }
        masters
    }

    fn url(&self) -> String {
        format!("redis-cluster://{}", self.servers[0].address())
    }

    async fn process_with(&self, options: RedisOptions) -> RedisState {
        self.servers[0].process_at(&self.url(), options).await
    }

    /// by the caller's clock, under a prefix of its own
    async fn empty_state(&self) -> State {
        let number = self.states.fetch_add(1, Ordering::Relaxed);
        let options = RedisOptions {
            key_prefix: format!("law-{number}"),
            clock_source: ClockSource::Caller,
            timeout: Duration::from_secs(10),
            ..RedisOptions::default()
        };
        Server::with_whole_list(self.process_with(options).await).await
    }

    async fn owner(&self, slot: u16) -> usize {
        let slots = self.servers[0].command(&["CLUSTER", "SLOTS"]).await.into_array();
        let ports = slots.into_iter().find_map(|range| {
            let range = range.into_array();
            let holds = (range[0].as_u64()?..=range[1].as_u64()?).contains(&slot.into());
            holds.then(|| range[2].clone().into_array()[1].as_u64())?
        });
        self.servers.iter().position(|server| Some(u64::from(server.port())) == ports).unwrap()
    }

    /// moves a slot with its keys to the next master, as redis-cli does; how many keys that were
    async fn moves(&self, slot: u16) -> usize {
        let from = self.owner(slot).await;
        let (source, target) = (&self.servers[from], &self.servers[(from + 1) % self.servers.len()]);
        let id = async |server: &Server| server.command(&["CLUSTER", "MYID"]).await.as_string().unwrap();
        let (source_id, target_id, slot) = (id(source).await, id(target).await, slot.to_string());
        target.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]).await;
        source.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]).await;
        let mut moved = 0;
        loop {
            let keys = source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]).await;
            let keys: Vec<_> = keys.into_array().iter().filter_map(Value::as_string).collect();
            if keys.is_empty() {
                break;
            }
            let port = target.port().to_string();
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "1000", "KEYS"];
            migrate.extend(keys.iter().map(String::as_str));
            source.command(&migrate).await;
            moved += keys.len();
        }
        for server in [target, source].into_iter().chain(&self.servers) {
            server.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]).await;
        }
        moved
    }

    /// how often any master answered with this error
    async fn errors(&self, name: &str) -> u64 {
        let mut sum = 0;
        for server in &self.servers {
            let told = server.command(&["INFO", "errorstats"]).await.as_string().unwrap();
            let counts = told.lines().filter_map(|line| line.strip_prefix(&format!("errorstat_{name}:count=")));
            sum += counts.filter_map(|count| count.trim().parse::<u64>().ok()).sum::<u64>();
        }
        sum
    }
}

crate::state::laws::suite!(together the_laws_hold_on_three_masters, Masters::start().await);

#[tokio::test]
async fn x13_while_slots_move_every_check_is_answered_and_no_limit_is_exceeded() {
    const USERS: usize = 40;
    const LIMIT: u32 = 200;
    let masters = Masters::start().await;
    // What is looked at is what becomes of a check on its way, not how fast a busy machine is.
    let process =
        masters.process_with(RedisOptions { timeout: Duration::from_secs(1), ..RedisOptions::default() }).await;
    let state = process.state();
    let quota = Quota::new(LIMIT, 600_000);
    let (tally, mut held) = (Tally::default(), Vec::new());
    for user in 0..USERS {
        tally.charge(&state, user, quota).await;
        let claims = [Claim { key: LeaseKey::User(user.to_string().into()), cap: 5 }];
        held.push(Lease::acquire(&state.leases, &claims, UNUSED).await.unwrap().unwrap());
    }
    let mut slots: Vec<u16> = Vec::new();
    for server in &masters.servers {
        let keys = server.keys().await.into_iter().filter(|key| key.ends_with(":m"));
        slots.extend(keys.map(|key| redis_keyslot(key.as_bytes())));
    }
    assert_eq!(slots.len(), USERS);

    let all_moved = async {
        let mut keys = 0;
        for slot in &slots {
            keys += masters.moves(*slot).await;
        }
        keys
    };
    let mut moving = std::pin::pin!(all_moved);
    let keys = loop {
        let turn = join_all((0..USERS).map(|user| tally.charge(&state, user, quota)));
        tokio::select! {
            keys = &mut moving => break keys,
            _ = turn => {}
        }
    };
    let (crossed, moved, asked) =
        (masters.errors("CROSSSLOT").await, masters.errors("MOVED").await, masters.errors("ASK").await);
    let (checks, failures) = (tally.asked.into_inner(), tally.failures.into_inner());
    println!(
        "x13: {} slots with {keys} keys moved; of {checks} checks {} failed ({:?}); MOVED {moved}, ASK {asked}, CROSSSLOT {crossed}",
        slots.len(),
        failures.len(),
        failures.iter().collect::<HashSet<_>>(),
    );
    assert_eq!(crossed, 0);
    assert!(moved > 0 && keys >= 2 * USERS, "slots that are in use moved");
    assert!(failures.len() * 1000 <= checks as usize, "at most one check of a thousand");
    let mut granted = tally.granted_to_first.into_inner();
    while let Charge::Granted(_) = state.counters.charge(messages_of("0"), quota, UNUSED).await.unwrap() {
        granted += 1;
    }
    assert!(granted <= LIMIT, "{granted} of {LIMIT}");
    drop(held);
}

#[derive(Default)]
struct Tally {
    asked: AtomicU32,
    granted_to_first: AtomicU32,
    failures: Mutex<Vec<String>>,
}

impl Tally {
    async fn charge(&self, state: &State, user: usize, quota: Quota) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match state.counters.charge(messages_of(&user.to_string()), quota, UNUSED).await {
            Ok(Charge::Granted(_)) if user == 0 => drop(self.granted_to_first.fetch_add(1, Ordering::Relaxed)),
            Ok(_) => {}
            Err(error) => self.failures.lock().push(error.to_string()),
        }
    }
}
