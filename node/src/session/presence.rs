//! A connection in the node's numbers, from its upgrade until it is dropped.

use picket_shared::state::Traffic;
use picket_shared::token::Principal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Nobody,
    Anonymous,
    User,
}

/// counts one open connection, under the best identity it showed
pub struct Presence {
    traffic: Arc<Traffic>,
    known: Known,
}

impl Presence {
    pub fn new(traffic: Arc<Traffic>) -> Self {
        traffic.total_connections.fetch_add(1, Ordering::Relaxed);
        traffic.active_connections.fetch_add(1, Ordering::Relaxed);
        Presence { traffic, known: Known::Nobody }
    }

    pub fn shows(&mut self, principal: &Principal) {
        let known = if principal.user().is_some() { Known::User } else { Known::Anonymous };
        if self.known != Known::User && self.known != known {
            self.forget();
            self.known = known;
            if let Some(count) = self.count() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn count(&self) -> Option<&AtomicU64> {
        match self.known {
            Known::Nobody => None,
            Known::Anonymous => Some(&self.traffic.anonymous_connections),
            Known::User => Some(&self.traffic.authenticated_connections),
        }
    }

    fn forget(&self) {
        if let Some(count) = self.count() {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.forget();
        self.traffic.active_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::token::User;

    #[test]
    fn a_connection_counts_once_under_its_best_identity() {
        let traffic = Arc::new(Traffic::default());
        let user = Principal::User(User::named("alice"));
        let mut presence = Presence::new(traffic.clone());
        for (principal, expected) in [(&Principal::Anonymous, (1, 0)), (&user, (0, 1)), (&Principal::Anonymous, (0, 1))]
        {
            presence.shows(principal);
            let seen = traffic.snapshot();
            assert_eq!((seen.anonymous_connections, seen.authenticated_connections), expected);
        }
        drop(presence);
        let seen = traffic.snapshot();
        assert_eq!((seen.active_connections, seen.authenticated_connections, seen.total_connections), (0, 0, 1));
    }
}
