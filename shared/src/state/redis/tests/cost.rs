//! What a check costs Redis, by Redis's own account.

use super::server::Server;
use super::{UNUSED, messages_of};
use crate::clock::{Clock, SystemClock};
use crate::state::redis::RedisOptions;
use crate::state::{Claim, Lease, LeaseKey, ShareId, Spent, State};
use crate::window::Quota;

const CALLS: u32 = 20_000;

async fn microseconds_per_call(server: &Server) -> f64 {
    let stats = server.command(&["INFO", "commandstats"]).await.as_string().unwrap();
    let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap();
    line.split_once("usec_per_call=").unwrap().1.split(',').next().unwrap().parse().unwrap()
}

async fn charges(server: &Server, state: &State, quota: Quota, users: u32) -> f64 {
    server.command(&["CONFIG", "RESETSTAT"]).await;
    for batch in 0..CALLS / 100 {
        let calls = (0..100)
            .map(|n| state.counters.charge(messages_of(&((batch * 100 + n) % users).to_string()), quota, UNUSED));
        futures_util::future::join_all(calls).await.into_iter().for_each(|charge| drop(charge.unwrap()));
    }
    microseconds_per_call(server).await
}

/// a take with its report, on windows that are well filled
async fn shares(server: &Server, state: &State, quota: Quota) -> f64 {
    server.command(&["CONFIG", "RESETSTAT"]).await;
    let book = state.shares.clone().unwrap();
    let mut spent: [Option<Spent>; 20] = Default::default();
    for number in 0..4000 {
        let place = usize::try_from(number).unwrap() % spent.len();
        let key = messages_of(&format!("{}-{place}", quota.limit));
        let share = ShareId { holder: 1, number };
        let now = SystemClock.now();
        book.take(&key, quota, share, quota.window / 2, spent[place].as_ref(), UNUSED).await.unwrap();
        spent[place] = Some(Spent { share, uses: vec![(now, 1)] });
    }
    microseconds_per_call(server).await
}

#[tokio::test]
async fn a_check_costs_redis_little() {
    let server = Server::start().await;
    let patient = RedisOptions { timeout: std::time::Duration::from_secs(5), ..RedisOptions::default() };
    let state = server.process_with(patient).await.state();
    let few = charges(&server, &state, Quota::new(1_000_000, 60_000), 50).await;
    let full = charges(&server, &state, Quota::new(1_000_000, 2000), 51).await;
    let refused = charges(&server, &state, Quota::new(1, 60_000), 52).await;
    server.command(&["CONFIG", "RESETSTAT"]).await;
    for n in 0..2000 {
        let claims = [Claim { key: LeaseKey::User((n % 50).to_string().into()), cap: 10 }];
        drop(Lease::acquire(&state.leases, &claims, UNUSED).await.unwrap());
    }
    let lease = microseconds_per_call(&server).await;
    let share = [100, 1000].map(|limit| shares(&server, &state, Quota::new(limit, 60_000)));
    let [hundred, thousand] = share;
    println!("µs of redis: share of 100 {:.1}, of 1,000 {:.1}", hundred.await, thousand.await);
    println!(
        "µs of redis: charge {few:.1}, charge of a full window {full:.1}, refusal {refused:.1}, lease command {lease:.1}"
    );
    assert!(few < 40.0 && full < 40.0 && refused < 40.0, "{few} {full} {refused}");
}
