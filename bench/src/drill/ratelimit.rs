//! Senders against the message limit: one who sends around the borders of windows, one who sends at random. What came back was
//! let through, at some moment between its sending and its return.

use anyhow::{Result, bail};
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::aim::{ATTACKERS, Target, Visitor};
use super::tally::Tally;
use super::{Attack, Common, Findings};
use crate::client::{NotOpened, Socket};

pub const EXAMPLES: &str = "\
Examples:
  picket-bench drill ratelimit --practice
  picket-bench drill ratelimit --target ws://127.0.0.1:8080/ws --jwt-secret \"$SECRET\" --limit 100 --window 60
  picket-bench drill ratelimit --target ws://127.0.0.1:8080/ws --limit 100 --window 60 --clients 0   # all are one subject

An attacker counts by its user, else by its address. The verdict counts only what is certain: a message was let through after it
was sent and before its echo came, so messages of which the first was sent and the last came back within one window were let
through within one window. That window is shorter than the gateway's own by the round trips, which is the uncertainty of this
measurement; `possible` counts everything that may have fallen into one window.
Exit codes: 0 passed, 1 failed, 2 no verdict.";

/// between two messages of the attacker around a border: below a burst limit of 50 a second
const GAP: Duration = Duration::from_millis(25);
/// the random attacker wants so many times the limit
const GREED: f64 = 3.0;
const COMES_BACK_AFTER: Duration = Duration::from_millis(200);
/// for the last echoes
const LAST_ECHOES: Duration = Duration::from_secs(1);
/// messages under way that are remembered on one connection
const UNDER_WAY_MAX: usize = 10_000;

#[derive(Debug, Args)]
pub struct RatelimitArgs {
    #[command(flatten)]
    pub common: Common,
    /// Messages that the target lets through in a window
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// The window, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=250))]
    window: u16,
}

impl RatelimitArgs {
    /// two windows and their borders
    pub fn seconds(&self) -> u16 {
        2 * self.window + 5
    }
}

/// a message that came back
#[derive(Clone, Copy, Debug)]
struct Passed {
    sent: Instant,
    back: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Style {
    Aligned,
    Random,
}

pub async fn attack(args: &RatelimitArgs, attack: &Attack<'_>) -> Result<Findings> {
    let window = Duration::from_secs(args.window.into());
    if Instant::now() + window > attack.ends {
        bail!("a drill shorter than its window shows nothing: --seconds {}", args.seconds());
    }
    let mut attackers = JoinSet::new();
    for number in 0..attack.connections {
        let style = if number % 2 == 0 { Style::Aligned } else { Style::Random };
        let sender = Sender {
            visitor: attack.target.visitor(ATTACKERS + number)?,
            target: attack.target.clone(),
            tally: attack.tally.clone(),
            pace: Pace::new(style, args.limit, window, number as u64),
            ends: attack.ends - LAST_ECHOES,
        };
        attackers.spawn(sender.press());
    }
    let mut subjects: BTreeMap<String, Vec<Passed>> = BTreeMap::new();
    for (subject, passed) in attackers.join_all().await {
        subjects.entry(subject).or_default().extend(passed);
    }
    let mut findings = Findings::default();
    let limit = args.limit as usize;
    for (subject, mut passed) in subjects {
        passed.sort_by_key(|passed| passed.sent);
        let (certain, possible) = (most_certain(&passed, window), most_possible(&passed, window));
        let name = format!("{subject}: at most {limit} in any {} s", args.window);
        let detail = format!("certain {certain}, possible {possible}, of {} let through", passed.len());
        findings.check(name, certain <= limit, detail);
    }
    let met = attack.tally.refused.get() + attack.tally.closed.get();
    findings.check("the attackers meet the limit", met > 0, format!("{met} refused events and closes"));
    findings.figure("events of attackers", attack.tally.sent.get() as f64);
    findings.figure("of them let through", attack.tally.echoed.get() as f64);
    Ok(findings)
}

/// the most that were sent and came back within one window
fn most_certain(passed: &[Passed], window: Duration) -> usize {
    let from = |(first, start): (usize, &Passed)| {
        let end = start.sent + window;
        passed[first..].iter().take_while(|next| next.sent <= end).filter(|next| next.back <= end).count()
    };
    passed.iter().enumerate().map(from).max().unwrap_or_default()
}

/// the most of which every one may have been let through within one window
fn most_possible(passed: &[Passed], window: Duration) -> usize {
    let from = |start: &Passed| {
        let end = start.back + window;
        passed.iter().take_while(|next| next.sent <= end).filter(|next| next.back >= start.back).count()
    };
    passed.iter().map(from).max().unwrap_or_default()
}

struct Sender {
    visitor: Visitor,
    target: Arc<Target>,
    tally: Arc<Tally>,
    pace: Pace,
    ends: Instant,
}

impl Sender {
    async fn press(mut self) -> (String, Vec<Passed>) {
        let mut passed = Vec::new();
        while Instant::now() < self.ends {
            match self.visitor.connect().await {
                Ok(socket) => {
                    self.tally.opened.add(1);
                    self.converse(socket, &mut passed).await;
                }
                Err(NotOpened::Refused { .. }) => self.tally.turned_away.add(1),
                Err(_) => self.tally.failed.add(1),
            }
            sleep(COMES_BACK_AFTER).await;
        }
        (self.visitor.subject, passed)
    }

