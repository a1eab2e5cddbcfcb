//! Closed loops: a client sends a burst, waits for its echoes, and sends the next.

use anyhow::Result;
use futures_util::SinkExt;
use futures_util::future::try_join_all;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

use super::plan::{Outcome, Plan};
use super::user::{connect_all, echo};
use super::{done, ready};
use crate::client::Socket;
use crate::stats::{ascending, percentile};

const WARM_UP: Duration = Duration::from_millis(300);

/// how long a load is
#[derive(Clone, Copy)]
pub enum Length {
    Millis(u64),
    /// of each client
    Bursts(usize),
}

/// when a client stops
#[derive(Clone, Copy)]
enum Until {
    Moment(Instant),
    Bursts(usize),
}

pub trait Client {
    /// one burst, and all its echoes
    async fn converse(&mut self) -> Result<()>;
}

/// frames over WebSockets, `pipeline` in a burst
pub async fn run(plan: &Plan, connections: usize, pipeline: usize, length: Length) -> Result<()> {
    let message = plan.dialect.message();
    let sockets = connect_all(plan, connections).await?.into_iter();
    let clients = sockets.map(|socket| Framed { plan, socket, message: message.clone(), pipeline }).collect();
    measure(clients, pipeline, length).await
}

pub async fn measure<C: Client>(mut clients: Vec<C>, pipeline: usize, length: Length) -> Result<()> {
    if let Length::Millis(_) = length {
        loops(&mut clients, Until::Moment(Instant::now() + WARM_UP)).await?;
    }
    ready()?;
    let start = Instant::now();
    let until = match length {
        Length::Millis(millis) => Until::Moment(start + Duration::from_millis(millis)),
        Length::Bursts(each) => Until::Bursts(each),
    };
    let waits = loops(&mut clients, until).await?;
    let seconds = start.elapsed().as_secs_f64();
    let count = (waits.len() * pipeline) as u64;
    let waits = ascending(waits);
    done(&Outcome { count, seconds, p50_micros: percentile(&waits, 0.5), p99_micros: percentile(&waits, 0.99) })
}

/// how long each burst took, in microseconds
async fn loops<C: Client>(clients: &mut [C], until: Until) -> Result<Vec<f64>> {
    Ok(try_join_all(clients.iter_mut().map(|client| bursts(client, until))).await?.concat())
}

async fn bursts(client: &mut impl Client, until: Until) -> Result<Vec<f64>> {
    let mut waits = Vec::new();
    loop {
        let start = Instant::now();
        let goes_on = match until {
            Until::Moment(end) => start < end,
            Until::Bursts(count) => waits.len() < count,
        };
        if !goes_on {
            return Ok(waits);
        }
        client.converse().await?;
        waits.push(start.elapsed().as_secs_f64() * 1e6);
    }
}

struct Framed<'a> {
    plan: &'a Plan,
    socket: Socket,
    message: Message,
    pipeline: usize,
}

impl Client for Framed<'_> {
    async fn converse(&mut self) -> Result<()> {
        for _ in 0..self.pipeline {
            self.socket.feed(self.message.clone()).await?;
        }
        self.socket.flush().await?;
        for _ in 0..self.pipeline {
            echo(self.plan, &mut self.socket).await?;
        }
        Ok(())
    }
}
