//! What floods cost the attacker and what they cost a node: bytes, processor time of both, and the node's memory.

use anyhow::{Context, Result, bail};
use clap::Args;
use futures_util::future::join_all;
use serde_json::json;
use std::cell::Cell;
use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy, sink};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::cli::picket_executable;
use crate::client::Door;
use crate::cpu::{resident_bytes, used_nanos};
use crate::dialect::Dialect;
use crate::drill::raw::{self, masked};
use crate::echo;
use crate::http::{self, Connection};
use crate::machine::Machine;
use crate::picket::{Plan, policy};
use crate::redis::Redis;

/// a node may spend less than so many times the attacker's processor time
const CPU_RATIO_MAX: f64 = 100.0;
/// and less than so many times the memory that is configured for an idle connection
const MEMORY_RATIO_MAX: u64 = 100;
const CONNECTION_BYTES: u64 = 64 * 1024;
/// attackers at once
const ATTACKERS: usize = 16;
/// in which what the attack has left behind is done
const SETTLES_IN: Duration = Duration::from_millis(500);
const SAMPLED_EVERY: Duration = Duration::from_millis(20);
const ENDS_WITHIN: Duration = Duration::from_secs(60);
/// the first byte of a close frame
const CLOSE: u8 = 0x88;

#[derive(Debug, Args)]
pub struct CostsArgs {
    /// The picket to measure; default: the sibling of this program
    #[arg(long)]
    picket: Option<PathBuf>,
    /// Seconds of each flood
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=60))]
    seconds: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flood {
    TinyFragments,
    EmptyFragments,
    Pings,
    PolledPackets,
    Nesting,
    Keys,
    Markup,
    Connections,
}

impl Flood {
    const ALL: [Flood; 8] = [
        Flood::TinyFragments,
        Flood::EmptyFragments,
        Flood::Pings,
        Flood::PolledPackets,
        Flood::Nesting,
        Flood::Keys,
        Flood::Markup,
        Flood::Connections,
    ];

    const fn title(self) -> &'static str {
        match self {
            Flood::TinyFragments => "fragments of one byte, until closed",
            Flood::EmptyFragments => "empty fragments, until closed",
            Flood::Pings => "pings, until closed",
            Flood::PolledPackets => "1,000 packets in the body of one poll",
            Flood::Nesting => "JSON nested 100,000 deep, until closed",
            Flood::Keys => "JSON with 100,000 keys, until closed",
            Flood::Markup => "a mebibyte of `<`, three times",
            Flood::Connections => "connections of one address",
        }
    }

    /// what an attacker sends behind the upgrade
    fn frames(self) -> Vec<u8> {
        const ENOUGH_TO_BE_CLOSED: usize = 5;
        let fragments = |payload: &[u8]| [masked(0x01, payload), masked(0x00, payload).repeat(1024)].concat();
        match self {
            Flood::TinyFragments => fragments(b" "),
            Flood::EmptyFragments => fragments(b""),
            Flood::Pings => masked(0x89, b"").repeat(51),
            Flood::Nesting => masked(0x81, "[".repeat(100_000).as_bytes()).repeat(ENOUGH_TO_BE_CLOSED),
            Flood::Keys => {
                let keys: Vec<_> = (0..100_000).map(|key| format!("\"{key:x}\":0")).collect();
                masked(0x81, format!("{{{}}}", keys.join(",")).as_bytes()).repeat(ENOUGH_TO_BE_CLOSED)
            }
            Flood::Markup => {
                let texts = vec!["<".repeat(10_000); 104];
                let event = json!({ "type": "chat", "texts": texts }).to_string();
                [masked(0x81, event.as_bytes()).repeat(3), masked(0x88, &1000_u16.to_be_bytes())].concat()
            }
            Flood::Connections => masked(0x88, &1000_u16.to_be_bytes()),
            Flood::PolledPackets => Vec::new(),
        }
    }
}

/// what one flood cost
struct Bill {
    flood: Flood,
    strikes: u64,
    sent_bytes: u64,
    attacker: Duration,
    node: Duration,
    grown_bytes: u64,
}

impl Bill {
    fn ratio(&self) -> f64 {
        self.node.as_secs_f64() / self.attacker.as_secs_f64().max(f64::EPSILON)
    }

