//! The report: one table of medians, and the goals beside what was reached.

use std::fmt::Write;

use crate::figures::{Figure, Results};
use crate::machine::Machine;
use crate::measure::Effort;
use crate::peers::{LIMIT_BEYOND, Peer};

/// what the figures were taken with
pub struct About<'a> {
    pub machine: &'a Machine,
    pub versions: &'a [(&'static str, String)],
    pub redis: &'a str,
    pub rounds: u8,
    pub effort: Effort,
    pub quick: bool,
}

struct Column {
    title: &'static str,
    figure: Figure,
    /// shown behind a plus, where there is one
    redis: Option<Figure>,
    decimals: usize,
}

const fn column(title: &'static str, figure: Figure, redis: Option<Figure>, decimals: usize) -> Column {
    Column { title, figure, redis, decimals }
}

const MESSAGES: [Column; 7] = [
    column("50 connections", Figure::Fifty, Some(Figure::FiftyRedis), 1),
    column("500", Figure::FiveHundred, Some(Figure::FiveHundredRedis), 1),
    column("50, 8 at once", Figure::Burst, Some(Figure::BurstRedis), 1),
    column("messages/s, 50", Figure::FiftyRate, None, 0),
    column("4k/s: CPU", Figure::Paced, None, 1),
    column("p50 µs", Figure::PacedP50, None, 0),
    column("p99 µs", Figure::PacedP99, None, 0),
];

const POLLING: [Column; 4] = [
    column("50 clients", Figure::Polled, Some(Figure::PolledRedis), 1),
    column("messages/s", Figure::PolledRate, None, 0),
    column("p50 µs", Figure::PolledP50, None, 0),
    column("p99 µs", Figure::PolledP99, None, 0),
];

const CONNECTIONS: [Column; 3] = [
    column("accepted, CPU µs", Figure::Accepted, None, 0),
    column("refused, CPU µs", Figure::Refused, None, 0),
    column("idle, KiB", Figure::IdleKib, None, 1),
];

const TRIPS: [Column; 5] = [
    column("trips per 1,000, limit 1,000", Figure::TripsThousand, None, 0),
    column("Redis µs per message, limit 1,000", Figure::RedisThousand, None, 2),
    column("trips per 1,000, limit 100", Figure::TripsHundred, None, 0),
    column("Redis µs per message, limit 100", Figure::RedisHundred, None, 2),
    column("trips per 1,000, limit beyond the load", Figure::TripsBeyond, None, 1),
];

pub fn report(results: &Results, about: &About) -> String {
    let mut text = String::from("# Picket beside its peers\n\n");
    if about.quick {
        text.push_str("**A quick run: it shows that everything works. Its figures mean little.**\n\n");
    }
    let cost = "CPU of the proxy in µs per message (client → upstream → client), + that of Redis";
    push(&mut text, &format!("## Messages\n\n{cost}.\n\n{}", table(results, &MESSAGES)));
    let polling = table(results, &POLLING);
    push(
        &mut text,
        &format!("## Socket.IO over long-polling\n\n{cost}; the message is posted while a poll is open.\n\n{polling}"),
    );
    push(&mut text, &format!("## Connections\n\n{}", table(results, &CONNECTIONS)));
    push(&mut text, &format!("## Trips to Redis\n\n50 users, 90 % of their limit.\n\n{}", table(results, &TRIPS)));
    push(&mut text, &format!("## Goals\n\n{}", goals(results)));
    push(&mut text, &conditions(about));
    text
}

fn push(text: &mut String, section: &str) {
    text.push_str(section);
    text.push('\n');
}

/// peers that have none of these figures are left out
fn table(results: &Results, columns: &[Column]) -> String {
    let mut text = String::from("| |");
    columns.iter().for_each(|column| text.extend([" ", column.title, " |"]));
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(columns.len()));
    text.push('\n');
    for peer in results.peers() {
        let cells: Vec<_> = columns.iter().map(|column| cell(results, peer, column)).collect();
        if cells.iter().any(|cell| cell != "–") {
            text.extend(["| ", peer.title(), " | ", &cells.join(" | "), " |\n"]);
        }
    }
    text
}

fn cell(results: &Results, peer: Peer, column: &Column) -> String {
    let Some(value) = results.median(peer, column.figure) else {
        return "–".to_owned();
    };
    let decimals = column.decimals;
    match column.redis.and_then(|redis| results.median(peer, redis)) {
        Some(redis) => format!("{value:.decimals$} + {redis:.decimals$}"),
        None => format!("{value:.decimals$}"),
    }
}

