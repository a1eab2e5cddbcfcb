//! The well-behaved clients: each sends an event now and then, waits for its answer, and tells how that was before, during and
//! after the drill. They have a thread of their own, so that attackers take from them nothing but what the target gives.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::Check;
use super::aim::{Target, Visitor};
use crate::client::{NotOpened, Socket};
use crate::stats::{ascending, percentile};

const CLIENTS_MAX: u16 = 500;
/// so long, 4 round trips a second are less than 100 a minute
const SHORT_SECONDS_MAX: u16 = 20;
/// after that a round trip counts as unanswered
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// between two attempts to come back
const COMES_BACK_AFTER: Duration = Duration::from_millis(500);
/// the most reasons of refusals that are kept
const REASONS_MAX: usize = 8;

#[derive(Debug, Args)]
#[command(next_help_heading = "Well-behaved clients")]
pub struct CrowdArgs {
    /// How many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=i64::from(CLIENTS_MAX)))]
    clients: u16,
    /// Round trips of each in a second [default: 4, or 1.2 beyond 20 s in all: below 100 a minute]
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// What goes there and back
    #[arg(long, default_value = "echo")]
    round_trip: RoundTrip,
    /// Seconds of watching before the attack
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=60))]
    before: u8,
    /// Seconds of watching after the attack
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=60))]
    after: u8,
}

