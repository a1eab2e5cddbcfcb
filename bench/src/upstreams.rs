//! What an upstream that is not well costs the users of another: paced messages to theirs, while others connect to a second one that
//! is well, that refuses, or that takes connections and says nothing. Beside it, what those connections cost at all.

use anyhow::{Result, bail};
use clap::Args;
use futures_util::StreamExt;
use serde_json::json;
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
    Nobody,
    Well,
    Refuses,
    SaysNothing,
}

impl Way {
    const ALL: [Way; 4] = [Way::Nobody, Way::Well, Way::Refuses, Way::SaysNothing];

    fn title(self) -> &'static str {
        match self {
            Way::Nobody => "nobody goes to the other upstream",
            Way::Well => "the other upstream is well",
            Way::Refuses => "the other upstream refuses",
            Way::SaysNothing => "the other upstream says nothing",
        }
    }

    /// the route that connections to the other upstream take
    fn path(self) -> Option<&'static str> {
        match self {
            Way::Nobody => None,
            Way::Well => Some("/well"),
            Way::Refuses => Some("/refuses"),
            Way::SaysNothing => Some("/says-nothing"),
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
    let (well, silent) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
    let addresses = [
        (Way::Well, well.local_addr()?),
        (Way::Refuses, refusing.local_addr()?),
        (Way::SaysNothing, silent.local_addr()?),
    ];
    tokio::spawn(be_well(well));
    tokio::spawn(say_nothing(silent));
    let routes = addresses.map(
        |(way, upstream)| json!({ "path": way.path(), "upstream": format!("ws://{upstream}/ws"), "protocol": "json" }),
    );
    // One node for all rounds: two that are started alike differ more than what is looked for.
    let standing = picket::start(&stage, Peer::Picket.dialect(), LIMIT_BEYOND, &[], &routes).await?;
    let mut waits = vec![Waits::default(); Way::ALL.len()];
    for round in 1..=args.rounds {
        for (way, waits) in Way::ALL.into_iter().zip(&mut waits) {
            eprintln!("round {round} of {}: {}", args.rounds, way.title());
            measure(&stage, &standing, way, waits).await?;
        }
    }
    let [nobody, well, refuses, says_nothing] = &waits[..] else {
        bail!("four ways were measured");
    };
    print!("{}", waits::head(Way::Nobody.title()));
    print!("{}", well.beside(nobody, Way::Well.title()));
    println!();
    print!("{}", waits::head(Way::Well.title()));
    print!("{}", refuses.beside(well, Way::Refuses.title()));
    print!("{}", says_nothing.beside(well, Way::SaysNothing.title()));
    Ok(())
}

async fn measure(stage: &Stage, standing: &Standing, way: Way, waits: &mut Waits) -> Result<()> {
    let visitors = way.path().map(|path| tokio::spawn(visit(Door::new(standing.address, path))));
    waits.measure(stage, standing).await?;
    if let Some(visitors) = visitors {
        visitors.abort();
    }
    Ok(())
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

/// takes every upgrade, and leaves when the client does
async fn be_well(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            if let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await {
                while socket.next().await.is_some_and(|message| message.is_ok()) {}
            }
        });
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
