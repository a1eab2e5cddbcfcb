//! What paced clients wait for in two ways of running, measured in turn: the ratio inside each round, in which the machine has
//! changed least, and between which values its median lies.

use anyhow::Result;

use crate::load::Work;
use crate::measure::load;
use crate::peers::{Peer, Stage, Standing};
use crate::stats::{median, median_interval};

pub const PACED: Work = Work::Paced { connections: 50, per_second: 4000, millis: 3000 };

/// of one way, a value for each round
#[derive(Clone, Debug, Default)]
pub struct Waits {
    pub p50_micros: Vec<f64>,
    pub p99_micros: Vec<f64>,
}

impl Waits {
    pub async fn measure(&mut self, stage: &Stage, standing: &Standing) -> Result<()> {
        let (outcome, _) = load(Peer::Picket, stage, standing, PACED).await?;
        self.p50_micros.extend(outcome.p50_micros);
        self.p99_micros.extend(outcome.p99_micros);
        Ok(())
    }

    /// beside what is usual, as the lines of a table
    pub fn beside(&self, usual: &Waits, title: &str) -> String {
        let line = |name: &str, own: &[f64], usual: &[f64]| {
            let ratios: Vec<_> = own.iter().zip(usual).map(|(own, usual)| own / usual).collect();
            let micros = |rounds: &[f64]| median(rounds).map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
            let ratio = median(&ratios).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
            let interval = median_interval(&ratios);
            let interval = interval.map_or_else(|| "-".to_owned(), |(low, high)| format!("{low:.3} to {high:.3}"));
            format!("| {title}, {name} | {} | {} | {ratio} | {interval} |\n", micros(usual), micros(own))
        };
        line("p50", &self.p50_micros, &usual.p50_micros) + &line("p99", &self.p99_micros, &usual.p99_micros)
    }
}

pub fn head(usual: &str) -> String {
    format!("| µs of a paced round trip | {usual} | so | ratio | 95 % of its median |\n|---|---|---|---|---|\n")
}
