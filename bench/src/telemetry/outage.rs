//! X36: one node that exports all it can, every connection traced, while its collector answers, is away, or says nothing.

use anyhow::{Result, bail};

use super::Way;
use super::collector::{Collector, Manner};
use crate::cpu;
use crate::load::Work;
use crate::measure::load;
use crate::peers::{LIMIT_BEYOND, Peer, Stage, Standing, picket};
use crate::waits::{self, Waits};

/// connections before each measurement: each is a trace, and refused ones are logged and audited too
const CONNECTIONS: Work = Work::Connections { count: 2000, workers: 8, refused: true };

const MANNERS: [Manner; 3] = [Manner::Answers, Manner::Away, Manner::SaysNothing];

fn title(manner: Manner) -> &'static str {
    match manner {
        Manner::Answers => "the collector answers",
        Manner::Away => "the collector is away",
        Manner::SaysNothing => "the collector says nothing",
    }
}

pub async fn run(stage: &Stage, rounds: u8) -> Result<()> {
    let mut collector = Collector::new().await?;
    let environment = Way::All.environment(&collector.url(), "");
    // One node for all rounds: two that are started alike differ more than what is looked for.
    let standing = picket::start(stage, Peer::Picket.dialect(), LIMIT_BEYOND, &environment, &[]).await?;
    let (mut waits, mut resident) = (vec![Waits::default(); MANNERS.len()], Vec::new());
    for round in 1..=rounds {
        for (manner, waits) in MANNERS.into_iter().zip(&mut waits) {
            eprintln!("round {round} of {rounds}: {}", title(manner));
            collector.behave(manner).await?;
            resident.push(measure(stage, &standing, waits).await?);
        }
    }
    let [answers, away, says_nothing] = &waits[..] else {
        bail!("three manners were measured");
    };
    print!("{}", waits::head(title(Manner::Answers)));
    print!("{}", away.beside(answers, title(Manner::Away)));
    print!("{}", says_nothing.beside(answers, title(Manner::SaysNothing)));
    let mib = |bytes: Option<&u64>| bytes.map_or(0.0, |bytes| *bytes as f64 / 1_048_576.0);
    println!(
        "\nresident: {:.1} MiB after the first measurement, {:.1} at most, {:.1} at the end",
        mib(resident.first()),
        mib(resident.iter().max()),
        mib(resident.last()),
    );
    Ok(())
}

/// answers what the node then holds in memory
async fn measure(stage: &Stage, standing: &Standing, waits: &mut Waits) -> Result<u64> {
    load(Peer::Picket, stage, standing, CONNECTIONS).await?;
    waits.measure(stage, standing).await?;
    cpu::resident_bytes(standing.process.id())
}