    fn is_within_bounds(&self) -> bool {
        let memory_max = MEMORY_RATIO_MAX * CONNECTION_BYTES * ATTACKERS as u64;
        self.strikes > 0 && self.ratio() < CPU_RATIO_MAX && self.grown_bytes < memory_max
    }

    fn row(&self) -> String {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / self.strikes.max(1) as f64;
        format!(
            "| {} | {} | {:.1} | {:.0} | {:.0} | {:.1} | {:.1} | {} |",
            self.flood.title(),
            self.strikes,
            self.sent_bytes as f64 / self.strikes.max(1) as f64 / 1024.0,
            each(self.attacker),
            each(self.node),
            self.ratio(),
            self.grown_bytes as f64 / f64::from(1 << 20),
            if self.is_within_bounds() { "met" } else { "missed" },
        )
    }
}

pub async fn run(args: &CostsArgs) -> Result<()> {
    let executable = picket_executable(args.picket.as_ref())?;
    let (_json, json_echo) = echo::process(None, Dialect::Json).await?;
    let (_socketio, socketio_echo) = echo::process(None, Dialect::Socketio).await?;
    println!("## What floods cost\n\nA strike is one connection or poll. Processor time in µs for each.\n");
    println!("| flood | strikes | KiB sent | attacker | node | node ÷ attacker | node's memory, + MiB | |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut all_met = true;
    for flood in Flood::ALL {
        // Each from the same start: what one has left behind is not the next one's.
        let redis = Redis::start(None).await?;
        let plan = Plan {
            executable: &executable,
            redis: redis.url(),
            routes: json!([
                { "path": "/ws", "upstream": format!("ws://{json_echo}/ws"), "protocol": "json" },
                { "path": "/socket.io/", "upstream": format!("http://{socketio_echo}"), "protocol": "socketio" },
            ]),
            policy: policy(json!({})),
            limits: json!({}),
        };
        let node = plan.node("costs", None).await?;
        let bill = suffer(flood, node.address, node.process.id(), Duration::from_secs(args.seconds.into())).await?;
        println!("{}", bill.row());
        all_met &= bill.is_within_bounds();
    }
    println!(
        "\nGoals: less than {CPU_RATIO_MAX} times the attacker's processor time, and less than {MEMORY_RATIO_MAX} times 64 KiB for each \
         of {ATTACKERS} connections at once.\n\nMeasured on: {}.",
        Machine::look().sentence()
    );
    if all_met { Ok(()) } else { bail!("a flood costs the node too much") }
}

async fn suffer(flood: Flood, gateway: SocketAddr, node: u32, time: Duration) -> Result<Bill> {
    let frames = flood.frames();
    // Once before: what a first connection makes a node allocate is not the flood's.
    strike(flood, gateway, "203.0.113.1", &frames).await?;
    sleep(SETTLES_IN).await;
    let (before_bytes, before_nanos) = (resident_bytes(node)?, used_nanos(node)?);
    let own = used_nanos(std::process::id())?;
    let (strikes, sent) = (Cell::new(0_u64), Cell::new(0_u64));
    let ends = Instant::now() + time;
    let attackers = join_all((0..ATTACKERS).map(|attacker| {
        let (strikes, sent, frames) = (&strikes, &sent, &frames);
        async move {
            let mut turn = 0_usize;
            while Instant::now() < ends {
                // An attacker with many addresses, so that no limit of one of them ends the flood, unless that is what floods.
                let number = if flood == Flood::Connections { 0 } else { turn * ATTACKERS + attacker };
                let address = format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255);
                let bytes = strike(flood, gateway, &address, frames).await?;
                sent.set(sent.get() + bytes);
                strikes.set(strikes.get() + 1);
                turn += 1;
            }
            Ok::<_, anyhow::Error>(())
        }
    }));
    let highest = async {
        let mut highest = before_bytes;
        while Instant::now() < ends {
            highest = highest.max(resident_bytes(node)?);
            sleep(SAMPLED_EVERY).await;
        }
        Ok::<_, anyhow::Error>(highest)
    };
    let (attacked, highest) = tokio::join!(attackers, highest);
    attacked.into_iter().collect::<Result<Vec<()>>>()?;
    let attacker = used_nanos(std::process::id())?.saturating_sub(own);
    sleep(SETTLES_IN).await;
    Ok(Bill {
        flood,
        strikes: strikes.get(),
        sent_bytes: sent.get(),
        attacker: Duration::from_nanos(attacker),
        node: Duration::from_nanos(used_nanos(node)?.saturating_sub(before_nanos)),
        grown_bytes: highest?.saturating_sub(before_bytes),
    })
}

