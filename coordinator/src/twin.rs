//! Two coordinators of one id: each would take the other's leadership for its own, and both would score.
//!
//! The second is refused at its start. Where both start in the same moment, or the state was away, the younger one stands by.

use std::time::Duration;

use picket_shared::clock::{Clock, Timestamp};
use picket_shared::state::{CoordinatorStatus, Nodes, StateError};
use tokio::time::Instant;

/// who says nothing for so long, and lives, has missed three heartbeats
const SILENT_FOR: Duration = Duration::from_secs(3);
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// who was heard of under an id before its bearer said anything
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nobody,
    /// it has ended, but a moment ago: this one after a restart
    Silent {
        since: Timestamp,
    },
    Living,
}

/// waits, where the id was heard of in the last 10 s, whether it is heard of again
pub(crate) async fn looked_for(nodes: &dyn Nodes, id: &str, clock: &dyn Clock) -> Found {
    look(nodes, id, clock, SILENT_FOR).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "it is not known whether another coordinator has this one's id");
        Found::Nobody
    })
}

async fn look(nodes: &dyn Nodes, id: &str, clock: &dyn Clock, silent_for: Duration) -> Result<Found, StateError> {
    let Some(first) = bearer(nodes, id, clock).await? else {
        return Ok(Found::Nobody);
    };
    tracing::info!(id, "a coordinator of this id was heard of a moment ago, waiting whether it lives");
    let began = Instant::now();
    while began.elapsed() < silent_for {
        tokio::time::sleep(LOOK_PERIOD).await;
        match bearer(nodes, id, clock).await? {
            Some(next) if next.last_seen != first.last_seen => return Ok(Found::Living),
            Some(_) => {}
            None => break,
        }
    }
    Ok(Found::Silent { since: first.since })
}

/// who was heard of last under an id
pub(crate) async fn bearer(
    nodes: &dyn Nodes,
    id: &str,
    clock: &dyn Clock,
) -> Result<Option<CoordinatorStatus>, StateError> {
    Ok(nodes.coordinators(clock.now()).await?.into_iter().find(|one| one.id == id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::clock::ManualClock;
    use picket_shared::state::State;

    const START: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    async fn beats(state: &State, clock: &ManualClock) {
        let status = CoordinatorStatus { id: "c1".into(), version: "1".into(), since: START, last_seen: clock.now() };
        state.nodes.coordinator_alive(status).await.unwrap();
    }

    #[tokio::test]
    async fn who_is_heard_of_again_lives_and_who_is_not_has_ended() {
        let (state, clock) = (State::memory(), ManualClock::at(START));
        let look = |silent_for| look(&*state.nodes, "c1", &clock, silent_for);
        assert_eq!(look(SILENT_FOR).await.unwrap(), Found::Nobody);
        beats(&state, &clock).await;
        assert_eq!(look(LOOK_PERIOD).await.unwrap(), Found::Silent { since: START });

        let living = async {
            loop {
                tokio::task::yield_now().await;
                clock.advance(Duration::from_millis(1));
                beats(&state, &clock).await;
            }
        };
        tokio::select! {
            found = look(SILENT_FOR) => assert_eq!(found.unwrap(), Found::Living),
            () = living => unreachable!("it never ends"),
        }
    }
}