    async fn converse(&mut self, mut socket: Socket, passed: &mut Vec<Passed>) {
        let mut under_way = HashMap::new();
        let mut number = 0_u64;
        let mut due = self.pace.next();
        while due < self.ends {
            tokio::select! {
                said = socket.next() => match said {
                    Some(Ok(said)) => self.hear(&said, &mut under_way, passed),
                    Some(Err(_)) | None => return self.tally.closed.add(1),
                },
                () = sleep_until(due) => {
                    number += 1;
                    if under_way.len() < UNDER_WAY_MAX {
                        under_way.insert(number, Instant::now());
                    }
                    if socket.send(Message::text(self.target.event(&format!("no-{number}-")))).await.is_err() {
                        return self.tally.closed.add(1);
                    }
                    self.tally.sent.add(1);
                    due = self.pace.next();
                }
            }
        }
        let last = async {
            while let Some(Ok(said)) = socket.next().await {
                self.hear(&said, &mut under_way, passed);
            }
        };
        // What has not come back by now is not counted, as if it had been refused.
        timeout(LAST_ECHOES, last).await.ok();
    }

    fn hear(&self, said: &Message, under_way: &mut HashMap<u64, Instant>, passed: &mut Vec<Passed>) {
        let Message::Text(text) = said else { return };
        if self.target.dialect.refusal(text).is_some() {
            self.tally.refused.add(1);
        } else if let Some(sent) = number_of(text).and_then(|number| under_way.remove(&number)) {
            self.tally.echoed.add(1);
            passed.push(Passed { sent, back: Instant::now() });
        }
    }
}

fn number_of(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("no-")?;
    rest.split('-').next()?.parse().ok()
}

/// when a sender sends next
struct Pace {
    style: Style,
    limit: u32,
    window: Duration,
    random: u64,
}

impl Pace {
    fn new(style: Style, limit: u32, window: Duration, seed: u64) -> Self {
        Pace { style, limit, window, random: seed.wrapping_add(1) }
    }

    fn next(&mut self) -> Instant {
        let now = Instant::now();
        match self.style {
            Style::Aligned => now + self.to_border().unwrap_or(GAP),
            Style::Random => {
                let mean = self.window.as_secs_f64() / (GREED * f64::from(self.limit));
                now + Duration::from_secs_f64(mean * -self.part().ln())
            }
        }
    }

    /// the silence until a whole limit fits before the next border; `None` around a border
    fn to_border(&self) -> Option<Duration> {
        let lead = (GAP * self.limit).min(self.window / 2);
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let into = Duration::from_nanos((since_epoch.as_nanos() % self.window.as_nanos()) as u64);
        let is_quiet = into > lead && into < self.window - lead;
        is_quiet.then(|| self.window - lead - into)
    }

    /// above 0, at most 1 (splitmix64)
    fn part(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((mixed >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sent_and_came_back_within_a_window_is_certain() {
        let start = Instant::now();
        let at = |sent: u64, back: u64| Passed {
            sent: start + Duration::from_millis(sent),
            back: start + Duration::from_millis(back),
        };
        // The last was sent within the window of the first and came back after it.
        let passed = [at(0, 10), at(500, 510), at(995, 1005)];
        let window = Duration::from_secs(1);
        assert_eq!((most_certain(&passed, window), most_possible(&passed, window)), (2, 3));
        assert_eq!(most_certain(&passed, window * 2), 3);
        assert_eq!((most_certain(&[], window), most_possible(&[], window)), (0, 0));
    }

    #[test]
    fn an_echo_names_its_message() {
        assert_eq!(number_of(r#"{"type":"chat:message","text":"no-17-"}"#), Some(17));
        assert_eq!(number_of("hello"), None);
    }
}
