//! Membership: which nodes and coordinators live, and what each has seen.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};

use super::StateError;
use crate::clock::Timestamp;
use crate::policy::Enforce;
use crate::reason::Reason;

/// how a node decides
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Normal,
    /// without the shared state
    Degraded,
    Draining,
}

impl Mode {
    pub const ALL: [Mode; 3] = [Mode::Normal, Mode::Degraded, Mode::Draining];

    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Normal => "normal",
            Mode::Degraded => "degraded",
            Mode::Draining => "draining",
        }
    }
}

/// a node's heartbeat
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    pub id: String,
    pub version: String,
    pub mode: Mode,
    pub policy_version: u64,
    pub connections: u64,
    pub last_seen: Timestamp,
    pub traffic: TrafficSnapshot,
    /// `None`: it is of a version that does not tell
    #[serde(default)]
    pub decisions: Option<Decisions>,
    /// what it does with refusals
    #[serde(default)]
    pub enforce: Enforce,
    /// whether that is the word of its switch, and not the policy's
    #[serde(default)]
    pub is_switched: bool,
    /// whether it has a database of countries; `None`: it is of a version that does not tell
    #[serde(default)]
    pub knows_countries: Option<bool>,
    /// whether it runs a policy on trial
    #[serde(default)]
    pub on_trial: bool,
    /// how far the cluster's clock is ahead of the node's machine
    #[serde(default)]
    pub clock_offset_ms: i64,
}

/// a coordinator's heartbeat
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CoordinatorStatus {
    pub id: String,
    pub version: String,
    /// when it started
    pub since: Timestamp,
    pub last_seen: Timestamp,
}

impl CoordinatorStatus {
    /// the one that reads audit and scores, while the others stand by: who has lived longest
    pub fn leader(living: &[CoordinatorStatus]) -> Option<&CoordinatorStatus> {
        living.iter().min_by(|a, b| (a.since, &a.id).cmp(&(b.since, &b.id)))
    }
}

#[async_trait]
pub trait Nodes: Send + Sync {
    /// says that a node lives; replaces what it said before
    async fn node_alive(&self, status: NodeStatus) -> Result<(), StateError>;

    async fn coordinator_alive(&self, status: CoordinatorStatus) -> Result<(), StateError>;

    /// the nodes heard of in the last 10 s, by id
    async fn nodes(&self, now: Timestamp) -> Result<Vec<NodeStatus>, StateError>;

    /// the coordinators heard of in the last 10 s, by id
    async fn coordinators(&self, now: Timestamp) -> Result<Vec<CoordinatorStatus>, StateError>;
}

/// what a refusal hits
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// one that would come in
    Connection,
    /// one that is open, and ends
    Session,
    /// one thing that was said on it
    Event,
}

/// what a node decided since its start, each kind by itself: so that much of one hides nothing of another
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decisions {
    pub connections_admitted: u64,
    pub connections_refused: u64,
    pub sessions_ended: u64,
    pub events_cleared: u64,
    pub events_refused: u64,
}

/// what a node has seen since its start, counted without locks
#[derive(Debug, Default)]
pub struct Traffic {
    pub total_connections: AtomicU64,
    pub anonymous_connections: AtomicU64,
    pub authenticated_connections: AtomicU64,
    pub active_connections: AtomicU64,
    pub events: AtomicU64,
    /// as often as somebody came in: at a namespace, where a connection's user is named there
    pub admissions: AtomicU64,
    connections_refused: AtomicU64,
    sessions_ended: AtomicU64,
    events_refused: AtomicU64,
    blocked_attempts: AtomicU64,
    suspicious_activities: AtomicU64,
    rate_limit_violations: AtomicU64,
    payload_violations: AtomicU64,
}

/// the numbers of [`Traffic`] at one moment; `active`, `anonymous` and `authenticated` are open connections
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficSnapshot {
    pub total_connections: u64,
    pub active_connections: u64,
    pub anonymous_connections: u64,
    pub authenticated_connections: u64,
    pub blocked_attempts: u64,
    pub suspicious_activities: u64,
    pub rate_limit_violations: u64,
    pub payload_violations: u64,
    pub events: u64,
    pub refusals: u64,
}

