//! The roll of the processes: which node is lost, and which process runs an older policy than the newest one.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use picket_shared::clock::Timestamp;
use picket_shared::state::{Mode, NodeStatus};

/// who was not heard of for so long is gone, and lost if there was no goodbye
const SILENT_MAX: Duration = Duration::from_secs(10);
/// how long a lost node is waited for
const AWAITED_FOR: Duration = Duration::from_secs(600);
/// how long a policy may take everywhere: a hint, a heartbeat that tells of it, and one that reads that
const ARRIVES_WITHIN: Duration = Duration::from_secs(3);
/// how old a node's word may be to tell what it runs: some heartbeats
const RECENT: Duration = Duration::from_secs(3);
/// nodes that are remembered; beyond it nobody more is missed
const NODES_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Roll {
    /// when each node was heard of last that did not say goodbye
    heard: BTreeMap<String, Timestamp>,
    /// since when each process has followed the policy
    following: BTreeMap<String, Timestamp>,
    /// the version of the policy that all have had the time to take up, and those after it, with when each was seen first
    versions: VecDeque<(u64, Timestamp)>,
    /// since when the state has answered each time
    answers_since: Option<Timestamp>,
}

impl Roll {
    /// the state did not answer: who is silent after that may not have been able to say anything
    pub(crate) fn was_interrupted(&mut self) {
        self.answers_since = None;
        self.following.clear();
    }

    /// takes note of who lives; answers who is lost
    pub(crate) fn lost(&mut self, nodes: &[NodeStatus], now: Timestamp) -> Vec<String> {
        let answers_since = *self.answers_since.get_or_insert(now);
        for node in nodes {
            if node.mode == Mode::Draining {
                self.heard.remove(&node.id);
            } else if self.heard.len() < NODES_MAX || self.heard.contains_key(&node.id) {
                self.heard.insert(node.id.clone(), node.last_seen);
            }
        }
        let living: HashSet<_> = nodes.iter().map(|node| node.id.as_str()).collect();
        self.heard.retain(|id, heard| living.contains(id.as_str()) || now.since(*heard) < AWAITED_FOR);
        let is_lost = |(id, heard): &(&String, &Timestamp)| {
            !living.contains(id.as_str()) && now.since(answers_since.max(**heard)) >= SILENT_MAX
        };
        self.heard.iter().filter(is_lost).map(|(id, _)| id.clone()).collect()
    }

    /// whether a node says what it runs, and may know what is newest: not while it decides without the state, drains, or is silent
    pub(crate) fn follows(node: &NodeStatus, now: Timestamp) -> bool {
        node.mode == Mode::Normal && now.since(node.last_seen) < RECENT
    }

    /// takes note of who follows the policy, and of its newest version; answers who had the time to take a newer one up than it runs
    pub(crate) fn behind(&mut self, running: &[(&str, u64)], newest: u64, now: Timestamp) -> Vec<String> {
        let had_time = |since: Timestamp| now.since(since) >= ARRIVES_WITHIN;
        let before = std::mem::take(&mut self.following);
        let since = |id: &str| before.get(id).copied().unwrap_or(now);
        self.following = running.iter().map(|(id, _)| ((*id).to_owned(), since(id))).collect();
        // A state that lost the policy is given it back, or begins with another one.
        self.versions.retain(|(version, _)| *version <= newest);
        if self.versions.back().is_none_or(|(version, _)| *version < newest) {
            self.versions.push_back((newest, now));
        }
        while self.versions.get(1).is_some_and(|(_, seen)| had_time(*seen)) {
            self.versions.pop_front();
        }
        let due = self.versions.front().filter(|(_, seen)| had_time(*seen)).map_or(0, |(version, _)| *version);
        let late = running.iter().filter(|(id, version)| *version < due && had_time(since(id)));
        late.map(|(id, _)| (*id).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_764_000_000_000 + seconds * 1000)
    }

    fn node(id: &str, mode: Mode, seconds: u64) -> NodeStatus {
        NodeStatus {
            id: id.into(),
            version: "1".into(),
            mode,
            policy_version: 1,
            connections: 0,
            last_seen: at(seconds),
            traffic: Default::default(),
            decisions: None,
            knows_countries: None,
            enforce: Default::default(),
            is_switched: false,
            on_trial: false,
            clock_offset_ms: 0,
        }
    }