/// the median over the rounds of each goal's ratio
fn goals(results: &Results) -> String {
    use Figure::{
        Accepted, Burst, Fifty, FiftyRedis, FiveHundred, IdleKib, PacedP99, RedisHundred, RedisThousand, Refused,
        TripsHundred, TripsThousand,
    };
    use Peer::{Bare, BareEager, Nginx, NodeProxy, Picket, PicketSocketio, PicketTwoCores, SocketioChecked};
    let ratio = |above: (Peer, Figure), below: (Peer, Figure)| {
        results.of_rounds([above, below], |[above, below]| above / below)
    };
    // Both with their Redis.
    let whole = |above: Peer, below: Peer| {
        let of = [(above, Fifty), (above, FiftyRedis), (below, Fifty), (below, FiftyRedis)];
        results.of_rounds(of, |[above, its, below, others]| (above + its) / (below + others))
    };
    // With two cores in all, the load needs one of them: what two can move is told from what a message costs there.
    let two_cores = ratio((Picket, FiveHundred), (PicketTwoCores, FiveHundred)).map(|ratio| 2.0 * ratio);
    let added = results.of_rounds([(Picket, PacedP99), (Bare, PacedP99)], |[picket, bare]| (picket - bare) / bare);
    let rows = [
        ("CPU per message ÷ bare proxy, 50 connections", At::Most(1.10), ratio((Picket, Fifty), (Bare, Fifty))),
        ("the same, 500 connections", At::Most(1.10), ratio((Picket, FiveHundred), (Bare, FiveHundred))),
        ("the same, 8 messages at once, ÷ flushing each", At::Most(0.85), ratio((Picket, Burst), (BareEager, Burst))),
        ("CPU per message ÷ nginx without checks", At::Most(1.15), ratio((Picket, Fifty), (Nginx, Fifty))),
        ("Node proxy ÷ Picket, Redis included", At::Least(4.0), whole(NodeProxy, Picket)),
        ("Socket.IO in-process ÷ Picket, Redis included", At::Least(3.5), whole(SocketioChecked, PicketSocketio)),
        ("messages that two cores can move ÷ one, by CPU per message, 500 connections", At::Least(1.8), two_cores),
        ("4k messages/s: p99 added ÷ p99 of the bare proxy", At::Most(0.25), added),
        ("trips per 1,000 messages, limit 1,000", At::Most(20.0), results.median(Picket, TripsThousand)),
        ("trips per 1,000 messages, limit 100", At::Most(130.0), results.median(Picket, TripsHundred)),
        ("Redis µs per message, limit 1,000", At::Most(0.3), results.median(Picket, RedisThousand)),
        ("Redis µs per message, limit 100", At::Most(1.5), results.median(Picket, RedisHundred)),
        ("KiB per idle connection", At::Most(10.0), results.median(Picket, IdleKib)),
        ("accepted connection ÷ bare proxy", At::Most(1.15), ratio((Picket, Accepted), (Bare, Accepted))),
        ("refused ÷ accepted connection", At::Most(0.35), ratio((Picket, Refused), (Picket, Accepted))),
    ];
    let mut text = String::from("| | goal | measured | |\n|---|---|---|---|\n");
    for (name, goal, value) in rows {
        let Some(value) = value else { continue };
        let (sign, bound, met) = match goal {
            At::Most(bound) => ("≤", bound, value <= bound),
            At::Least(bound) => ("≥", bound, value >= bound),
        };
        let verdict = if met { "met" } else { "missed" };
        text.extend([format!("| {name} | {sign} {bound} | {value:.2} | {verdict} |\n")]);
    }
    text
}

enum At {
    Most(f64),
    Least(f64),
}

fn conditions(about: &About) -> String {
    let mut text = format!("## Measured on\n\n{}.\n", about.machine.sentence());
    for (title, version) in about.versions {
        // Writing to a text cannot fail.
        writeln!(text, "- {title}: {version}").ok();
    }
    let Effort { millis, idle, connections } = about.effort;
    text.push_str(&format!(
        "- {}\n\nMedians over {} round(s); in each, every peer in turn, started anew. {millis} ms of each load, {idle} idle connections, \
         {connections} connections that come and go. Loopback; the proxy alone on one core, load, echo, Redis and coordinator on \
         the other cores. 122-byte JSON in one masked text frame; every connection a user of its own with a JWT. Picket in \
         production: a node and a coordinator over Redis, audit and metrics on, the policy as shipped but for the limits, which \
         stand at {LIMIT_BEYOND} so that no load is refused. Polling clients \
         have two connections each; nginx and HAProxy pass their requests on to the Socket.IO server without checks, Picket speaks \
         WebSocket to the echo. The Socket.IO server's figures hold the application's own part; \
         Picket's do not.\n",
        about.redis, about.rounds,
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let mut results = Results::default();
        for (figure, value) in [(Figure::Fifty, 16.04), (Figure::FiftyRedis, 0.31), (Figure::FiftyRate, 50_123.4)] {
            results.add(Peer::Picket, figure, value);
        }
        results.add(Peer::Bare, Figure::Fifty, 15.0);
        results.add(Peer::Nginx, Figure::IdleKib, 17.0);
        results
    }

    #[test]
    fn a_row_holds_what_a_peer_has_and_nothing_else() {
        let table = table(&results(), &MESSAGES);
        assert!(
            table.contains("| Picket, JSON route, all checks | 16.0 + 0.3 | – | – | 50123 | – | – | – |"),
            "{table}"
        );
        assert!(!table.contains("nginx"), "{table}");
    }

    #[test]
    fn goals_without_figures_are_left_out_and_the_others_judged() {
        let goals = goals(&results());
        assert!(goals.contains("50 connections | ≤ 1.1 | 1.07 | met |"), "{goals}");
        assert_eq!(goals.lines().count(), 3, "{goals}");
    }
}
