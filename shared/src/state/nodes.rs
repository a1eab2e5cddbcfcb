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
    /// what it does with refusals
    #[serde(default)]
    pub enforce: Enforce,
    /// whether that is the word of its switch, and not the policy's
    #[serde(default)]
    pub is_switched: bool,
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

/// what a node has seen since its start, counted without locks
#[derive(Debug, Default)]
pub struct Traffic {
    pub total_connections: AtomicU64,
    pub anonymous_connections: AtomicU64,
    pub authenticated_connections: AtomicU64,
    pub active_connections: AtomicU64,
    pub events: AtomicU64,
    refusals: AtomicU64,
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
    pub fn count_refusal(&self, reason: Reason, before_session: bool) {
        use crate::audit::EventType::*;
        let add = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        add(&self.refusals);
        // An outage of the application is nobody's attempt to get past.
        if before_session && reason.consequence().event_type.is_some() {
            add(&self.blocked_attempts);
        }
        match reason.consequence().event_type {
            Some(RateLimitExceeded) => add(&self.rate_limit_violations),
            Some(PayloadTooLarge | ValidationError) => add(&self.payload_violations),
            Some(SuspiciousActivity | UnauthorizedEvent | InvalidOrigin) => add(&self.suspicious_activities),
            _ => {}
        }
    }

    pub fn snapshot(&self) -> TrafficSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
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
            refusals: read(&self.refusals),
        }
    }
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
