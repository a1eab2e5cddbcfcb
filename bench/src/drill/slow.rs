//! Clients that take their time: heads in drops, half a handshake, frames in drops, readers that never read.

use anyhow::{Context, Result};
use clap::Args;
use futures_util::SinkExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, sleep_until, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use super::aim::{ATTACKERS, Target};
use super::tally::Tally;
use super::{Attack, Check, Common, Findings, raw};
use crate::stats::{ascending, percentile};

pub const EXAMPLES: &str = "\
Examples:
  picket-bench drill slow --practice --connections 10000
  picket-bench drill slow --target ws://127.0.0.1:8080/ws
  picket-bench drill slow --target ws://127.0.0.1:8080/ws --patience 60     # with slow frames and readers too

Passes when every socket was closed in its time, nobody well-behaved was disconnected or refused, and their p99 stayed within
--p99-ratio. Cases whose time is longer than --patience are skipped, and said to be.
Exit codes: 0 passed, 1 failed, 2 no verdict.";

/// between two bytes of a head
const HEAD_DRIP: Duration = Duration::from_secs(1);
/// between two bytes of a frame
const FRAME_DRIP: Duration = Duration::from_secs(5);
/// in which all slowloris sockets are opened: all at once would be a flood of connections
const OPENED_WITHIN: Duration = Duration::from_secs(3);
/// those that have a time of their own
const HALF_OPEN: usize = 5;
/// what a reader that never reads is sent, below every burst limit
const UNREAD_EVENTS: usize = 40;
const UNREAD_TEXT: usize = 4000;
/// the first byte of a close frame
const CLOSE: u8 = 0x88;
/// what a gateway may say to a client that sends no whole frame
const SAID_BYTES_MAX: usize = 4096;
/// a socket that was closed has its end behind what was not read
const DRAINED_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub struct SlowArgs {
    #[command(flatten)]
    pub common: Common,
    /// How much worse the p99 of the well-behaved may become
    #[arg(long, default_value_t = 2.0)]
    pub p99_ratio: f64,
    /// Seconds in which a head that is not whole has to be closed
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=120))]
    header_seconds: u16,
    /// Seconds in which a frame that is not whole has to be closed
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=300))]
    frame_seconds: u16,
    /// Seconds in which a reader that never reads, and so answers no ping, has to be closed
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=300))]
    reader_seconds: u16,
    /// The longest that anybody waits for a close; longer cases are skipped
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=300))]
    patience: u16,
}

impl SlowArgs {
    /// the drill has to outlast what it waits for
    pub fn seconds_min(&self) -> u16 {
        let cases = [self.header_seconds, self.frame_seconds, self.reader_seconds];
        cases.into_iter().filter(|seconds| *seconds <= self.patience).max().unwrap_or_default()
    }
}

/// how long a socket lived, or that it still lived at the end
type Life = Option<Duration>;

pub async fn attack(args: &SlowArgs, attack: &Attack<'_>) -> Result<Findings> {
    let header = Duration::from_secs(args.header_seconds.into());
    let mut findings = Findings::default();
    let (drips, silent, unfinished, long) = tokio::join!(
        slowloris(attack, header),
        together(HALF_OPEN, || half_open(attack, Vec::new(), header)),
        together(HALF_OPEN, || half_open(attack, head_without_end(attack.target), header)),
        long_cases(args, attack),
    );
    let drips = drips?;
    let lived = ascending(drips.iter().flatten().map(Duration::as_secs_f64).collect());
    findings.checks.push(in_time("slowloris: heads in drops", &drips, header));
    findings.checks.push(in_time("half-open: no byte", &silent, header));
    findings.checks.push(in_time("half-open: a head without its end", &unfinished, header));
    findings.checks.extend(long);
    findings.figure("slowloris sockets", drips.len() as f64);
    for (name, part) in [("life of a slowloris socket, p50, s", 0.5), ("life of a slowloris socket, max, s", 1.0)] {
        if let Some(seconds) = percentile(&lived, part) {
            findings.figure(name, seconds);
        }
    }
    Ok(findings)
}

fn in_time(name: &str, lives: &[Life], bound: Duration) -> Check {
    let late = lives.iter().filter(|life| life.is_none_or(|life| life > bound)).count();
    let longest = lives.iter().flatten().max();
    let longest =
        longest.map_or_else(|| "none was closed".to_owned(), |life| format!("longest {:.1} s", life.as_secs_f64()));
    let detail = format!("{} sockets, {late} beyond their time, {longest}", lives.len());
    Check::new(format!("{name}, closed within {} s", bound.as_secs()), late == 0 && !lives.is_empty(), detail)
}

async fn together<F: Future<Output = Life>>(count: usize, one: impl Fn() -> F) -> Vec<Life> {
    futures_util::future::join_all((0..count).map(|_| one())).await
}

/// as many as were asked for, and again when they were closed, while there is time for their whole life
async fn slowloris(attack: &Attack<'_>, header: Duration) -> Result<Vec<Life>> {
    let (begins, opened_within) = (Instant::now(), OPENED_WITHIN.min(header / 2));
    let head = Arc::new(head_without_end(attack.target));
    let mut sockets = JoinSet::new();
    for number in 0..attack.connections {
        let (target, tally) = (attack.target.clone(), attack.tally.clone());
        let (head, ends) = (head.clone(), attack.ends);
        let turn = begins + opened_within.mul_f64(number as f64 / attack.connections as f64);
        sockets.spawn(async move {
            sleep_until(turn).await;
            let mut lives = Vec::new();
            while lives.is_empty() || Instant::now() + header < ends {
                lives.push(drip(&target, &head, &tally, header).await?);
            }
            Ok::<_, anyhow::Error>(lives)
        });
    }
    let all: Result<Vec<_>> = sockets.join_all().await.into_iter().collect();
    Ok(all?.concat())
}

