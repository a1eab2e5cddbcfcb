//! The load, in a process of its own. It opens its connections, says `ready`, waits for a line, works, answers with one line of
//! JSON, and holds its connections until the next line: so that its parent can look at the proxy at the right moments.

mod closed;
mod connections;
mod idle;
mod paced;
mod plan;
mod polling;
mod user;

pub use plan::{Load, Outcome, Plan, Work};

use anyhow::{Context, Result};
use clap::Args;
use std::io::{BufRead, Write};
use std::time::Duration;

use closed::Length;

/// after that a load ends whatever it is doing
const LIFE: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub struct LoadArgs {
    /// The plan, as JSON
    #[arg(long)]
    plan: String,
}

pub async fn run(args: &LoadArgs) -> Result<()> {
    let plan: Plan = serde_json::from_str(&args.plan).context("the plan cannot be read")?;
    let work = async {
        match plan.work {
            Work::Closed { connections, pipeline, millis } => {
                closed::run(&plan, connections, pipeline, Length::Millis(millis)).await
            }
            Work::Quota { connections, each } => closed::run(&plan, connections, 1, Length::Bursts(each)).await,
            Work::Polling { clients, millis } => polling::run(&plan, clients, millis).await,
            Work::Paced { .. } => paced::run(&plan).await,
            Work::Idle { connections } => idle::run(&plan, connections).await,
            Work::Connections { count, workers, refused } => connections::run(&plan, count, workers, refused).await,
        }
    };
    tokio::time::timeout(LIFE, work).await.context("the load took too long")?
}

/// says that everything is open, and waits to be told to go
fn ready() -> Result<()> {
    say("ready")?;
    hear()
}

/// tells what was seen, and waits until everything may be closed
fn done(outcome: &Outcome) -> Result<()> {
    say(&serde_json::to_string(outcome)?)?;
    hear()
}

fn say(line: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

/// blocks the whole load: nothing else may move meanwhile
fn hear() -> Result<()> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(())
}
