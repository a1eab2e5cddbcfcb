//! What it costs to export everything: Picket with and without a collector, in turn, round after round.

use anyhow::{Result, bail};
use clap::Args;
use std::path::PathBuf;
use tokio::net::TcpSocket;

mod collector;
mod outage;

use crate::cli::picket_executable;
use crate::compare::cores;
use crate::cpu;
use crate::load::Work;
use crate::measure::{load, per_count_micros};
use crate::peers::{LIMIT_BEYOND, Peer, Stage, picket};
use crate::stats::median;
use crate::waits::Waits;
use collector::Collector;

const CLOSED: Work = Work::Closed { connections: 50, pipeline: 1, millis: 3000 };
const REFUSED: Work = Work::Connections { count: 2000, workers: 8, refused: true };

#[derive(Debug, Args)]
pub struct TelemetryArgs {
    /// How often each way is measured; the table shows medians
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// Just what a collector that leaves, or says nothing, does to one node's paced messages, with the 95 % interval of the ratio;
    /// 20 rounds for 5 %
    #[arg(long)]
    away: bool,
    /// The picket executable [default: beside this one]
    #[arg(long)]
    picket: Option<PathBuf>,
}

/// where a node's telemetry goes
#[derive(Clone, Copy, Debug)]
enum Way {
    Nowhere,
    /// all signals, every connection traced
    All,
    /// all signals, one connection in a hundred traced
    Hundredth,
    /// all signals, to a port on which nobody listens
    Away,
}

impl Way {
    const ALL: [Way; 4] = [Way::Nowhere, Way::All, Way::Hundredth, Way::Away];

    fn title(self) -> &'static str {
        match self {
            Way::Nowhere => "nothing exported",
            Way::All => "all exported, every connection traced",
            Way::Hundredth => "all exported, 1 % of connections traced",
            Way::Away => "all exported, the collector is away",
        }
    }

    fn environment(self, collector: &str, nobody: &str) -> Vec<(&'static str, String)> {
        const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        // A push each second, so that several fall into a load.
        let every_second = || ("OTEL_METRIC_EXPORT_INTERVAL", "1000".to_owned());
        match self {
            Way::Nowhere => Vec::new(),
            Way::All => vec![(ENDPOINT, collector.to_owned()), every_second()],
            Way::Hundredth => vec![
                (ENDPOINT, collector.to_owned()),
                every_second(),
                ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio".to_owned()),
                ("OTEL_TRACES_SAMPLER_ARG", "0.01".to_owned()),
            ],
            Way::Away => vec![(ENDPOINT, nobody.to_owned()), every_second()],
        }
    }
}

/// every round's values of one way
#[derive(Clone, Debug, Default)]
struct Figures {
    message_micros: Vec<f64>,
    refused_micros: Vec<f64>,
    waits: Waits,
    resident_mib: Vec<f64>,
}

pub async fn run(args: &TelemetryArgs) -> Result<()> {
    let stage = Stage { cores: cores()?, picket: picket_executable(args.picket.as_ref())?, peers: PathBuf::new() };
    if let Some(missing) = Peer::Picket.missing(&stage) {
        bail!("{missing}");
    }
    if args.away {
        return outage::run(&stage, args.rounds).await;
    }
    let collector = Collector::new().await?;
    let collector = collector.url();
    // Bound, and not listening: nobody else can have the port.
    let taken = TcpSocket::new_v4()?;
    taken.bind(([127, 0, 0, 1], 0).into())?;
    let nobody = format!("http://{}", taken.local_addr()?);
    let mut figures = vec![Figures::default(); Way::ALL.len()];
    for round in 1..=args.rounds {
        for (way, figures) in Way::ALL.into_iter().zip(&mut figures) {
            eprintln!("round {round} of {}: {}", args.rounds, way.title());
            measure(&stage, &way.environment(&collector, &nobody), figures).await?;
        }
    }
    print!("{}", table(&figures));
    Ok(())
}

async fn measure(stage: &Stage, environment: &[(&str, String)], figures: &mut Figures) -> Result<()> {
    let peer = Peer::Picket;
    let standing = picket::start(stage, peer.dialect(), LIMIT_BEYOND, environment, &[]).await?;
    let (outcome, used) = load(peer, stage, &standing, CLOSED).await?;
    figures.message_micros.push(per_count_micros(used.proxy_nanos, &outcome));
    figures.waits.measure(stage, &standing).await?;
    let (outcome, used) = load(peer, stage, &standing, REFUSED).await?;
    figures.refused_micros.push(per_count_micros(used.proxy_nanos, &outcome));
    figures.resident_mib.push(cpu::resident_bytes(standing.process.id())? as f64 / 1_048_576.0);
    Ok(())
}

fn table(figures: &[Figures]) -> String {
    let mut table =
        "| | µs of CPU per message | times nothing exported | per refused connection | p50 µs | p99 µs | resident MiB at the end |\n\
                     |---|---|---|---|---|---|---|\n"
            .to_owned();
    let Some(nothing) = figures.first() else {
        return table;
    };
    for (way, figures) in Way::ALL.into_iter().zip(figures) {
        let Figures { message_micros, refused_micros, waits: Waits { p50_micros, p99_micros }, resident_mib } = figures;
        let tenths = |rounds: &[f64]| median(rounds).map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        // Inside a round the machine has changed least.
        let ratios: Vec<_> =
            message_micros.iter().zip(&nothing.message_micros).map(|(own, other)| own / other).collect();
        let ratio = median(&ratios).map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        let others = [refused_micros, p50_micros, p99_micros, resident_mib].map(|rounds| tenths(rounds)).join(" | ");
        table.push_str(&format!("| {} | {} | {ratio} | {others} |\n", way.title(), tenths(message_micros)));
    }
    table
}
