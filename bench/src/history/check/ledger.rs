//! From what was written down to what is counted: which limits each message and each connection counts against, and as whose.

use anyhow::{Context, Result};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use super::windows::{Interval, Stay};
use crate::history::plan::{Limits, Load, PING, Plan, Rate, Role, TYPING};
use crate::history::record::{self, Arrival, Client, Fault, Look, Moment, Outcome};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Limit {
    Messages,
    Typing,
    Pings,
    Connections,
    Anonymous,
    AnonymousPerAddress,
    PerUser,
}

impl Limit {
    pub const ALL: [Limit; 7] = [
        Limit::Messages,
        Limit::Typing,
        Limit::Pings,
        Limit::Connections,
        Limit::Anonymous,
        Limit::AnonymousPerAddress,
        Limit::PerUser,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Messages => "messageLimit (user, else address)",
            Limit::Typing => "events, per: user",
            Limit::Pings => "events, per: address",
            Limit::Connections => "connectionLimit (address)",
            Limit::Anonymous => "maxAnonymousConnections",
            Limit::AnonymousPerAddress => "maxAnonymousPerAddress",
            Limit::PerUser => "concurrentConnections.perUser",
        }
    }
}

/// whose uses of which limit are added up
#[derive(Clone, Debug)]
pub struct Subject {
    pub limit: Limit,
    pub name: String,
    /// in microseconds; 0 where places are counted, not uses
    pub window: u64,
    /// the largest that any of its uses was held against: that of its highest role
    pub most: u32,
    pub asked: u64,
    pub uses: Vec<Interval>,
    pub stays: Vec<Stay>,
}

/// one use counts as one of this subject's, and no more may be than this
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    pub subject: usize,
    pub limit: u32,
}

#[derive(Debug)]
pub struct Message {
    pub sent: Moment,
    pub load: Load,
    pub charges: Vec<Charge>,
    pub is_through: bool,
}

/// all that is known of a history
pub struct Ledger {
    pub plan: Plan,
    pub faults: Vec<Fault>,
    pub looks: Vec<Look>,
    pub subjects: Vec<Subject>,
    /// in the order in which they were sent
    pub messages: Vec<Message>,
    pub refused: HashMap<Limit, u64>,
    pub last: Moment,
}

#[derive(Clone)]
struct Visit {
    user: Option<String>,
    role: Role,
    address: IpAddr,
    load: Load,
    sent: Moment,
    /// when it was open
    open: Option<Moment>,
    /// when it was open for sure, to its last proof: an echo, or that the client began to close, or has not seen its end
    proof: Moment,
    closes: Option<Moment>,
    ends: Option<Moment>,
}

impl Ledger {
    pub fn read(directory: &Path) -> Result<Self> {
        let plan = std::fs::read_to_string(directory.join(record::PLAN)).context("no plan of a history is there")?;
        let clients = record::read(directory, record::CLIENTS)?;
        let arrivals = record::read(directory, record::UPSTREAM)?;
        let faults = record::read(directory, record::FAULTS)?;
        let mut looks: Vec<Look> = record::read(directory, record::NODES)?;
        looks.sort_by_key(|look| look.sent);
        let plan = serde_json::from_str(&plan).context("the plan of the history")?;
        Ledger::of(plan, clients, &arrivals, faults, looks)
    }

    pub fn of(
        plan: Plan,
        mut clients: Vec<Client>,
        arrivals: &[Arrival],
        faults: Vec<Fault>,
        looks: Vec<Look>,
    ) -> Result<Self> {
        clients.sort_by_key(moment);
        let last = clients.iter().map(latest).max().unwrap_or_default();
        let through = let_through(&clients, arrivals);
        let visits = visits(&clients, &through);
        let mut book = Book { limits: &plan.limits, subjects: Vec::new(), places: HashMap::new() };
        let mut messages = Vec::new();
        let mut refused = HashMap::new();
        for record in &clients {
            match record {
                Client::Send { connection, number, event, at } => {
                    let visit = visits.get(connection).context("a message on no connection")?;
                    let through = through.get(number).map(|&high| Interval { low: *at, high: high.max(*at) });
                    let charges = book.message(visit, event);
                    book.count(&charges, through);
                    messages.push(Message { sent: *at, load: visit.load, charges, is_through: through.is_some() });
                }
                Client::Connect { connection, outcome, .. } => {
                    let visit = visits.get(connection).context("no such connection")?;
                    book.connection(visit, last);
                    if let Some(limit) = refusal_of(*outcome, visit) {
                        *refused.entry(limit).or_default() += 1;
                    }
                }
                Client::Refused { event, reason, .. } => {
                    if let Some(limit) = limit_of(event, reason) {
                        *refused.entry(limit).or_default() += 1;
                    }
                }
                Client::Echo { .. } | Client::Close { .. } | Client::End { .. } => {}
            }
        }
        let subjects = book.subjects;
        Ok(Ledger { plan, faults, looks, subjects, messages, refused, last })
    }

