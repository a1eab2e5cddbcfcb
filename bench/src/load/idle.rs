//! Connections that have spoken once and then are silent: what they cost in memory.

use anyhow::Result;

use super::plan::{Outcome, Plan};
use super::user::{User, connect_all};
use super::{done, ready};

pub async fn run(plan: &Plan, connections: usize) -> Result<()> {
    // What the first connections allocate once is not theirs.
    let first = connect_all(plan, 16).await?;
    ready()?;
    let rest = connect_all(plan, connections).await?;
    // The last messages are through when one more has come back.
    let last = User::new(plan, connections)?.connect(plan).await?;
    done(&Outcome { count: rest.len() as u64 + 1, ..Outcome::default() })?;
    drop((first, rest, last));
    Ok(())
}
