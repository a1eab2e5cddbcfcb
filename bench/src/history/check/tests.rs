//! Hand-made histories: those that break a promise by one must be found, and legal ones must pass.

use super::*;
use crate::history::plan::{Limits, PING, Plan, Role, SAY};
use crate::history::record::{Arrival, Client, Fault, Look, Outcome};
use std::time::Duration;

const MS: u64 = 1000;
const SECOND: u64 = 1_000_000;

/// a history that is written by hand
struct Story {
    clients: Vec<Client>,
    arrivals: Vec<Arrival>,
    faults: Vec<Fault>,
    looks: Vec<Look>,
    connections: u64,
    messages: u64,
}

impl Story {
    fn new() -> Self {
        Story {
            clients: Vec::new(),
            arrivals: Vec::new(),
            faults: Vec::new(),
            looks: Vec::new(),
            connections: 0,
            messages: 0,
        }
    }

    fn opens(&mut self, user: Option<&str>, role: Role, address: &str, sent: Moment) -> u64 {
        self.connections += 1;
        self.clients.push(Client::Connect {
            connection: self.connections,
            person: 0,
            user: user.map(str::to_owned),
            role,
            address: address.parse().unwrap(),
            node: 0,
            load: Load::Steady,
            sent,
            done: sent + MS,
            outcome: Outcome::Admitted,
        });
        self.connections
    }

    fn alice(&mut self) -> u64 {
        self.opens(Some("alice"), Role::Member, "192.0.2.1", 0)
    }

    /// messages of which each arrives, `apart` from one another
    fn says(&mut self, connection: u64, event: &str, messages: u64, from: Moment, apart: u64) {
        for number in 0..messages {
            let at = from + number * apart;
            self.messages += 1;
            self.clients.push(Client::Send { connection, number: self.messages, event: event.to_owned(), at });
            self.arrivals.push(Arrival { number: self.messages, at: at + MS });
            self.clients.push(Client::Echo { number: self.messages, at: at + 3 * MS });
        }
    }

    fn looks(&mut self, at: Moment, is_normal: bool, alone: u64) {
        self.looks.extend((0..3).map(|node| Look { node, sent: at, done: at + MS, is_normal, alone, overshoot: 0 }));
    }

    /// with windows of messages of six seconds
    fn verdict(self) -> Verdict {
        let limits = Limits::new(Duration::from_secs(6), 100);
        let plan = Plan { seed: 1, people: 1, nodes: 3, started_ms: 0, limits };
        judge(&Ledger::of(plan, self.clients, &self.arrivals, self.faults, self.looks).unwrap())
    }

    fn violations(self) -> Vec<(Limit, Regime, usize, u32)> {
        let verdict = self.verdict();
        verdict.violations().map(|one| (one.limit, one.regime, one.worst.count, one.worst.bound)).collect()
    }
}

#[test]
fn a_full_quota_passes_and_one_more_within_the_window_is_found() {
    let mut story = Story::new();
    let socket = story.alice();
    story.says(socket, SAY, 20, SECOND, 100 * MS);
    story.says(socket, SAY, 20, SECOND + 6 * SECOND, 100 * MS);
    let verdict = story.verdict();
    assert_eq!(verdict.violations().count(), 0, "{}", verdict.report());
    let (_, row) = &verdict.rows[0];
    assert_eq!((row.subjects, row.through, row.full), (1, 40, 1));

    let mut story = Story::new();
    let socket = story.alice();
    story.says(socket, SAY, 20, SECOND, 100 * MS);
    story.says(socket, SAY, 1, SECOND + 5900 * MS, 1);
    assert_eq!(story.violations(), [(Limit::Messages, Regime::Calm, 21, 20)]);
}

#[test]
fn sockets_of_one_user_count_together_and_a_role_multiplies() {
    let mut story = Story::new();
    let sockets = [1, 2, 3].map(|n| story.opens(Some("bob"), Role::Moderator, &format!("192.0.2.{n}"), 0));
    for socket in sockets {
        story.says(socket, SAY, 10, SECOND, MS);
    }
    let fits = story.clients.clone();
    assert_eq!(story.violations(), []);

    let mut story = Story { clients: fits, messages: 1000, ..Story::new() };
    story.says(sockets[0], SAY, 1, 2 * SECOND, MS);
    // The others' arrivals are lost with the story: their echoes prove as much.
    assert_eq!(story.violations(), [(Limit::Messages, Regime::Calm, 31, 30)]);
}

#[test]
fn users_behind_one_address_share_what_is_counted_by_address() {
    let mut story = Story::new();
    let sockets = ["carol", "dave"].map(|user| story.opens(Some(user), Role::Member, "192.0.2.9", 0));
    story.says(sockets[0], PING, 4, SECOND, MS);
    story.says(sockets[1], PING, 4, SECOND, MS);
    story.says(sockets[1], SAY, 12, SECOND, MS);
    story.says(sockets[0], PING, 1, 2 * SECOND, MS);
    assert_eq!(story.violations(), [(Limit::Pings, Regime::Calm, 9, 8)]);
}