async fn drip(target: &Target, head: &[u8], tally: &Tally, header: Duration) -> Result<Life> {
    let mut stream = TcpStream::connect(target.address()).await.context("a slowloris socket")?;
    let born = Instant::now();
    tally.opened.add(1);
    stream.write_all(head).await.context("a slowloris socket")?;
    stream.write_all(b"x-drip: ").await.context("a slowloris socket")?;
    let (mut reader, mut writer) = stream.split();
    let pour = async {
        let mut ticks = interval_at(born + HEAD_DRIP, HEAD_DRIP);
        loop {
            ticks.tick().await;
            if writer.write_all(b"x").await.is_err() {
                return;
            }
            tally.sent.add(1);
        }
    };
    let mut answer = Vec::new();
    let life = tokio::select! {
        _ = reader.read_to_end(&mut answer) => Some(born.elapsed()),
        () = pour => Some(born.elapsed()),
        // Some more, so that what is a little late is told from what never ends.
        () = sleep_until(born + header + Duration::from_secs(2)) => None,
    };
    tally.closed.add(life.is_some().into());
    Ok(life)
}

/// sends this and then nothing
async fn half_open(attack: &Attack<'_>, bytes: Vec<u8>, header: Duration) -> Life {
    let born = Instant::now();
    let close = async {
        let mut stream = TcpStream::connect(attack.target.address()).await?;
        attack.tally.opened.add(1);
        stream.write_all(&bytes).await?;
        stream.read_to_end(&mut Vec::new()).await
    };
    // However it ends, it has ended.
    timeout(header + Duration::from_secs(2), close).await.is_ok().then(|| born.elapsed())
}

fn head_without_end(target: &Target) -> Vec<u8> {
    let head = raw::request(target.door(), &[target.origin.clone().into_bytes()]);
    head[..head.len() - 2].to_vec()
}

async fn long_cases(args: &SlowArgs, attack: &Attack<'_>) -> Vec<Check> {
    let patience = args.patience;
    let frame = async {
        let name = "a frame in drops";
        match args.frame_seconds {
            seconds if seconds > patience => Check::skipped(name, format!("takes {seconds} s: --patience {seconds}")),
            seconds => told(name, seconds, slow_frame(attack, seconds.into()).await),
        }
    };
    let reader = async {
        let name = "a reader that never reads";
        match args.reader_seconds {
            seconds if seconds > patience => Check::skipped(name, format!("takes {seconds} s: --patience {seconds}")),
            seconds => told(name, seconds, never_reading(attack, seconds.into()).await),
        }
    };
    let (frame, reader) = tokio::join!(frame, reader);
    vec![frame, reader]
}

fn told(name: &str, seconds: u16, life: Result<Life>) -> Check {
    match life {
        Ok(life) => in_time(name, &[life], Duration::from_secs(seconds.into())),
        Err(error) => Check::new(name, false, format!("{error:#}")),
    }
}

async fn slow_frame(attack: &Attack<'_>, seconds: u64) -> Result<Life> {
    let socket = attack.target.visitor(ATTACKERS)?.connect().await?;
    attack.tally.opened.add(1);
    // Without tungstenite, whose pongs would stand in the middle of the frame.
    let mut stream = socket.into_inner();
    let born = Instant::now();
    stream.write_all(&[0x81, 0x80 | 100, 0, 0, 0, 0]).await?;
    let (mut reader, mut writer) = stream.split();
    let pour = async {
        let mut ticks = interval_at(born + FRAME_DRIP, FRAME_DRIP);
        loop {
            ticks.tick().await;
            if writer.write_all(b"x").await.is_err() {
                return;
            }
        }
    };
    let hear = async {
        let mut said = Vec::new();
        // Whether it says so or just ends it: the client will not answer, which a gateway may wait for.
        while !has_close(&said)
            && said.len() < SAID_BYTES_MAX
            && reader.read_buf(&mut said).await.is_ok_and(|read| read > 0)
        {}
    };
    Ok(tokio::select! {
        () = hear => Some(born.elapsed()),
        () = pour => Some(born.elapsed()),
        () = sleep_until(born + Duration::from_secs(seconds)) => None,
    })
}

/// whether there is a close frame among a server's short frames
fn has_close(mut frames: &[u8]) -> bool {
    while let [first, length, rest @ ..] = frames {
        if *first == CLOSE {
            return true;
        }
        frames = rest.get(usize::from(*length)..).unwrap_or_default();
    }
    false
}

/// asks for answers, reads none, and looks at the end whether the connection was ended
async fn never_reading(attack: &Attack<'_>, seconds: u64) -> Result<Life> {
    let mut socket = attack.target.visitor(ATTACKERS + 1)?.connect().await?;
    attack.tally.opened.add(1);
    let born = Instant::now();
    let event = Message::text(attack.target.event(&"unread ".repeat(UNREAD_TEXT / 7)));
    for _ in 0..UNREAD_EVENTS {
        socket.feed(event.clone()).await?;
    }
    let ends = born + Duration::from_secs(seconds);
    timeout_at(ends, socket.flush()).await.context("the events were not taken")??;
    sleep_until(ends).await;
    let mut unread = Vec::new();
    let drained = timeout(DRAINED_WITHIN, socket.get_mut().read_to_end(&mut unread)).await;
    Ok(drained.is_ok().then(|| ends - born))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_found_behind_a_ping() {
        assert!(has_close(&[0x89, 0, 0x88, 2, 3, 0xf0]));
        assert!(!has_close(&[0x89, 1, 0x88]));
        assert!(!has_close(&[]));
    }
}
