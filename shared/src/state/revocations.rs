//! Tokens that died before their time: a list in the state that only grows until its entries end, and each process's view of it.
//!
//! An entry never changes, so lists are merged by adding: whatever the state lost, who still knows it adds it again.

use async_trait::async_trait;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use super::StateError;
use crate::clock::{Clock, Timestamp};
use crate::token::User;

/// entries that the list holds
pub const REVOCATIONS_MAX: usize = 100_000;

/// entries that are added in one step
pub(super) const PART: usize = 500;

/// the pause after the list could not be read
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// whose tokens died
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Revoked {
    /// the token with this `jti`
    Token(String),
    /// every token of this user that was issued before
    User(String, Timestamp),
    /// every token that was issued before
    Everyone(Timestamp),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    pub revoked: Revoked,
    /// the administrator who did it
    pub by: String,
    pub at: Timestamp,
    /// when no token that it is about can be alive any more
    pub until: Timestamp,
}

impl Revocation {
    /// what it is known by: two with the same are one
    pub(super) fn id(&self) -> String {
        match &self.revoked {
            Revoked::Token(jti) => format!("t:{jti}"),
            Revoked::User(user, before) => format!("u:{}:{user}", before.as_millis()),
            Revoked::Everyone(before) => format!("e:{}", before.as_millis()),
        }
    }
}

/// how far a process has read: the version of the last entry, and what that entry is known by, so that another list never
/// looks like the one that was read
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationPosition {
    pub version: u64,
    pub id: String,
}

/// entries after a position
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationLog {
    /// the state does not know the position: these are the first of all that it has
    pub from_start: bool,
    pub revocations: Vec<Revocation>,
    /// where they lead; no further when there are no more
    pub at: RevocationPosition,
}

/// what became of entries that were to be added
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    Yes,
    /// [`REVOCATIONS_MAX`] are there: nothing was added
    Full,
}

#[async_trait]
pub trait Revocations: Send + Sync {
    /// adds entries, at most [`PART`]; one that is there already stays as it is. Ended ones make room.
    async fn revoke(&self, revocations: Vec<Revocation>, now: Timestamp) -> Result<Added, StateError>;

    /// the next entries after a position; a backend may answer a part of them, so ask until there are none
    async fn since(&self, position: &RevocationPosition) -> Result<RevocationLog, StateError>;

    /// changes when the list may have grown; a hint, never the truth
    fn hints(&self) -> watch::Receiver<u64>;
}

/// one process's view of the list, kept up to date by [`follow_revocations`]
#[derive(Clone)]
pub struct RevocationView {
    shared: Arc<View>,
}

struct View {
    table: RwLock<Table>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Table {
    entries: BTreeMap<Revoked, Revocation>,
    tokens: HashSet<String>,
    /// of each user, before when tokens must not have been issued
    users: HashMap<String, Timestamp>,
    everyone: Timestamp,
}

impl Default for RevocationView {
    fn default() -> Self {
        RevocationView { shared: Arc::new(View { table: RwLock::default(), changes: watch::Sender::new(0) }) }
    }
}

impl RevocationView {
    /// why the proof of who this is does not hold any more, if so; a token that does not say when it was issued is older than
    /// every revocation
    pub fn against(&self, user: &User) -> Option<Revoked> {
        let table = self.shared.table.read();
        if table.entries.is_empty() {
            return None;
        }
        let issued = user.issued.unwrap_or_default();
        if let Some(jti) = user.token_id.as_deref()
            && table.tokens.contains(jti)
        {
            return Some(Revoked::Token(jti.to_owned()));
        }
        match table.users.get(&*user.id) {
            Some(before) if issued < *before => Some(Revoked::User(user.id.to_string(), *before)),
            _ => (issued < table.everyone).then_some(Revoked::Everyone(table.everyone)),
        }
    }

    /// every entry of the view
    pub fn all(&self) -> Vec<Revocation> {
        self.shared.table.read().entries.values().cloned().collect()
    }

    /// changes whenever the view did, so that open sessions look again
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// adds what the state, or a snapshot, says; what has ended goes
    pub fn add(&self, revocations: Vec<Revocation>, now: Timestamp) {
        let mut table = self.shared.table.write();
        table.entries.retain(|_, one| now < one.until);
        let new = revocations.into_iter().filter(|one| now < one.until);
        table.entries.extend(new.map(|one| (one.revoked.clone(), one)));
        table.index();
        drop(table);
        self.shared.changes.send_modify(|count| *count += 1);
    }
}

impl Table {
    fn index(&mut self) {
        self.tokens.clear();
        self.users.clear();
        self.everyone = Timestamp::default();
        for revoked in self.entries.keys() {
            match revoked {
                Revoked::Token(jti) => drop(self.tokens.insert(jti.clone())),
                Revoked::User(user, before) => {
                    let latest = self.users.entry(user.clone()).or_default();
                    *latest = (*before).max(*latest);
                }
                Revoked::Everyone(before) => self.everyone = self.everyone.max(*before),
            }
        }
    }
}

/// what a process does that finds less in the state than it knows
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLostRevocations {
    /// others put it back
    Wait,
    Seed,
}

/// keeps `view` equal to the list until `stop` resolves; what the state lost stays in force
pub async fn follow_revocations(
    view: RevocationView,
    list: Arc<dyn Revocations>,
    clock: Arc<dyn Clock>,
    on_loss: OnLostRevocations,
    stop: impl Future<Output = ()>,
) {
    tokio::pin!(stop);
    let mut hints = list.hints();
    hints.mark_changed();
    let (mut position, mut is_behind) = (RevocationPosition::default(), false);
    loop {
        tokio::select! {
            changed = hints.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY_DELAY), if is_behind => {}
            () = &mut stop => return,
        }
        let outcome = catch_up(&view, &*list, &mut position, on_loss, clock.now()).await;
        if let (Err(error), false) = (&outcome, is_behind) {
            tracing::warn!(%error, "revoked tokens not refreshed, those that are known stay revoked");
        }
        is_behind = outcome.is_err();
    }
}