impl CrowdArgs {
    /// within a message limit of 100 a minute
    fn rate(&self, seconds: u16) -> f64 {
        let is_short = seconds + u16::from(self.before) + u16::from(self.after) <= SHORT_SECONDS_MAX;
        self.rate.unwrap_or(if is_short { 4.0 } else { 1.2 })
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoundTrip {
    /// an event that the application sends back, whole
    Echo,
    /// a WebSocket ping, for applications that do not echo: it shows the gateway alone
    Ping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Before,
    During,
    After,
}

const PHASES: usize = 3;

pub struct Crowd {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
    before: Duration,
    after: Duration,
    clients: u16,
}

struct Shared {
    phase: AtomicUsize,
    leaving: AtomicBool,
    log: Mutex<[Log; PHASES]>,
}

#[derive(Default)]
struct Log {
    millis: Vec<f64>,
    unanswered: u64,
    lost: u64,
    refusals: u64,
    reasons: Vec<String>,
}

/// what they saw
#[derive(Debug, Serialize)]
pub struct Seen {
    pub clients: u16,
    pub before: Spell,
    pub during: Spell,
    pub after: Spell,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spell {
    pub round_trips: usize,
    pub p50_millis: Option<f64>,
    pub p99_millis: Option<f64>,
    /// round trips that did not come to an end
    pub unanswered: u64,
    /// connections that the target ended
    pub lost: u64,
    /// events and handshakes that were refused
    pub refusals: u64,
    pub reasons: Vec<String>,
}

impl Crowd {
    /// starts their thread, where they connect
    pub fn gather(target: &Arc<Target>, args: &CrowdArgs, seconds: u16) -> Result<Self> {
        let shared = Arc::new(Shared {
            phase: AtomicUsize::new(Phase::Before as usize),
            leaving: AtomicBool::new(false),
            log: Mutex::default(),
        });
        let visitors = (0..args.clients).map(|number| target.visitor(number.into())).collect::<Result<Vec<_>>>()?;
        let pause = Duration::from_secs_f64(1.0 / args.rate(seconds));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (theirs, target, round_trip) = (shared.clone(), target.clone(), args.round_trip);
        let thread = std::thread::Builder::new().name("well-behaved".to_owned()).spawn(move || {
            let count = u32::try_from(visitors.len()).unwrap_or(1).max(1);
            let all = visitors.iter().zip(0..).map(|(visitor, number)| {
                let client = Client { visitor, target: &target, shared: &theirs, round_trip, pause };
                // Spread, so that they do not speak in chorus.
                client.live(pause * number / count)
            });
            runtime.block_on(join_all(all));
        })?;
        let (before, after) = (Duration::from_secs(args.before.into()), Duration::from_secs(args.after.into()));
        Ok(Crowd { shared, thread: Some(thread), before, after, clients: args.clients })
    }

    pub fn enter(&self, phase: Phase) {
        self.shared.phase.store(phase as usize, Ordering::Relaxed);
    }

    /// the time before or after the drill
    pub async fn spend(&self, phase: Phase) {
        self.enter(phase);
        let time = if phase == Phase::Before { self.before } else { self.after };
        if self.clients > 0 {
            sleep(time).await;
        }
    }

    /// whether the well-behaved get on at all, without which the rest would say nothing
    pub fn is_welcome(&self) -> Result<()> {
        let before = self.shared.spell(Phase::Before);
        if self.clients == 0 {
            return Ok(());
        }
        if before.refusals > 0 {
            bail!(
                "the target does not let well-behaved clients in, even before any attack ({}): if it is there, give each a user \
                 (--jwt-secret) or an address (--forwarded-for) of its own, or lower --clients and --rate",
                before.reasons.join(", ")
            );
        }
        if before.round_trips == 0 || before.unanswered > 0 || before.lost > 0 {
            bail!(
                "well-behaved clients got {} answers, {} round trips stayed unanswered and {} connections were lost before any \
                 attack: for an application that does not echo say --round-trip ping",
                before.round_trips,
                before.unanswered,
                before.lost
            );
        }
        Ok(())
    }

    pub fn leave(mut self) -> Seen {
        self.end();
        let [before, during, after] =
            [Phase::Before, Phase::During, Phase::After].map(|phase| self.shared.spell(phase));
        Seen { clients: self.clients, before, during, after }
    }

    fn end(&mut self) {
        self.shared.leaving.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("a well-behaved client panicked");
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn phase(&self) -> usize {
        self.phase.load(Ordering::Relaxed)
    }

    fn note(&self, phase: usize, note: impl FnOnce(&mut Log)) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = log.get_mut(phase) {
            note(log);
        }
    }

    fn spell(&self, phase: Phase) -> Spell {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let log = &log[phase as usize];
        let millis = ascending(log.millis.clone());
        Spell {
            round_trips: millis.len(),
            p50_millis: percentile(&millis, 0.5),
            p99_millis: percentile(&millis, 0.99),
            unanswered: log.unanswered,
            lost: log.lost,
            refusals: log.refusals,
            reasons: log.reasons.clone(),
        }
    }

    fn left(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}

struct Client<'a> {
    visitor: &'a Visitor,
    target: &'a Target,
    shared: &'a Shared,
    round_trip: RoundTrip,
    pause: Duration,
}

/// how a round trip went
enum Trip {
    Answered,
    Refused(String),
    Unanswered,
    Lost,
}

impl Client<'_> {
    async fn live(self, first: Duration) {
        sleep(first).await;
        while !self.shared.left() {
            match self.visitor.connect().await {
                Ok(socket) => self.converse(socket).await,
                Err(error) => {
                    self.turned_away(&error);
                    sleep(COMES_BACK_AFTER).await;
                }
            }
        }
    }

    fn turned_away(&self, error: &NotOpened) {
        self.shared.note(self.shared.phase(), |log| log.refuse(error.to_string()));
    }

    /// until the target ends it, or everybody leaves
    async fn converse(&self, mut socket: Socket) {
        let mut due = Instant::now();
        for number in 0_u64.. {
            if self.shared.left() {
                return;
            }
            // From the moment at which it was due where the answer before it came too late: a slow answer does not hide the next.
            // Otherwise from its sending: timers of this program are a millisecond coarse.
            let mut start = due;
            if Instant::now() < due {
                sleep_until(due).await;
                start = Instant::now();
            }
            let phase = self.shared.phase();
            let trip = timeout(ANSWERS_WITHIN, self.trip(&mut socket, number)).await.unwrap_or(Trip::Unanswered);
            let millis = start.elapsed().as_secs_f64() * 1000.0;
            match trip {
                Trip::Answered => self.shared.note(phase, |log| log.millis.push(millis)),
                Trip::Refused(reason) => self.shared.note(phase, |log| log.refuse(reason)),
                Trip::Unanswered => self.shared.note(phase, |log| log.unanswered += 1),
                Trip::Lost => {
                    self.shared.note(self.shared.phase(), |log| log.lost += 1);
                    return sleep(COMES_BACK_AFTER).await;
                }
            }
            due += self.pause;
        }
    }

    async fn trip(&self, socket: &mut Socket, number: u64) -> Trip {
        let tag = format!("round trip {number} of {}", self.visitor.subject);
        let message = match self.round_trip {
            RoundTrip::Echo => Message::text(self.target.event(&tag)),
            RoundTrip::Ping => Message::Ping(Bytes::from(number.to_string())),
        };
        if socket.send(message).await.is_err() {
            return Trip::Lost;
        }
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) if text.as_str() == "2" => {
                    if socket.send(Message::text("3")).await.is_err() {
                        return Trip::Lost;
                    }
                }
                Some(Ok(Message::Text(text))) => {
                    if let Some(reason) = self.target.dialect.refusal(&text) {
                        return Trip::Refused(reason);
                    }
                    if text.contains(&tag) {
                        return Trip::Answered;
                    }
                }
                Some(Ok(Message::Pong(bytes))) if bytes == number.to_string().as_bytes() => return Trip::Answered,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Trip::Lost,
                Some(Ok(_)) => {}
            }
        }
    }
}

