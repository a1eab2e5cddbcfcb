//! What a trial did to people: refusals at its node, each kind by itself, beside what is usual there and at the others. Much of one
//! kind hides nothing of another.

use picket_shared::state::{Decisions, NodeStatus};
use std::fmt;

/// decisions without which nothing is said about a rate while a trial lasts
const ENOUGH: u64 = 20;
/// a rate of refusals that is harmful by itself, and how many times the usual one is
const HARMFUL: f64 = 0.5;
const HARMFUL_FACTOR: f64 = 5.0;
/// the usual rate is taken for at least this
const USUAL_MIN: f64 = 0.01;

/// refusals among all decisions of a kind
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rate {
    refused: u64,
    all: u64,
}

/// what a node decided in some time
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Decided {
    /// that would come in
    connections: Rate,
    /// open ones, and how many had to go
    sessions: Rate,
    events: Rate,
}

/// the share of refusals that nobody wonders at, by kind
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usual([f64; 3]);

impl Decided {
    /// since its start
    pub(super) fn of(node: &NodeStatus) -> Self {
        let told = node.decisions.unwrap_or_else(|| guessed(node));
        let opened = node.traffic.total_connections;
        Decided {
            connections: Rate::of(told.connections_refused, told.connections_admitted),
            sessions: Rate { refused: told.sessions_ended, all: opened.max(told.sessions_ended) },
            events: Rate::of(told.events_refused, told.events_cleared),
        }
    }

    /// since it said the other thing; whoever was not there then, or started again, counts from zero
    pub(super) fn since(before: Option<&NodeStatus>, after: &NodeStatus) -> Self {
        let all = Decided::of(after);
        let grown = before.and_then(|before| Some((before.connections, all.less(Decided::of(before))?)));
        grown.map_or(all, |(open, grown)| grown.and_open(open))
    }

    pub(super) fn plus(self, other: Decided) -> Self {
        Decided {
            connections: self.connections.plus(other.connections),
            sessions: self.sessions.plus(other.sessions),
            events: self.events.plus(other.events),
        }
    }

    /// the greater of both, where this node decided the one before and others the other meanwhile
    pub(super) fn usual_beside(self, others: Decided) -> Usual {
        let (own, others) = (self.kinds(), others.kinds());
        Usual(std::array::from_fn(|kind| own[kind].0.fraction().max(others[kind].0.fraction())))
    }

    /// why this is too much
    pub(super) fn harm(self, usual: Usual) -> Option<String> {
        let mut kinds = self.kinds().into_iter().zip(usual.0);
        kinds.find_map(|((rate, what), usual)| {
            let usual = usual.max(USUAL_MIN);
            let told = || format!("{} {what}, where {:.1} % is usual", rate, usual * 100.0);
            rate.is_harmful(usual).then(told)
        })
    }

    /// why this is too much though it is little, and there is no more to come
    pub(super) fn harm_at_the_end(self) -> Option<String> {
        let mut kinds = self.kinds().into_iter();
        kinds.find_map(|(rate, what)| {
            rate.is_mostly_refused().then(|| format!("{rate} {what}, which is more than half"))
        })
    }

    fn kinds(self) -> [(Rate, &'static str); 3] {
        [
            (self.connections, "connections refused"),
            (self.sessions, "open connections ended"),
            (self.events, "events refused"),
        ]
    }

    fn less(self, before: Decided) -> Option<Self> {
        Some(Decided {
            connections: self.connections.less(before.connections)?,
            sessions: self.sessions.less(before.sessions)?,
            events: self.events.less(before.events)?,
        })
    }

    /// who was there already could have to go too
    fn and_open(self, connections: u64) -> Self {
        let Rate { refused, all } = self.sessions;
        Decided { sessions: Rate { refused, all: refused.max(all + connections) }, ..self }
    }
}

/// what a node decided that does not tell it, as a version before did: close to it, but for whom an outage kept out
fn guessed(node: &NodeStatus) -> Decisions {
    let traffic = &node.traffic;
    Decisions {
        connections_admitted: traffic.total_connections,
        connections_refused: traffic.blocked_attempts,
        sessions_ended: 0,
        events_cleared: traffic.events,
        events_refused: traffic.refusals.saturating_sub(traffic.blocked_attempts),
    }
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.kinds().into_iter().filter(|(rate, _)| rate.all > 0);
        let told: Vec<_> = seen.map(|(rate, what)| format!("{rate} {what}")).collect();
        f.write_str(if told.is_empty() { "nobody there" } else { "" })?;
        f.write_str(&told.join(", "))
    }
}

impl Rate {
    fn of(refused: u64, passed: u64) -> Self {
        Rate { refused, all: refused + passed }
    }

    fn plus(self, other: Rate) -> Self {
        Rate { refused: self.refused + other.refused, all: self.all + other.all }
    }

    fn less(self, before: Rate) -> Option<Self> {
        Some(Rate { refused: self.refused.checked_sub(before.refused)?, all: self.all.checked_sub(before.all)? })
    }

    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    fn fraction(self) -> f64 {
        if self.all < ENOUGH { 0.0 } else { self.refused as f64 / self.all as f64 }
    }

    fn is_harmful(self, usual: f64) -> bool {
        self.fraction() > HARMFUL || self.fraction() > HARMFUL_FACTOR * usual
    }

