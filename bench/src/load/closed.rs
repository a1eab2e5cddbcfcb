//! Closed loops: a connection sends a burst, waits for its echoes, and sends the next.

use anyhow::Result;
use futures_util::SinkExt;
use futures_util::future::try_join_all;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

use super::plan::{Outcome, Plan, Work};
use super::user::{connect_all, echo};
use super::{done, ready};
use crate::client::Socket;
use crate::stats::{ascending, percentile};

const WARM_UP: Duration = Duration::from_millis(300);

/// when a connection stops
#[derive(Clone, Copy)]
enum Until {
    Moment(Instant),
    Messages(usize),
}

pub async fn run(plan: &Plan) -> Result<()> {
    let (connections, pipeline) = match plan.work {
        Work::Closed { connections, pipeline, .. } => (connections, pipeline),
        Work::Quota { connections, .. } => (connections, 1),
        _ => (0, 1),
    };
    let mut sockets = connect_all(plan, connections).await?;
    if let Work::Closed { .. } = plan.work {
        loops(plan, &mut sockets, pipeline, Until::Moment(Instant::now() + WARM_UP)).await?;
    }
    ready()?;
    let start = Instant::now();
    let until = match plan.work {
        Work::Quota { each, .. } => Until::Messages(each),
        Work::Closed { millis, .. } => Until::Moment(start + Duration::from_millis(millis)),
        _ => Until::Messages(0),
    };
    let waits = loops(plan, &mut sockets, pipeline, until).await?;
    let seconds = start.elapsed().as_secs_f64();
    let count = (waits.len() * pipeline) as u64;
    let waits = ascending(waits);
    done(&Outcome { count, seconds, p50_micros: percentile(&waits, 0.5), p99_micros: percentile(&waits, 0.99) })
}

/// how long each burst took, in microseconds
async fn loops(plan: &Plan, sockets: &mut [Socket], pipeline: usize, until: Until) -> Result<Vec<f64>> {
    let message = plan.dialect.message();
    let all = sockets.iter_mut().map(|socket| converse(plan, socket, message.clone(), pipeline, until));
    Ok(try_join_all(all).await?.concat())
}

async fn converse(
    plan: &Plan,
    socket: &mut Socket,
    message: Message,
    pipeline: usize,
    until: Until,
) -> Result<Vec<f64>> {
    let mut waits = Vec::new();
    loop {
        let start = Instant::now();
        let goes_on = match until {
            Until::Moment(end) => start < end,
            Until::Messages(count) => waits.len() < count,
        };
        if !goes_on {
            return Ok(waits);
        }
        for _ in 0..pipeline {
            socket.feed(message.clone()).await?;
        }
        socket.flush().await?;
        for _ in 0..pipeline {
            echo(plan, socket).await?;
        }
        waits.push(start.elapsed().as_secs_f64() * 1e6);
    }
}