    pub fn subjects_of(&self, limit: Limit) -> impl Iterator<Item = &Subject> {
        self.subjects.iter().filter(move |subject| subject.limit == limit)
    }
}

fn moment(record: &Client) -> Moment {
    match record {
        Client::Connect { sent, .. } => *sent,
        Client::Send { at, .. }
        | Client::Echo { at, .. }
        | Client::Refused { at, .. }
        | Client::Close { at, .. }
        | Client::End { at, .. } => *at,
    }
}

fn latest(record: &Client) -> Moment {
    match record {
        Client::Connect { done, .. } => *done,
        other => moment(other),
    }
}

/// a message that arrived or came back was let through, not later than that
fn let_through(clients: &[Client], arrivals: &[Arrival]) -> HashMap<u64, Moment> {
    let echoes = clients.iter().filter_map(|record| match record {
        Client::Echo { number, at } => Some((*number, *at)),
        _ => None,
    });
    let mut through: HashMap<u64, Moment> = HashMap::new();
    for (number, at) in arrivals.iter().map(|arrival| (arrival.number, arrival.at)).chain(echoes) {
        through.entry(number).and_modify(|known| *known = (*known).min(at)).or_insert(at);
    }
    through
}

fn visits(clients: &[Client], through: &HashMap<u64, Moment>) -> HashMap<u64, Visit> {
    let mut visits: HashMap<u64, Visit> = HashMap::new();
    for record in clients {
        match record {
            Client::Connect { connection, user, role, address, load, sent, done, outcome, .. } => {
                let open = (*outcome == Outcome::Admitted).then_some(*done);
                let (user, role, address, load) = (user.clone(), *role, *address, *load);
                let visit =
                    Visit { user, role, address, load, sent: *sent, open, proof: *done, closes: None, ends: None };
                visits.insert(*connection, visit);
            }
            Client::Send { connection, number, at, .. } if through.contains_key(number) => {
                if let Some(visit) = visits.get_mut(connection) {
                    visit.proof = visit.proof.max(*at);
                }
            }
            Client::Close { connection, at } => {
                if let Some(visit) = visits.get_mut(connection) {
                    visit.closes.get_or_insert(*at);
                }
            }
            Client::End { connection, at } => {
                if let Some(visit) = visits.get_mut(connection) {
                    visit.ends.get_or_insert(*at);
                }
            }
            Client::Send { .. } | Client::Echo { .. } | Client::Refused { .. } => {}
        }
    }
    visits
}

impl Visit {
    /// until when its place was surely held
    fn until(&self, last: Moment) -> Moment {
        match (self.closes, self.ends) {
            (Some(closes), ends) if ends.is_none_or(|ends| ends >= closes) => closes,
            // The other side ended it, some time before that was seen.
            (_, Some(_)) => self.proof,
            (_, None) => last,
        }
    }
}

/// makes subjects, and counts
struct Book<'a> {
    limits: &'a Limits,
    subjects: Vec<Subject>,
    places: HashMap<(Limit, String), usize>,
}