#[test]
fn an_anonymous_ipv6_client_is_its_64_and_a_56_has_four_times_the_limit() {
    let mut story = Story::new();
    for n in 0..9 {
        story.opens(None, Role::Member, &format!("2001:db8:1:{n}::7"), n * MS);
    }
    for n in 0..5 {
        story.opens(None, Role::Member, &format!("2001:db8:2:1::{n}"), 100 * MS + n * 10 * MS);
    }
    let violations = story.violations();
    assert_eq!(violations, [(Limit::AnonymousPerAddress, Regime::Calm, 5, 4)]);
}

#[test]
fn a_message_that_was_sent_and_neither_arrived_nor_came_back_was_not_let_through() {
    let mut story = Story::new();
    let socket = story.alice();
    story.says(socket, SAY, 20, SECOND, MS);
    story.clients.push(Client::Send { connection: socket, number: 99, event: SAY.to_owned(), at: 2 * SECOND });
    assert_eq!(story.violations(), []);
}

#[test]
fn connections_are_counted_by_address_in_their_window() {
    let mut story = Story::new();
    for n in 0..8 {
        story.opens(Some(&format!("user-{n}")), Role::Member, "192.0.2.8", n * 100 * MS);
    }
    assert_eq!(story.connections, 8);
    story.opens(Some("one-more"), Role::Member, "192.0.2.8", 4700 * MS);
    assert_eq!(story.violations(), [(Limit::Connections, Regime::Calm, 9, 8)]);
}

#[test]
fn a_user_with_a_socket_too_many_is_found_and_one_that_closed_before_is_none() {
    let mut story = Story::new();
    let sockets: Vec<_> =
        (0..5).map(|n| story.opens(Some("erin"), Role::Member, &format!("192.0.2.{n}"), n * 10 * MS)).collect();
    story.clients.push(Client::Close { connection: sockets[0], at: SECOND });
    story.opens(Some("erin"), Role::Member, "192.0.2.77", 2 * SECOND);
    let legal = story.clients.clone();
    assert_eq!(story.violations(), []);

    let mut story = Story { clients: legal, connections: 6, ..Story::new() };
    story.opens(Some("erin"), Role::Member, "192.0.2.78", 3 * SECOND);
    assert_eq!(story.violations(), [(Limit::PerUser, Regime::Calm, 6, 5)]);
}

/// Redis is away from the 10th second to the 40th, and the nodes are normal at the 41st
fn with_an_outage() -> (Story, u64) {
    let mut story = Story::new();
    story.faults = vec![Fault::Cut { at: 10 * SECOND, forgets: true }, Fault::Back { at: 40 * SECOND }];
    story.looks(9 * SECOND, true, 0);
    story.looks(41 * SECOND, true, 0);
    let socket = story.alice();
    (story, socket)
}

#[test]
fn x02_each_window_around_an_outage_has_the_bound_of_its_row_and_not_one_more() {
    for (regime, from, bound) in [
        (Regime::Cut, 9, 2 * 20 + 3),
        (Regime::Away, 20, 20 + 3),
        (Regime::Heal, 38, 20 + 3 * 7),
        (Regime::Calm, 50, 20),
    ] {
        let (mut story, socket) = with_an_outage();
        story.says(socket, SAY, bound, from * SECOND, 50 * MS);
        assert_eq!(story.violations(), [], "{regime:?}");

        let (mut story, socket) = with_an_outage();
        story.says(socket, SAY, bound + 1, from * SECOND, 50 * MS);
        let most = u32::try_from(bound).unwrap();
        assert_eq!(story.violations(), [(Limit::Messages, regime, most as usize + 1, most)]);
    }
}

#[test]
fn a_node_that_had_no_answer_widens_the_promise_just_there() {
    let mut story = Story::new();
    let socket = story.alice();
    story.looks(SECOND, true, 0);
    story.looks(2 * SECOND, true, 3);
    story.says(socket, SAY, 23, SECOND, 10 * MS);
    story.looks(20 * SECOND, true, 3);
    let widened = story.clients.clone();
    let looks = story.looks.clone();
    assert_eq!(story.violations(), []);

    let mut story = Story { clients: widened, looks, messages: 1000, ..Story::new() };
    story.says(socket, SAY, 21, 10 * SECOND, 10 * MS);
    assert_eq!(story.violations(), [(Limit::Messages, Regime::Calm, 21, 20)]);
}

#[test]
fn what_is_let_through_is_set_beside_an_exact_log() {
    let mut story = Story::new();
    let socket = story.alice();
    story.says(socket, SAY, 10, SECOND, MS);
    for number in 500..520 {
        story.clients.push(Client::Send { connection: socket, number, event: SAY.to_owned(), at: 2 * SECOND + number });
    }
    let verdict = story.verdict();
    let beside = verdict.calm[&Load::Steady];
    assert_eq!((beside.sent, beside.through, beside.exact), (30, 10, 20));
}
