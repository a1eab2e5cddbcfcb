//! Connections that come and go: accepted ones say one message; others are refused at the upgrade.

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::http::StatusCode;

use super::plan::{Outcome, Plan};
use super::user::User;
use super::{done, ready};
use crate::client::{self, NotOpened};
use crate::stats::{ascending, percentile};

const CLOSES_WITHIN: Duration = Duration::from_secs(10);

pub async fn run(plan: &Plan, count: usize, workers: usize, refused: bool) -> Result<()> {
    // Tokens are signed before the clock runs.
    let users = (0..count).map(|number| User::new(plan, number)).collect::<Result<Vec<_>>>()?;
    let users: Vec<_> = users.into_iter().map(|user| if refused { user.astray() } else { user }).collect();
    visit(plan, &users[..workers.min(count)], refused).await?;
    ready()?;
    let start = Instant::now();
    let waits = users.chunks(count.div_ceil(workers)).map(|users| visit(plan, users, refused));
    let waits = ascending(try_join_all(waits).await?.concat());
    done(&Outcome {
        count: waits.len() as u64,
        seconds: start.elapsed().as_secs_f64(),
        p50_micros: percentile(&waits, 0.5),
        p99_micros: percentile(&waits, 0.99),
    })
}

async fn visit(plan: &Plan, users: &[User], refused: bool) -> Result<Vec<f64>> {
    let mut waits = Vec::with_capacity(users.len());
    for user in users {
        let start = Instant::now();
        if refused {
            is_refused(user).await?;
        } else {
            let socket = user.connect(plan).await?;
            timeout(CLOSES_WITHIN, client::close(socket)).await.context("a close was not answered")??;
        }
        waits.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(waits)
}

async fn is_refused(user: &User) -> Result<()> {
    match user.door().open().await {
        Err(NotOpened::Refused { status: StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST, .. }) => Ok(()),
        Err(other) => Err(other).context("instead of a refusal"),
        Ok(_) => bail!("a connection from elsewhere was let in"),
    }
}
