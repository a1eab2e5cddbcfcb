//! What an upstream that is not well costs the users of another: paced messages to the well one, with and without connections to
//! one that refuses, and to one that takes connections and says nothing.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::cli::picket_executable;
use crate::client::Door;
use crate::compare::cores;
use crate::peers::{LIMIT_BEYOND, Peer, Stage, Standing, picket};
use crate::waits::{self, Waits};

/// connections that come for the upstream that is not well
const COME_EVERY: Duration = Duration::from_millis(50);
/// of them at once
const VISITORS_MAX: usize = 300;

#[derive(Debug, Args)]
pub struct UpstreamsArgs {
    /// How often each way is measured; the table shows medians. 30 rounds for 5 %
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// The picket executable [default: beside this one]
    #[arg(long)]
    picket: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Well,
    Refuses,
    SaysNothing,
}

impl Way {
    const ALL: [Way; 3] = [Way::Well, Way::Refuses, Way::SaysNothing];

    fn title(self) -> &'static str {
        match self {
            Way::Well => "nobody goes to the other upstream",
            Way::Refuses => "the other upstream refuses",
            Way::SaysNothing => "the other upstream says nothing",
        }
    }
}

pub async fn run(args: &UpstreamsArgs) -> Result<()> {
    let stage = Stage { cores: cores()?, picket: picket_executable(args.picket.as_ref())?, peers: PathBuf::new() };
    if let Some(missing) = Peer::Picket.missing(&stage) {
        bail!("{missing}");
    }
    // Bound, and not listening: nobody else can have the port.
    let refusing = TcpSocket::new_v4()?;
    refusing.bind(([127, 0, 0, 1], 0).into())?;
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let sick = [refusing.local_addr()?, silent.local_addr()?];
    tokio::spawn(say_nothing(silent));
    let route = |path: &str, upstream: SocketAddr| json!({ "path": path, "upstream": format!("ws://{upstream}/ws"), "protocol": "json" });
    let routes = [route("/refuses", sick[0]), route("/says-nothing", sick[1])];
    // One node for all rounds: two that are started alike differ more than what is looked for.
    let standing = picket::start(&stage, Peer::Picket.dialect(), LIMIT_BEYOND, &[], &routes).await?;
    let mut waits = vec![Waits::default(); Way::ALL.len()];
    for round in 1..=args.rounds {
        for (way, waits) in Way::ALL.into_iter().zip(&mut waits) {
            eprintln!("round {round} of {}: {}", args.rounds, way.title());
            measure(&stage, &standing, way, waits).await?;
        }
    }
    let [well, refuses, says_nothing] = &waits[..] else {
        bail!("three ways were measured");
    };
    print!("{}", waits::head(Way::Well.title()));
    print!("{}", refuses.beside(well, Way::Refuses.title()));
    print!("{}", says_nothing.beside(well, Way::SaysNothing.title()));
    Ok(())
}

async fn measure(stage: &Stage, standing: &Standing, way: Way, waits: &mut Waits) -> Result<()> {
    let visitors = match way {
        Way::Well => None,
        Way::Refuses => Some(tokio::spawn(visit(door(standing, "/refuses")))),
        Way::SaysNothing => Some(tokio::spawn(visit(door(standing, "/says-nothing")))),
    };
    waits.measure(stage, standing).await?;
    if let Some(visitors) = visitors {
        visitors.abort();
    }
    Ok(())
}

fn door(standing: &Standing, path: &str) -> Door {
    Door::new(standing.address, path)
}

/// comes again and again, until it is aborted
async fn visit(door: Door) {
    let (mut visitors, mut ticks) = (JoinSet::new(), interval(COME_EVERY));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        while visitors.try_join_next().is_some() {}
        if visitors.len() < VISITORS_MAX {
            let door = door.clone();
            visitors.spawn(async move { door.open().await.is_ok() });
        }
    }
}

/// takes every connection and keeps it
async fn say_nothing(listener: TcpListener) {
    let mut kept = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        kept.push(stream);
        if kept.len() > VISITORS_MAX {
            kept.remove(0);
        }
    }
}
