//! Connections that come and go, and then everybody who was connected, at once.

use anyhow::{Context, Result};
use clap::Args;
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::http::StatusCode;

use super::aim::{ATTACKERS, Target, Visitor};
use super::tally::Tally;
use super::{Attack, Common, Findings};
use crate::client::{self, NotOpened, Socket};
use crate::stats::{ascending, percentile};

pub const EXAMPLES: &str = "\
Examples:
  picket-bench drill reconnect --practice --connections 500
  picket-bench drill reconnect --target ws://127.0.0.1:8080/ws --jwt-secret \"$SECRET\" --forwarded-for --back-within 3

One half of the time --connections attackers connect, say something and leave, without a pause; as many users stay connected
meanwhile. Then all users lose their connections at once and come back, as Retry-After bids them. Passes when all were back
within --back-within and every refusal with 429 or 503 said when to come back. All from one address, without --forwarded-for,
is what the gateway's connection limit is there to refuse.
Exit codes: 0 passed, 1 failed, 2 no verdict.";

/// of the users that are connected beforehand
const OPENED_AT_ONCE: usize = 32;
/// a client without a better idea waits so long
const COMES_BACK_AFTER: Duration = Duration::from_millis(200);
const LEAVES_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub struct ReconnectArgs {
    #[command(flatten)]
    pub common: Common,
    /// Seconds in which everybody has to be back
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=300))]
    back_within: u16,
}

/// refusals that did not say when to come back
type Mute = Arc<AtomicU64>;

pub async fn attack(args: &ReconnectArgs, attack: &Attack<'_>) -> Result<Findings> {
    let start = Instant::now();
    let mute = Mute::default();
    let users = (0..attack.connections).map(|number| attack.target.visitor(ATTACKERS + attack.connections + number));
    let users = users.collect::<Result<Vec<_>>>()?;
    let there = users.iter().map(async |user| user.connect().await);
    let there: Vec<Socket> = stream::iter(there)
        .buffer_unordered(OPENED_AT_ONCE)
        .try_collect()
        .await
        .context("not all users can connect, even before the drill")?;
    let half = start + attack.ends.saturating_duration_since(start) / 2;
    let visits = churn(attack, half, &mute).await?;
    let churned = start.elapsed().as_secs_f64();
    // All at once, and without a goodbye.
    drop(there);
    let wave = Instant::now();
    let patience = Duration::from_secs(args.back_within.into());
    let back = try_join_all(users.iter().map(|user| come_back(user, wave, patience, attack.tally, &mute))).await?;
    // Nobody leaves before everybody has come.
    let seconds = ascending(back.iter().flatten().map(|(after, _)| after.as_secs_f64()).collect());
    let mut findings = Findings::default();
    let name = format!("all users are back within {} s", args.back_within);
    findings.check(name, seconds.len() == users.len(), format!("{} of {}", seconds.len(), users.len()));
    let silent = mute.load(Ordering::Relaxed);
    let name = "refusals say when to come back";
    findings.check(
        name,
        silent == 0,
        format!("{} refused, {silent} without Retry-After", attack.tally.turned_away.get()),
    );
    findings.figure("visits of attackers per second", visits as f64 / churned);
    findings.figure("handshakes refused", attack.tally.turned_away.get() as f64);
    let parts =
        [("users back after, p50, s", 0.5), ("users back after, p99, s", 0.99), ("users back after, max, s", 1.0)];
    for (name, part) in parts {
        if let Some(seconds) = percentile(&seconds, part) {
            findings.figure(name, seconds);
        }
    }
    Ok(findings)
}

async fn churn(attack: &Attack<'_>, until: Instant, mute: &Mute) -> Result<u64> {
    let mut attackers = JoinSet::new();
    for number in 0..attack.connections {
        let (visitor, target) = (attack.target.visitor(ATTACKERS + number)?, attack.target.clone());
        let (tally, mute) = (attack.tally.clone(), mute.clone());
        attackers.spawn(async move {
            let mut visits = 0;
            while Instant::now() < until {
                match visitor.connect().await {
                    Ok(socket) => {
                        tally.opened.add(1);
                        visits += u64::from(visit(socket, &target).await);
                    }
                    Err(error) => {
                        turned_away(&error, &tally, &mute);
                        sleep(COMES_BACK_AFTER).await;
                    }
                }
            }
            visits
        });
    }
    Ok(attackers.join_all().await.into_iter().sum())
}

/// says something and leaves; whether the target let it
async fn visit(mut socket: Socket, target: &Target) -> bool {
    let visit = async {
        client::ask(&mut socket, Message::text(target.event("hello and goodbye"))).await?;
        client::close(socket).await
    };
    matches!(timeout(LEAVES_WITHIN, visit).await, Ok(Ok(())))
}

/// after how long, with the socket so that it stays; or not in time
async fn come_back(
    user: &Visitor,
    wave: Instant,
    patience: Duration,
    tally: &Tally,
    mute: &Mute,
) -> Result<Option<(Duration, Socket)>> {
    loop {
        let left = patience.saturating_sub(wave.elapsed());
        match timeout(left, user.connect()).await {
            Err(_) => return Ok(None),
            Ok(Ok(socket)) => {
                tally.opened.add(1);
                return Ok(Some((wave.elapsed(), socket)));
            }
            Ok(Err(error)) => {
                let wait = turned_away(&error, tally, mute).unwrap_or(COMES_BACK_AFTER);
                if timeout(left, sleep(wait)).await.is_err() {
                    return Ok(None);
                }
            }
        }
    }
}

/// counts it; how long it bids to wait
fn turned_away(error: &NotOpened, tally: &Tally, mute: &Mute) -> Option<Duration> {
    match error {
        NotOpened::Refused { status, retry_after } => {
            tally.turned_away.add(1);
            let may_come_back = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(status);
            if may_come_back && retry_after.is_none() {
                mute.fetch_add(1, Ordering::Relaxed);
            }
            *retry_after
        }
        NotOpened::Failed(_) | NotOpened::TooSlow | NotOpened::Unwelcome(_) => {
            tally.failed.add(1);
            None
        }
    }
}
