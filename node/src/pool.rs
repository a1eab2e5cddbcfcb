//! The upstreams of a route: to which of them the next connection goes, and which are left alone for a while.
//!
//! Health is passive: what connections meet says who is well. One that fails several times in a row is left alone for a while,
//! then tried again; unless all are, since then any may be the first that is back.

use parking_lot::Mutex;
use picket_shared::clock::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::config::Limits;
use crate::route::Upstream;

/// upstreams that one connection tries, as long as none has seen its request
const TRIES_MAX: usize = 3;

pub struct Pool {
    members: Vec<Arc<Member>>,
    /// where the next connection starts among equals
    turn: AtomicUsize,
}

struct Member {
    upstream: Upstream,
    connections: AtomicUsize,
    health: Mutex<Health>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Health {
    failures_in_a_row: u32,
    away_until: Timestamp,
}

/// a connection to an upstream, counted until it is dropped
pub struct Seat(Arc<Member>);

impl Pool {
    pub fn of(upstreams: Vec<Upstream>) -> Self {
        let member = |upstream| Member { upstream, connections: AtomicUsize::default(), health: Mutex::default() };
        Pool { members: upstreams.into_iter().map(member).map(Arc::new).collect(), turn: AtomicUsize::default() }
    }

    /// whom to try, in this order: who is well before who is not, then the least connections, then in turn
    pub fn candidates(&self, now: Timestamp) -> impl Iterator<Item = Candidate> + use<> {
        let mut members = self.members.clone();
        if let Some(turn) = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(members.len()) {
            members.rotate_left(turn);
        }
        members.sort_by_cached_key(|member| {
            let away_until = member.health.lock().away_until;
            let back = if away_until > now { away_until } else { Timestamp::default() };
            (back, member.connections.load(Ordering::Relaxed))
        });
        members.into_iter().take(TRIES_MAX).map(Candidate)
    }

    #[cfg(test)]
    pub fn first(&self) -> &Upstream {
        &self.members[0].upstream
    }
}

/// an upstream that may be tried
pub struct Candidate(Arc<Member>);

impl Candidate {
    pub fn take(self) -> Seat {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
        Seat(self.0)
    }
}

/// what a failure did to an upstream
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// it is tried again with the next connection
    Kept,
    /// it is left alone from now on
    Ejected,
}

impl Seat {
    pub fn upstream(&self) -> &Upstream {
        &self.0.upstream
    }

    /// it answered, whatever it said
    pub fn succeeded(&self) {
        let mut health = self.0.health.lock();
        if health.failures_in_a_row > 0 {
            *health = Health::default();
        }
    }

    /// it did not answer, or not in time
    pub fn failed(&self, limits: &Limits, now: Timestamp) -> Standing {
        let mut health = self.0.health.lock();
        health.failures_in_a_row = health.failures_in_a_row.saturating_add(1);
        if health.failures_in_a_row < limits.upstream_failures_max || health.away_until > now {
            return Standing::Kept;
        }
        health.away_until = now.plus(Duration::from_millis(limits.upstream_eject_ms));
        Standing::Ejected
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(hosts: &[&str]) -> Pool {
        Pool::of(hosts.iter().map(|host| Upstream::parse(&format!("ws://{host}")).unwrap()).collect())
    }

    fn order(pool: &Pool, now: Timestamp) -> Vec<String> {
        pool.candidates(now).map(|candidate| candidate.0.upstream.authority.to_string()).collect()
    }

    fn seat(pool: &Pool, host: &str, now: Timestamp) -> Seat {
        pool.candidates(now).find(|candidate| candidate.0.upstream.authority.as_str() == host).unwrap().take()
    }

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    #[test]
    fn equals_take_turns_and_the_least_busy_goes_first() {
        let pool = pool(&["a", "b", "c"]);
        let firsts: Vec<_> = (0..6).map(|_| order(&pool, START).remove(0)).collect();
        assert_eq!(firsts, ["a", "b", "c", "a", "b", "c"]);
        let held = [seat(&pool, "a", START), seat(&pool, "a", START), seat(&pool, "b", START)];
        for _ in 0..3 {
            assert_eq!(order(&pool, START), ["c", "b", "a"]);
        }
        drop(held);
        assert!(pool.members.iter().all(|member| member.connections.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn x26_three_failures_in_a_row_eject_and_time_brings_back() {
        let (pool, limits) = (pool(&["a", "b"]), Limits::default());
        let fails = |now| seat(&pool, "a", now).failed(&limits, now);
        assert_eq!([fails(START), fails(START)], [Standing::Kept; 2]);
        seat(&pool, "a", START).succeeded();
        assert_eq!([fails(START), fails(START), fails(START)], [Standing::Kept, Standing::Kept, Standing::Ejected]);
        assert_eq!(fails(START), Standing::Kept, "away already, by a connection that was under way");
        for _ in 0..2 {
            assert_eq!(order(&pool, START), ["b", "a"], "the last resort, while it is away");
        }
        let back = START.plus(Duration::from_millis(limits.upstream_eject_ms));
        let firsts: Vec<_> = (0..2).map(|_| order(&pool, back).remove(0)).collect();
        assert!(firsts.contains(&"a".to_owned()), "{firsts:?}");
        assert_eq!(fails(back), Standing::Ejected, "one more failure is enough, until it answers");
        seat(&pool, "a", back).succeeded();
        assert_eq!(fails(back), Standing::Kept);
    }

    #[test]
    fn one_connection_tries_a_few() {
        assert_eq!(order(&pool(&["a", "b", "c", "d", "e"]), START).len(), TRIES_MAX);
        assert_eq!(order(&pool(&["a"]), START), ["a"]);
    }
}