    fn is_mostly_refused(self) -> bool {
        self.refused > self.all / 2
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.refused, self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::clock::Timestamp;
    use picket_shared::state::{Mode, TrafficSnapshot};

    fn node(open: u64, decisions: Decisions) -> NodeStatus {
        NodeStatus {
            id: "edge-1".into(),
            version: "0.1.0".into(),
            mode: Mode::Normal,
            policy_version: 1,
            connections: open,
            last_seen: Timestamp::default(),
            traffic: TrafficSnapshot { total_connections: open, ..TrafficSnapshot::default() },
            decisions: Some(decisions),
            knows_countries: None,
            enforce: Default::default(),
            is_switched: false,
            on_trial: true,
            clock_offset_ms: 0,
        }
    }

    /// what is said of a trial in which this was decided, at a node with three open connections where nothing was refused before
    fn trial(decisions: Decisions) -> (Option<String>, Option<String>) {
        let before = node(3, Decisions { connections_admitted: 3, events_cleared: 900, ..Decisions::default() });
        let after = Decisions {
            connections_admitted: 3 + decisions.connections_admitted,
            events_cleared: 900 + decisions.events_cleared,
            ..decisions
        };
        let seen = Decided::since(Some(&before), &node(3, after));
        (seen.harm(Decided::of(&before).usual_beside(Decided::default())), seen.harm_at_the_end())
    }

    #[test]
    fn x30_traffic_on_open_connections_does_not_hide_that_newcomers_are_refused() {
        let (meanwhile, _) =
            trial(Decisions { connections_refused: 25, events_cleared: 5_743, ..Decisions::default() });
        assert_eq!(meanwhile.unwrap(), "25 of 25 connections refused, where 1.0 % is usual");
        let many_newcomers = Decisions { connections_admitted: 5_000, ..Decisions::default() };
        let (meanwhile, _) = trial(Decisions { events_cleared: 13, events_refused: 7, ..many_newcomers });
        assert_eq!(meanwhile.unwrap(), "7 of 20 events refused, where 1.0 % is usual");
        let (meanwhile, at_the_end) =
            trial(Decisions { connections_admitted: 24, connections_refused: 1, ..Decisions::default() });
        assert_eq!((meanwhile, at_the_end), (None, None));
    }

    #[test]
    fn x30_nor_that_open_connections_are_ended() {
        let (_, at_the_end) = trial(Decisions { sessions_ended: 3, events_cleared: 5_000, ..Decisions::default() });
        assert_eq!(at_the_end.unwrap(), "3 of 3 open connections ended, which is more than half");
    }

    #[test]
    fn x30_few_decisions_are_judged_at_the_end_when_most_are_refusals() {
        for (refused, admitted, is_harm) in [(7, 0, true), (1, 0, true), (7, 6, true), (7, 7, false), (0, 0, false)] {
            let seen = Decisions {
                connections_refused: refused,
                connections_admitted: admitted,
                events_cleared: 5_000,
                ..Decisions::default()
            };
            let (meanwhile, at_the_end) = trial(seen);
            assert_eq!((meanwhile.is_some(), at_the_end.is_some()), (false, is_harm), "{refused} and {admitted}");
        }
        let (_, at_the_end) = trial(Decisions { events_refused: 4, events_cleared: 3, ..Decisions::default() });
        assert_eq!(at_the_end.unwrap(), "4 of 7 events refused, which is more than half");
    }

    #[test]
    fn x30_five_times_the_usual_rate_or_more_than_half_is_harmful_once_there_is_enough_to_say_so() {
        let harm = |refused, all, usual| Rate { refused, all }.is_harmful(f64::max(usual, USUAL_MIN));
        assert!(!harm(19, 19, 0.0), "too few to say");
        assert!(harm(11, 20, 0.4), "more than half");
        assert!(harm(2, 20, 0.0) && !harm(1, 20, 0.0), "more than five times one in a hundred");
        assert!(!harm(40, 100, 0.1) && harm(51, 100, 0.1));
    }

    #[test]
    fn what_is_usual_for_one_kind_is_not_for_another() {
        let before = Decisions {
            connections_refused: 20,
            connections_admitted: 80,
            events_refused: 0,
            events_cleared: 100,
            ..Decisions::default()
        };
        let after = Decisions { connections_refused: 30, connections_admitted: 90, ..before };
        let harm = |before, after| {
            let (before, after) = (node(0, before), node(0, after));
            let others = Decided::of(&node(0, Decisions::default()));
            Decided::since(Some(&before), &after).harm(Decided::of(&before).usual_beside(others))
        };
        assert_eq!(harm(before, after), None, "half are refused, where a fifth is usual");
        let events = Decisions { events_refused: 10, events_cleared: 110, ..before };
        assert_eq!(harm(before, events).unwrap(), "10 of 20 events refused, where 1.0 % is usual");
    }

    #[test]
    fn who_started_again_counts_from_zero() {
        let counts = |connections_admitted, events_refused| {
            node(5, Decisions { connections_admitted, events_refused, ..Decisions::default() })
        };
        let (before, after) = (counts(100, 10), counts(4, 2));
        assert_eq!(Decided::since(Some(&before), &after), Decided::of(&after));
        assert_eq!(Decided::since(None, &after), Decided::of(&after));
    }

    #[test]
    fn a_node_of_a_version_before_is_judged_by_what_it_tells() {
        let told = |blocked_attempts, events, refusals, total_connections| {
            let traffic =
                TrafficSnapshot { blocked_attempts, events, refusals, total_connections, ..TrafficSnapshot::default() };
            NodeStatus { traffic, decisions: None, ..node(3, Decisions::default()) }
        };
        let (before, after) = (told(0, 900, 0, 3), told(25, 6_643, 29, 3));
        let seen = Decided::since(Some(&before), &after);
        assert_eq!(
            seen.to_string(),
            "25 of 25 connections refused, 0 of 3 open connections ended, 4 of 5747 events refused"
        );
        assert!(seen.harm(Usual::default()).unwrap().starts_with("25 of 25 connections refused"));
    }

    #[test]
    fn a_trial_to_which_nobody_came_says_so() {
        assert_eq!(Decided::default().to_string(), "nobody there");
    }
}