impl Log {
    fn refuse(&mut self, reason: String) {
        self.refusals += 1;
        if self.reasons.len() < REASONS_MAX && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }
}

impl Seen {
    /// what every drill promises them
    pub fn checks(&self, p99_ratio: Option<f64>) -> Vec<Check> {
        let mut checks = Vec::new();
        if self.clients == 0 {
            return checks;
        }
        if let Some(most) = p99_ratio {
            let ratio = self.p99_ratio();
            let seen = ratio.map_or_else(|| "no round trips".to_owned(), |ratio| format!("{ratio:.2}"));
            let name = format!("p99 of the well-behaved, during ÷ before ≤ {most}");
            checks.push(Check::new(name, ratio.is_some_and(|ratio| ratio <= most), seen));
        }
        let lost = self.during.lost + self.after.lost;
        checks.push(Check::new("nobody well-behaved is disconnected", lost == 0, lost.to_string()));
        let refusals = self.during.refusals + self.after.refusals;
        let reasons = [self.during.reasons.as_slice(), &self.after.reasons].concat().join(", ");
        checks.push(Check::new("nothing well-behaved is refused", refusals == 0, format!("{refusals} {reasons}")));
        let unanswered = self.during.unanswered + self.after.unanswered;
        let name = "every well-behaved round trip ends";
        checks.push(Check::new(name, unanswered == 0, format!("{unanswered} unanswered")));
        checks
    }

    pub fn p99_ratio(&self) -> Option<f64> {
        Some(self.during.p99_millis? / self.before.p99_millis?)
    }

    pub fn table(&self) -> String {
        if self.clients == 0 {
            return "     no well-behaved clients\n".to_owned();
        }
        let spells = [&self.before, &self.during, &self.after];
        let row = |name: &str, cell: fn(&Spell) -> String| {
            let [before, during, after] = spells.map(cell);
            format!("     {name:<26}{before:>10}{during:>10}{after:>10}\n")
        };
        let head = format!(
            "     {:<26}{:>10}{:>10}{:>10}\n",
            format!("{} well-behaved clients", self.clients),
            "before",
            "during",
            "after"
        );
        [
            head,
            row("round trip p50, ms", |spell| millis(spell.p50_millis)),
            row("round trip p99, ms", |spell| millis(spell.p99_millis)),
            row("round trips", |spell| spell.round_trips.to_string()),
            row("unanswered", |spell| spell.unanswered.to_string()),
            row("connections lost", |spell| spell.lost.to_string()),
            row("refusals", |spell| spell.refusals.to_string()),
        ]
        .concat()
    }
}

fn millis(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"))
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=1000.0).contains(&rate) => Ok(rate),
        _ => Err("a number from 0.1 to 1000".to_owned()),
    }
}
