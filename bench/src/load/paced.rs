//! A fixed rate: what a message waits for when nobody is in a hurry.

use anyhow::Result;
use futures_util::SinkExt;
use futures_util::future::try_join_all;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

use super::plan::{Outcome, Plan, Work};
use super::user::{connect_all, echo};
use super::{done, ready};
use crate::client::Socket;
use crate::stats::{ascending, percentile};

pub async fn run(plan: &Plan) -> Result<()> {
    let Work::Paced { connections, per_second, millis } = plan.work else { return Ok(()) };
    let mut sockets = connect_all(plan, connections).await?;
    ready()?;
    let start = Instant::now();
    let end = start + Duration::from_millis(millis);
    let pause = Duration::from_secs(1) * u32::try_from(connections)? / u32::try_from(per_second)?;
    let all = sockets.iter_mut().enumerate().map(|(index, socket)| {
        // Spread over the first pause, so that connections do not speak in chorus.
        let first = start + pause * u32::try_from(index).unwrap_or(0) / u32::try_from(connections).unwrap_or(1);
        converse(plan, socket, first, pause, end)
    });
    let waits = ascending(try_join_all(all).await?.concat());
    done(&Outcome {
        count: waits.len() as u64,
        seconds: start.elapsed().as_secs_f64(),
        p50_micros: percentile(&waits, 0.5),
        p99_micros: percentile(&waits, 0.99),
    })
}

/// from the moment of sending, which the echo of another message never delays
async fn converse(plan: &Plan, socket: &mut Socket, first: Instant, pause: Duration, end: Instant) -> Result<Vec<f64>> {
    let message = plan.dialect.message();
    let (mut next, mut sent, mut waits) = (first, VecDeque::new(), Vec::new());
    while next < end || !sent.is_empty() {
        tokio::select! {
            () = sleep_until(next), if next < end => {
                next += pause;
                sent.push_back(Instant::now());
                socket.send(message.clone()).await?;
            }
            outcome = echo(plan, socket), if !sent.is_empty() => {
                outcome?;
                if let Some(sent) = sent.pop_front() {
                    waits.push(sent.elapsed().as_secs_f64() * 1e6);
                }
            }
        }
    }
    Ok(waits)
}
