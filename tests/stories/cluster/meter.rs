//! Speaking on many sockets at once, and counting what was let through in any window of time.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Client, Cluster, Token};

/// `messageLimit`, and nothing else in its way.
pub fn message_limit(messages: usize, window: Duration) -> Value {
    let window_ms = window.as_millis() as u64;
    json!({ "rateLimiting": { "messageLimit": { "maxMessages": messages, "windowMs": window_ms, "events": ["*"] } } })
}

/// A socket of the user on each node, from an address of its own.
pub async fn everywhere(cluster: &Cluster, user: &str) -> Vec<Client> {
    let token = Token::of(user).signed();
    let connections = cluster.nodes().iter().enumerate().map(|(index, node)| {
        let address = format!("198.51.100.{}", index + 1);
        node.caller(&address).bearing(&token).comes_in()
    });
    join_all(connections).await
}

/// Says something so many times; how many of them were let through.
pub async fn says(client: &mut Client, times: usize) -> usize {
    for number in 0..times {
        client.sends(json!({ "type": "chat:say", "number": number })).await;
    }
    let mut passed = 0;
    for _ in 0..times {
        passed += usize::from(is_let_through(client).await);
    }
    passed
}

/// Each says something so many times, all at once; how many of them were let through in all.
pub async fn all_say(clients: &mut [Client], times: usize) -> usize {
    join_all(clients.iter_mut().map(|client| says(client, times))).await.into_iter().sum()
}

/// The next answer to something said.
async fn is_let_through(client: &mut Client) -> bool {
    let answer = client.receives_text(|text| text.contains("chat:say")).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    match answer["reason"].as_str() {
        Some("message_rate") => false,
        Some(other) => panic!("refused with {other}"),
        None => true,
    }
}

/// A message that was let through, some time between the two.
#[derive(Clone, Copy)]
pub struct Passage {
    pub sent: Instant,
    pub back: Instant,
}

impl Passage {
    pub fn took(&self) -> Duration {
        self.back - self.sent
    }
}

/// Speaks as fast as it is answered.
pub async fn hammers(client: &mut Client, until: Instant) -> Vec<Passage> {
    let mut passages = Vec::new();
    while Instant::now() < until {
        let sent = Instant::now();
        client.sends(json!({ "type": "chat:say" })).await;
        if is_let_through(client).await {
            passages.push(Passage { sent, back: Instant::now() });
        } else {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
    passages
}

pub async fn all_hammer(clients: &mut [Client], until: Instant) -> Vec<Passage> {
    join_all(clients.iter_mut().map(|client| hammers(client, until))).await.concat()
}

/// The most messages that were surely let through within one such time.
pub fn worst_window(passages: &[Passage], window: Duration) -> usize {
    let within = |start: Instant| passages.iter().filter(|one| one.sent >= start && one.back <= start + window).count();
    passages.iter().map(|first| within(first.sent)).max().unwrap_or(0)
}

/// The median, the 99th of a hundred, and the longest.
pub fn spread(times: impl IntoIterator<Item = Duration>) -> (Duration, Duration, Duration) {
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
    (at(0.5), at(0.99), at(1.0))
}