async fn catch_up(
    view: &RevocationView,
    list: &dyn Revocations,
    position: &mut RevocationPosition,
    on_loss: OnLostRevocations,
    now: Timestamp,
) -> Result<(), StateError> {
    // What the state has, while it is read from its start.
    let mut found: Option<HashSet<Revoked>> = None;
    loop {
        let log = list.since(position).await?;
        if log.from_start {
            found = Some(HashSet::new());
        }
        if let Some(found) = &mut found {
            found.extend(log.revocations.iter().map(|one| one.revoked.clone()));
        }
        if log.at == *position {
            break;
        }
        *position = log.at;
        view.add(log.revocations, now);
    }
    if let (Some(found), OnLostRevocations::Seed) = (found, on_loss) {
        let known = view.all().into_iter().filter(|one| now < one.until);
        let missing: Vec<_> = known.filter(|one| !found.contains(&one.revoked)).collect();
        for part in missing.chunks(PART) {
            tracing::warn!(revocations = part.len(), "the state has lost revoked tokens, they are added again");
            list.revoke(part.to_vec(), now).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::state::State;
    use crate::tasks::Tasks;

    const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    fn revocation(revoked: Revoked) -> Revocation {
        Revocation { revoked, by: "admin".into(), at: NOW, until: NOW.plus(Duration::from_secs(60)) }
    }

    fn user(id: &str, issued: Option<u64>, jti: Option<&str>) -> User {
        User {
            issued: issued.map(|seconds| Timestamp::from_millis(seconds * 1000)),
            token_id: jti.map(Into::into),
            ..User::named(id)
        }
    }

    #[test]
    fn a_token_dies_by_its_id_or_by_when_it_was_issued() {
        let view = RevocationView::default();
        let before = Timestamp::from_millis(1000 * 1000);
        assert!(view.against(&user("alice", None, None)).is_none());
        view.add(
            vec![
                revocation(Revoked::Token("stolen".into())),
                revocation(Revoked::User("alice".into(), before)),
                revocation(Revoked::User("alice".into(), Timestamp::from_millis(5))),
            ],
            NOW,
        );
        let dies = |id, issued, jti| view.against(&user(id, issued, jti)).is_some();
        assert!(dies("bob", Some(2000), Some("stolen")));
        assert!(!dies("bob", Some(999), Some("other")));
        assert!(dies("alice", Some(999), None) && dies("alice", None, None));
        assert!(!dies("alice", Some(1000), None), "a new login is a new token");
        view.add(vec![revocation(Revoked::Everyone(before))], NOW);
        assert!(dies("bob", Some(999), None) && !dies("bob", Some(1000), None));
        view.add(Vec::new(), NOW.plus(Duration::from_secs(60)));
        assert!(view.all().is_empty() && !dies("bob", Some(999), None), "no such token can be alive");
    }

    #[tokio::test]
    async fn a_follower_knows_what_is_revoked_and_gives_it_back_to_a_state_that_has_lost_it() {
        let (view, tasks, clock) = (RevocationView::default(), Tasks::default(), Arc::new(SystemClock));
        let lives_on =
            |revoked| Revocation { until: SystemClock.now().plus(Duration::from_secs(60)), ..revocation(revoked) };
        let remembered = lives_on(Revoked::Token("remembered".into()));
        view.add(vec![remembered.clone()], SystemClock.now());
        let state = State::memory();
        let follow = |on_loss| {
            follow_revocations(view.clone(), state.revocations.clone(), clock.clone(), on_loss, tasks.stopped())
        };
        tasks.spawn("revocations", follow(OnLostRevocations::Seed));
        let new = lives_on(Revoked::User("alice".into(), NOW));
        state.revocations.revoke(vec![new.clone()], SystemClock.now()).await.unwrap();
        let mut changes = view.changes();
        while view.all().len() < 2 {
            changes.changed().await.unwrap();
        }
        let mut kept = Vec::new();
        while kept.len() < 2 {
            kept = state.revocations.since(&RevocationPosition::default()).await.unwrap().revocations;
            tokio::task::yield_now().await;
        }
        assert!(kept.contains(&remembered) && kept.contains(&new));
        assert!(tasks.stop(Duration::from_secs(1)).await);
    }
}