/// one connection; the bytes that it sent
async fn strike(flood: Flood, gateway: SocketAddr, address: &str, frames: &[u8]) -> Result<u64> {
    timeout(ENDS_WITHIN, async {
        match flood {
            Flood::PolledPackets => poll(gateway, address).await,
            _ => flood_socket(&Door::new(gateway, "/ws").forwarded_for(address), frames).await,
        }
    })
    .await
    .with_context(|| format!("{} did not end in time", flood.title()))?
}

async fn flood_socket(door: &Door, frames: &[u8]) -> Result<u64> {
    let request = raw::request(door, &[crate::client::HOME.as_bytes().to_vec()]);
    let mut stream = TcpStream::connect(door.address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&request).await?;
    if http::read(&mut stream).await?.status != 101 {
        return Ok(request.len() as u64);
    }
    // It may be closed before it has sent all: that is how floods end.
    let (mut reader, mut writer) = stream.split();
    let mut sent = request.len() as u64;
    let send = async {
        for piece in frames.chunks(16 * 1024) {
            if writer.write_all(piece).await.is_err() {
                break;
            }
            sent += piece.len() as u64;
        }
    };
    tokio::select! {
        () = async { send.await; pending().await } => {}
        // Whoever floods does not wait for a goodbye.
        _ = until_closed(&mut reader) => {}
    }
    Ok(sent)
}

/// reads the frames of a server up to its close frame
async fn until_closed(reader: &mut (impl AsyncRead + Unpin)) -> Result<()> {
    loop {
        let [first, length] = reader.read_u16().await?.to_be_bytes();
        let length = match length {
            126 => reader.read_u16().await?.into(),
            127 => reader.read_u64().await?,
            short => short.into(),
        };
        copy(&mut reader.take(length), &mut sink()).await?;
        if first == CLOSE {
            return Ok(());
        }
    }
}

/// a session, and one body of a thousand packets for it
async fn poll(gateway: SocketAddr, address: &str) -> Result<u64> {
    let about = format!(
        "Host: {gateway}\r\nOrigin: {}\r\nX-Forwarded-For: {address}\r\nConnection: keep-alive\r\n",
        crate::client::HOME
    );
    let mut connection = Connection::to(gateway);
    let open = format!("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\n{about}\r\n");
    let opened = connection.ask(open.as_bytes()).await?;
    let Some(sid) = opened.body.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()) else {
        return Ok(open.len() as u64);
    };
    let body = ["40", &["42[\"chat\",\"x\"]"; 1000].join("\x1e")].join("\x1e");
    let post = format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\n{about}Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    if connection.ask(post.as_bytes()).await?.status == 200 {
        bail!("a thousand packets in one body were taken");
    }
    Ok((open.len() + post.len()) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill(strikes: u64, node_millis: u64, grown_bytes: u64) -> Bill {
        let (attacker, node) = (Duration::from_millis(1), Duration::from_millis(node_millis));
        Bill { flood: Flood::Pings, strikes, sent_bytes: 0, attacker, node, grown_bytes }
    }

    #[test]
    fn a_bill_is_judged_by_both_goals_and_by_having_struck() {
        assert!(bill(1, 99, 1 << 20).is_within_bounds());
        assert!(!bill(1, 100, 1 << 20).is_within_bounds());
        assert!(!bill(1, 99, 101 << 20).is_within_bounds());
        assert!(!bill(0, 1, 0).is_within_bounds());
    }

    #[test]
    fn floods_go_just_beyond_what_is_allowed() {
        assert_eq!(Flood::TinyFragments.frames().len(), 1025 * 7);
        assert_eq!(Flood::EmptyFragments.frames().len(), 1025 * 6);
        assert_eq!(Flood::Pings.frames().len(), 51 * 6);
        assert!(Flood::Markup.frames().len() / 3 < 1 << 20, "each is within the bound of a message");
    }
}