    #[test]
    fn who_vanishes_is_lost_until_it_is_back_and_who_says_goodbye_is_not() {
        let mut roll = Roll::default();
        let crew = ["a", "b", "c"].map(|id| node(id, Mode::Normal, 20));
        assert_eq!(roll.lost(&crew, at(20)), [""; 0]);
        let leaving = [node("a", Mode::Normal, 21), node("c", Mode::Draining, 21)];
        assert_eq!(roll.lost(&leaving, at(21)), [""; 0], "an emptied redis lists nobody for a moment");
        assert_eq!(roll.lost(&[node("a", Mode::Normal, 29)], at(29)), [""; 0]);
        assert_eq!(roll.lost(&[node("a", Mode::Normal, 30)], at(30)), ["b"]);
        assert_eq!(roll.lost(&["a", "b"].map(|id| node(id, Mode::Degraded, 31)), at(31)), [""; 0]);
        assert_eq!(roll.lost(&[], at(45)), ["a", "b"]);
        assert_eq!(roll.lost(&[], at(630)), ["a", "b"]);
        assert_eq!(roll.lost(&[], at(631)), [""; 0], "nobody is waited for without end");
    }

    #[test]
    fn nobody_is_lost_who_could_not_say_anything() {
        let mut roll = Roll::default();
        assert_eq!(roll.lost(&[node("a", Mode::Normal, 0)], at(0)), [""; 0]);
        roll.was_interrupted();
        assert_eq!(roll.lost(&[], at(100)), [""; 0]);
        assert_eq!(roll.lost(&[], at(109)), [""; 0]);
        assert_eq!(roll.lost(&[], at(110)), ["a"]);
    }

    #[test]
    fn the_roll_is_bounded() {
        let mut roll = Roll::default();
        let crowd: Vec<_> = (0..NODES_MAX + 10).map(|n| node(&n.to_string(), Mode::Normal, 0)).collect();
        assert_eq!(roll.lost(&crowd, at(0)), [""; 0]);
        assert_eq!(roll.lost(&[], at(60)).len(), NODES_MAX);
    }

    #[test]
    fn who_stays_at_an_older_policy_is_behind_and_who_follows_is_not() {
        let mut roll = Roll::default();
        let mut behind = |versions: [u64; 2], newest, seconds| {
            let [a, b] = versions;
            roll.behind(&[("a", a), ("b", b)], newest, at(seconds))
        };
        for second in 0..10 {
            assert_eq!(behind([7 + second, 6 + second], 7 + second, second), [""; 0], "many changes");
        }
        assert_eq!(behind([15, 16], 17, 10), [""; 0], "what a node said last may be older than what it runs");
        assert_eq!(behind([16, 17], 17, 12), [""; 0]);
        assert_eq!(behind([16, 17], 18, 13), ["a"]);
        assert_eq!(behind([16, 17], 19, 15), ["a"]);
        assert_eq!(behind([16, 17], 19, 16), ["a", "b"]);
        assert_eq!(behind([19, 19], 19, 17), [""; 0]);
        assert_eq!(behind([19, 19], 3, 18), [""; 0], "a state that lost the policy");
        assert_eq!(behind([19, 19], 20, 19), [""; 0]);
        assert_eq!(behind([19, 20], 20, 22), ["a"]);
    }

    #[test]
    fn who_cannot_know_of_a_policy_or_says_nothing_is_not_behind() {
        let follows = Mode::ALL.map(|mode| Roll::follows(&node("a", mode, 10), at(12)));
        assert_eq!(follows, Mode::ALL.map(|mode| mode == Mode::Normal));
        assert!(!Roll::follows(&node("a", Mode::Normal, 10), at(13)));
    }

    #[test]
    fn who_begins_to_follow_has_the_time_to_learn() {
        let mut roll = Roll::default();
        assert_eq!(roll.behind(&[("a", 7)], 7, at(0)), [""; 0]);
        assert_eq!(roll.behind(&[("a", 7), ("b", 0)], 7, at(100)), [""; 0]);
        assert_eq!(roll.behind(&[("a", 7), ("b", 0)], 7, at(103)), ["b"]);
        roll.was_interrupted();
        assert_eq!(roll.behind(&[("a", 7), ("b", 0)], 8, at(200)), [""; 0]);
        assert_eq!(roll.behind(&[("a", 7), ("b", 8)], 8, at(203)), ["a"]);
    }
}
