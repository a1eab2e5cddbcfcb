//! What the check API knows of the application's connections: by the application's own names, a bounded number of them, and
//! only while somebody asks about them.

use parking_lot::Mutex;
use picket_shared::clock::Timestamp;
use picket_shared::policy::Reasons;
use picket_shared::state::Traffic;
use picket_shared::token::Principal;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::admission::{Admitted, Screened, not_expired, still_admissible, still_welcome};
use crate::attempt::Attempt;
use crate::config::Limits;
use crate::decide::{self, Case, Stage};
use crate::gate::Gate;
use crate::inspection::Rates;
use crate::pardons::Pardons;
use crate::refusal::Denial;
use crate::session::{Presence, Violations};

/// how often idle connections are looked for, at most
const LOOK_EVERY_MAX: Duration = Duration::from_secs(5);

pub struct Connections {
    known: Mutex<HashMap<Arc<str>, Arc<Known>>>,
    capacity: usize,
    idle: Duration,
}

/// one connection of the application
pub struct Known {
    last_asked: AtomicU64,
    /// one question about a connection at a time, in their order, as on a socket
    pub talk: tokio::sync::Mutex<Talk>,
}

/// all places are taken by connections that are asked about
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Connections {
    pub fn new(limits: &Limits) -> Self {
        Connections {
            known: Mutex::default(),
            capacity: limits.check_connections_max,
            idle: Duration::from_millis(limits.check_idle_ms),
        }
    }

    pub fn find(&self, id: &str, now: Timestamp) -> Option<Arc<Known>> {
        let known = self.known.lock().get(id).cloned()?;
        known.last_asked.store(now.as_millis(), Ordering::Relaxed);
        Some(known)
    }

    /// takes the place of a connection that had the same name
    pub fn insert(&self, id: Arc<str>, talk: Talk, now: Timestamp) -> Result<Arc<Known>, Full> {
        let new = Arc::new(Known { last_asked: AtomicU64::new(now.as_millis()), talk: tokio::sync::Mutex::new(talk) });
        let mut known = self.known.lock();
        if known.len() >= self.capacity && !known.contains_key(&id) {
            return Err(Full);
        }
        known.insert(id, new.clone());
        Ok(new)
    }

    /// its slot comes back as soon as nobody asks about it any more
    pub fn remove(&self, id: &str) {
        self.known.lock().remove(id);
    }

    pub fn clear(&self) {
        self.known.lock().clear();
    }

    pub fn pause(&self) -> Duration {
        (self.idle / 4).min(LOOK_EVERY_MAX)
    }

    pub fn forget_idle(&self, now: Timestamp) {
        let is_asked_about = |known: &Arc<Known>| {
            let last = Timestamp::from_millis(known.last_asked.load(Ordering::Relaxed));
            now.since(last) < self.idle
        };
        self.known.lock().retain(|_, known| is_asked_about(known));
    }
}

/// what is kept of a connection: who it is, its slot, and what it has sent so far
pub struct Talk {
    pub attempt: Attempt,
    /// `None`: it did not come in by the connection check, or it has ended
    pub entry: Option<(Screened, Admitted)>,
    pub rates: Rates,
    pub violations: Violations,
    /// why it has to end; whatever it says after that is answered so
    pub ended: Option<Denial>,
    /// since when it is known
    pub since: Timestamp,
    /// what was recorded of it although its rule is in shadow: once each
    pardoned: Reasons,
    presence: Option<Presence>,
}

impl Talk {
    pub fn new(attempt: Attempt, entry: Option<(Screened, Admitted)>, traffic: &Arc<Traffic>, now: Timestamp) -> Self {
        let mut talk = Talk {
            attempt,
            entry: None,
            rates: Rates::default(),
            violations: Violations::default(),
            ended: None,
            since: now,
            pardoned: Reasons::default(),
            presence: Some(Presence::new(traffic.clone())),
        };
        if let Some((screened, admitted)) = entry {
            talk.becomes(screened, admitted);
        }
        talk
    }

    /// a slot that it held for another principal comes back
    pub fn becomes(&mut self, screened: Screened, admitted: Admitted) {
        self.shows(&admitted.principal);
        self.entry = Some((screened, admitted));
    }

    pub fn shows(&mut self, principal: &Principal) {
        if let Some(presence) = &mut self.presence {
            presence.shows(principal);
        }
    }

    pub fn principal(&self) -> Option<&Principal> {
        self.entry.as_ref().map(|(_, admitted)| &admitted.principal)
    }

    /// what a session at the proxy is held to whenever something changed
    pub fn may_stay(&mut self, gate: &Gate, speaker: &Principal, now: Timestamp) -> Result<(), Denial> {
        let mut pardons = Pardons::except(gate, self.pardoned);
        let verdict = self.is_admissible(gate, speaker, &mut pardons, now);
        self.pardoned = pardons.told();
        let case = Case { principal: Some(speaker), ..Case::of(&self.attempt, Stage::Session) };
        decide::pardoned(gate, case, pardons);
        verdict
    }

    fn is_admissible(
        &self,
        gate: &Gate,
        speaker: &Principal,
        pardons: &mut Pardons,
        now: Timestamp,
    ) -> Result<(), Denial> {
        pardons.ask(not_expired(speaker, now))?;
        match self.entry {
            Some(_) => still_admissible(gate, &self.attempt, [speaker], pardons, now),
            None => still_welcome(gate, self.attempt.address, speaker, pardons, now),
        }
    }

    /// gives its slot back, and remembers why
    pub fn end(&mut self, denial: Denial) {
        self.entry = None;
        self.presence = None;
        self.ended = Some(denial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::ClaimedOrigin;
    use picket_shared::reason::Reason;

    fn talk(traffic: &Arc<Traffic>) -> Talk {
        let attempt = Attempt {
            id: "c".into(),
            address: [192, 0, 2, 1].into(),
            origin: ClaimedOrigin::Missing,
            token: None,
            route: "/v1/check".into(),
            trace: None,
        };
        Talk::new(attempt, None, traffic, Timestamp::default())
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_is_not_asked_about() {
        let limits = Limits { check_connections_max: 2, check_idle_ms: 60_000, ..Limits::default() };
        let (connections, traffic) = (Connections::new(&limits), Arc::<Traffic>::default());
        let at = |seconds: u64| Timestamp::from_millis(1_000_000 + seconds * 1000);
        let insert = |id: &str, now| connections.insert(id.into(), talk(&traffic), now).map(|_| ());
        assert_eq!((insert("a", at(0)), insert("b", at(0))), (Ok(()), Ok(())));
        assert_eq!(insert("c", at(1)), Err(Full));
        assert_eq!(insert("b", at(1)), Ok(()), "the same name takes its own place");
        assert_eq!(traffic.snapshot().active_connections, 2);
        assert!(connections.find("a", at(50)).is_some());
        connections.forget_idle(at(70));
        assert_eq!(traffic.snapshot().active_connections, 1, "b was not asked about");
        assert!(connections.find("a", at(70)).is_some() && connections.find("b", at(70)).is_none());
        connections.remove("a");
        assert_eq!(traffic.snapshot().active_connections, 0);
    }

    #[test]
    fn an_ended_connection_counts_no_more_and_stays_ended() {
        let traffic = Arc::<Traffic>::default();
        let mut talk = talk(&traffic);
        talk.end(Reason::Burst.into());
        assert_eq!(traffic.snapshot().active_connections, 0);
        talk.shows(&Principal::Anonymous);
        assert_eq!(talk.ended.map(|denial| denial.reason), Some(Reason::Burst));
    }
}