impl Book<'_> {
    fn message(&mut self, visit: &Visit, event: &str) -> Vec<Charge> {
        let mut charges = Vec::with_capacity(2);
        if event.starts_with("chat:") {
            self.add(&mut charges, Limit::Messages, self.limits.messages, visit, true);
        }
        if event == TYPING {
            self.add(&mut charges, Limit::Typing, self.limits.typing, visit, true);
        }
        if event == PING {
            self.add(&mut charges, Limit::Pings, self.limits.pings, visit, false);
        }
        charges
    }

    fn add(&mut self, charges: &mut Vec<Charge>, limit: Limit, rate: Rate, visit: &Visit, by_user: bool) {
        let most = scaled(rate.limit, visit.role, self.limits.moderator_factor);
        match visit.user.as_ref().filter(|_| by_user) {
            Some(user) => {
                let subject = self.subject(limit, user.clone(), rate.window_ms);
                charges.push(Charge { subject, limit: most });
            }
            None => charges.extend(tiers(visit.address).into_iter().map(|(name, factor)| {
                let subject = self.subject(limit, name, rate.window_ms);
                Charge { subject, limit: most * factor }
            })),
        }
    }

    fn connection(&mut self, visit: &Visit, last: Moment) {
        let rate = self.limits.connections;
        let mut charges = Vec::new();
        for (name, factor) in tiers(visit.address) {
            let subject = self.subject(Limit::Connections, name, rate.window_ms);
            charges.push(Charge { subject, limit: rate.limit * factor });
        }
        self.count(&charges, visit.open.map(|open| Interval { low: visit.sent, high: open }));
        let held = visit.open.map(|open| Interval { low: open, high: visit.until(last).max(open) });
        for (limit, name, cap) in self.places_of(visit) {
            let subject = self.subject(limit, name, 0);
            let subject = &mut self.subjects[subject];
            subject.asked += 1;
            subject.most = subject.most.max(cap);
            subject.stays.extend(held.map(|held| Stay { asked: visit.sent, held }));
        }
    }

    fn places_of(&self, visit: &Visit) -> Vec<(Limit, String, u32)> {
        match &visit.user {
            Some(user) => vec![(Limit::PerUser, user.clone(), self.limits.per_user)],
            None => {
                let per_address = tiers(visit.address).into_iter();
                let cap = self.limits.anonymous_per_address;
                per_address
                    .map(|(name, factor)| (Limit::AnonymousPerAddress, name, cap * factor))
                    .chain([(Limit::Anonymous, "all".to_owned(), self.limits.anonymous)])
                    .collect()
            }
        }
    }

    fn subject(&mut self, limit: Limit, name: String, window_ms: u64) -> usize {
        *self.places.entry((limit, name)).or_insert_with_key(|(limit, name)| {
            self.subjects.push(Subject {
                limit: *limit,
                name: name.clone(),
                window: window_ms * 1000,
                most: 0,
                asked: 0,
                uses: Vec::new(),
                stays: Vec::new(),
            });
            self.subjects.len() - 1
        })
    }

    fn count(&mut self, charges: &[Charge], through: Option<Interval>) {
        for charge in charges {
            let subject = &mut self.subjects[charge.subject];
            subject.asked += 1;
            subject.most = subject.most.max(charge.limit);
            subject.uses.extend(through);
        }
    }
}

/// rounded down, at least 1, as the policy says
fn scaled(limit: u32, role: Role, factor: f64) -> u32 {
    match role {
        Role::Member => limit,
        // A factor such as 1.15 is not exact in binary.
        Role::Moderator => ((f64::from(limit) * factor + 1e-6) as u32).max(1),
    }
}

/// an IPv4 address; of IPv6 a /64, and its /56 and /48 with 4 and 16 times the limit
fn tiers(address: IpAddr) -> Vec<(String, u32)> {
    match address {
        IpAddr::V4(address) => vec![(address.to_string(), 1)],
        IpAddr::V6(address) => [(64, 1), (56, 4), (48, 16)]
            .into_iter()
            .map(|(length, factor)| {
                let network = Ipv6Addr::from(u128::from(address) >> (128 - length) << (128 - length));
                (format!("{network}/{length}"), factor)
            })
            .collect(),
    }
}

fn limit_of(event: &str, reason: &str) -> Option<Limit> {
    match (reason, event) {
        ("message_rate", _) => Some(Limit::Messages),
        ("event_rate", TYPING) => Some(Limit::Typing),
        ("event_rate", PING) => Some(Limit::Pings),
        _ => None,
    }
}

/// 503 is the answer to an anonymous connection too many; 429 also to one of a user, where a rate is the commoner reason
fn refusal_of(outcome: Outcome, visit: &Visit) -> Option<Limit> {
    match outcome {
        Outcome::Refused(503) => Some(Limit::Anonymous),
        Outcome::Refused(429) if visit.user.is_some() && visit.load == Load::Hoard => Some(Limit::PerUser),
        Outcome::Refused(429) => Some(Limit::Connections),
        Outcome::Refused(_) | Outcome::Admitted | Outcome::Failed => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_client_counts_three_times() {
        let names: Vec<_> = tiers("2001:db8:1:2f3:4::5".parse().unwrap());
        assert_eq!(
            names,
            [
                ("2001:db8:1:2f3::/64".to_owned(), 1),
                ("2001:db8:1:200::/56".to_owned(), 4),
                ("2001:db8:1::/48".to_owned(), 16),
            ]
        );
        assert_eq!(tiers("192.0.2.7".parse().unwrap()), [("192.0.2.7".to_owned(), 1)]);
    }

    #[test]
    fn a_place_is_held_to_the_last_proof() {
        let visit = Visit {
            user: None,
            role: Role::Member,
            address: "192.0.2.7".parse().unwrap(),
            load: Load::Hoard,
            sent: 1,
            open: Some(5),
            proof: 40,
            closes: None,
            ends: None,
        };
        assert_eq!(visit.until(100), 100, "never seen to end");
        assert_eq!(Visit { ends: Some(60), ..visit.clone() }.until(100), 40, "it may have ended right after the echo");
        assert_eq!(Visit { closes: Some(55), ends: Some(60), ..visit.clone() }.until(100), 55);
        assert_eq!(Visit { closes: Some(55), ends: Some(50), ..visit }.until(100), 40);
    }
}