impl Traffic {
    /// counts a refusal under the headings of the origin document
    pub fn count_refusal(&self, reason: Reason, hit: Refused) {
        use crate::audit::EventType::*;
        let add = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        add(match hit {
            Refused::Connection => &self.connections_refused,
            Refused::Session => &self.sessions_ended,
            Refused::Event => &self.events_refused,
        });
        // An outage of the application is nobody's attempt to get past.
        if hit == Refused::Connection && reason.consequence().event_type.is_some() {
            add(&self.blocked_attempts);
        }
        match reason.consequence().event_type {
            Some(RateLimitExceeded) => add(&self.rate_limit_violations),
            Some(PayloadTooLarge | ValidationError) => add(&self.payload_violations),
            Some(SuspiciousActivity | UnauthorizedEvent | InvalidOrigin) => add(&self.suspicious_activities),
            _ => {}
        }
    }

    pub fn decisions(&self) -> Decisions {
        Decisions {
            connections_admitted: read(&self.admissions),
            connections_refused: read(&self.connections_refused),
            sessions_ended: read(&self.sessions_ended),
            events_cleared: read(&self.events),
            events_refused: read(&self.events_refused),
        }
    }

    pub fn snapshot(&self) -> TrafficSnapshot {
        TrafficSnapshot {
            total_connections: read(&self.total_connections),
            active_connections: read(&self.active_connections),
            anonymous_connections: read(&self.anonymous_connections),
            authenticated_connections: read(&self.authenticated_connections),
            blocked_attempts: read(&self.blocked_attempts),
            suspicious_activities: read(&self.suspicious_activities),
            rate_limit_violations: read(&self.rate_limit_violations),
            payload_violations: read(&self.payload_violations),
            events: read(&self.events),
            refusals: read(&self.connections_refused) + read(&self.sessions_ended) + read(&self.events_refused),
        }
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl std::ops::AddAssign for TrafficSnapshot {
    fn add_assign(&mut self, other: Self) {
        self.total_connections += other.total_connections;
        self.active_connections += other.active_connections;
        self.anonymous_connections += other.anonymous_connections;
        self.authenticated_connections += other.authenticated_connections;
        self.blocked_attempts += other.blocked_attempts;
        self.suspicious_activities += other.suspicious_activities;
        self.rate_limit_violations += other.rate_limit_violations;
        self.payload_violations += other.payload_violations;
        self.events += other.events;
        self.refusals += other.refusals;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_once_for_what_it_hits_and_among_all() {
        let traffic = Traffic::default();
        traffic.admissions.fetch_add(4, Ordering::Relaxed);
        traffic.events.fetch_add(5, Ordering::Relaxed);
        for (hit, times) in [(Refused::Connection, 3), (Refused::Session, 2), (Refused::Event, 1)] {
            (0..times).for_each(|_| traffic.count_refusal(Reason::AddressBlocked, hit));
        }
        let told = Decisions {
            connections_admitted: 4,
            connections_refused: 3,
            sessions_ended: 2,
            events_cleared: 5,
            events_refused: 1,
        };
        assert_eq!(traffic.decisions(), told);
        assert_eq!((traffic.snapshot().refusals, traffic.snapshot().blocked_attempts), (6, 3));
    }

    #[test]
    fn a_node_that_does_not_tell_its_decisions_is_understood() {
        let told = r#"{"id":"edge-1","version":"0.1.0","mode":"normal","policyVersion":1,"connections":0,"lastSeen":"2026-01-01T00:00:00.000Z",
            "traffic":{"totalConnections":1,"activeConnections":0,"anonymousConnections":0,"authenticatedConnections":0,
            "blockedAttempts":2,"suspiciousActivities":0,"rateLimitViolations":0,"payloadViolations":0,"events":3,"refusals":4}}"#;
        let status: NodeStatus = serde_json::from_str(told).unwrap();
        assert_eq!((status.decisions, status.traffic.refusals), (None, 4));
    }
}
