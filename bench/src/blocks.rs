//! From a block at the management API until the last open socket of the address, on all nodes, got its close frame.

use anyhow::{Context, Result, bail};
use clap::Args;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::cli::picket_executable;
use crate::client::{Door, Socket};
use crate::dialect::Dialect;
use crate::echo;
use crate::machine::{self, Machine};
use crate::picket::{Admin, Picket, Plan, json_route, policy};
use crate::redis::Redis;
use crate::stats::{ascending, percentile};

const NODES: usize = 3;
/// blocks that are not counted: the first costs the coordinator an Argon2
const WARM_UP: usize = 5;
/// sockets of addresses that are never blocked, on each node: they are woken, and must stay
const BYSTANDERS: usize = 50;
const CLOSES_WITHIN: Duration = Duration::from_secs(5);
/// the close code of `address_blocked`
const POLICY_CLOSE: u16 = 1008;

#[derive(Debug, Args)]
pub struct BlocksArgs {
    /// How many addresses are blocked, one after the other
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=2000))]
    blocks: u16,
    /// The picket executable [default: beside this one]
    #[arg(long)]
    picket: Option<PathBuf>,
}

/// of one block, in milliseconds
struct Sample {
    from_request: f64,
    from_answer: f64,
    request: f64,
}

pub async fn run(args: &BlocksArgs) -> Result<()> {
    let executable = picket_executable(args.picket.as_ref())?;
    let machine = Machine::look();
    let blocks = usize::from(args.blocks);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let upstream = listener.local_addr()?;
    tokio::spawn(echo::serve(listener, Dialect::Json));
    let redis = Redis::start(None).await?;
    let plan = Plan {
        executable: &executable,
        redis: redis.url(),
        routes: json_route(upstream),
        policy: policy(json!({ "security": { "maxAnonymousConnections": 100_000 } })),
        limits: json!({}),
    };
    let coordinator = plan.coordinator("coordinator-1", None).await?;
    let nodes = try_join_all((1..=NODES).map(async |number| plan.node(&format!("edge-{number}"), None).await)).await?;
    let admin = Admin::new(&coordinator)?;
    eprintln!("{NODES} nodes are ready; blocking {blocks} addresses");

    let bystanders = sockets(&nodes, BYSTANDERS, "192.0.2").await?;
    let mut samples = Vec::with_capacity(blocks);
    for number in 0..WARM_UP + blocks {
        let address = format!("198.18.{}.{}", number / 250, number % 250 + 1);
        let sample = block(&admin, &nodes, &address).await?;
        if number >= WARM_UP {
            samples.push(sample);
        }
        // Not in step with anybody's timer.
        tokio::time::sleep(Duration::from_millis(5 + (number as u64 * 7) % 23)).await;
    }
    let lost = bystanders.iter().filter(|(_, end)| end.is_finished()).count();
    if lost > 0 {
        bail!("{lost} sockets of addresses that were not blocked were closed");
    }
    print!("{}", report(&samples, &machine, &executable));
    Ok(())
}

/// opens a socket on every node, blocks their address, and waits for all close frames
async fn block(admin: &Admin, nodes: &[Picket], address: &str) -> Result<Sample> {
    let victims = try_join_all(nodes.iter().map(async |node| open(node, address).await)).await?;
    let ends = victims.into_iter().map(watch).collect::<Vec<_>>();
    let request = Instant::now();
    admin.post("/block-ip", &json!({ "ip": address, "reason": "a measurement" })).await?;
    let answer = Instant::now();
    let ends = timeout(CLOSES_WITHIN, try_join_all(ends)).await;
    let ends = ends.with_context(|| format!("sockets of {address} stayed open for {CLOSES_WITHIN:?}"))??;
    let mut last = request;
    for (code, at) in ends {
        if code != Some(POLICY_CLOSE) {
            bail!("a socket of {address} ended with {code:?}, not with {POLICY_CLOSE}");
        }
        last = last.max(at);
    }
    Ok(Sample {
        from_request: millis(last.duration_since(request)),
        // The last socket may be closed before the answer has come.
        from_answer: millis(last.saturating_duration_since(answer)),
        request: millis(answer.duration_since(request)),
    })
}

async fn sockets(nodes: &[Picket], count: usize, network: &str) -> Result<Vec<(usize, JoinHandle<End>)>> {
    let mut all = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        for number in 0..count {
            all.push((index, watch(open(node, &format!("{network}.{}", number + 1)).await?)));
        }
    }
    Ok(all)
}

async fn open(node: &Picket, address: &str) -> Result<Socket> {
    let door = Door::new(node.address, "/ws").forwarded_for(address);
    door.open().await.with_context(|| format!("a socket from {address}"))
}

/// the close code, and when it came
type End = (Option<u16>, Instant);

fn watch(mut socket: Socket) -> JoinHandle<End> {
    tokio::spawn(async move {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(frame))) => return (frame.map(|frame| frame.code.into()), Instant::now()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (None, Instant::now()),
            }
        }
    })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn report(samples: &[Sample], machine: &Machine, executable: &std::path::Path) -> String {
    let row = |name: &str, of: fn(&Sample) -> f64| {
        let sorted = ascending(samples.iter().map(of).collect());
        let cell = |part| percentile(&sorted, part).map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
        format!("| {name} | {} | {} | {} |\n", cell(0.5), cell(0.99), cell(1.0))
    };
    format!(
        "## A block closes open sockets on {NODES} nodes\n\n\
         {} addresses, one after the other, each with one open socket on each of {NODES} nodes beside {BYSTANDERS} sockets \
         that stay; milliseconds until the last of the three got its close frame.\n\n\
         | | p50 | p99 | max |\n|---|---|---|---|\n{}{}{}\n\
         Measured on: {}; {}; {}.\n",
        samples.len(),
        row("from sending `POST /block-ip`", |sample| sample.from_request),
        row("from its answer", |sample| sample.from_answer),
        row("the request itself", |sample| sample.request),
        machine.sentence(),
        machine::version(executable, "--version"),
        machine::version("redis-server".as_ref(), "--version").split(" sha=").next().unwrap_or_default(),
    )
}
