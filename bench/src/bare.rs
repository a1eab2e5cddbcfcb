//! The honest limit: a proxy that does nothing but move messages, written as well as tokio-tungstenite allows. One task per
//! connection, 4 KiB of read buffer, and a flush only when neither side has more to say.
//!
//! Two variants say what a figure is made of. Flushing each message is how such proxies are usually written. Working a while for
//! each message is a control: it shows what a microsecond of anybody's own work costs in all, since a proxy that takes longer
//! lets its peers fall asleep, and then has to wake them.

use anyhow::Result;
use clap::Args;
use futures_util::{FutureExt, SinkExt, StreamExt};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client::{self, Door, Socket};

#[derive(Debug, Args)]
pub struct BareArgs {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    upstream: SocketAddr,
    /// Flush after each message, as most proxies do
    #[arg(long)]
    flush_each: bool,
    /// Nanoseconds of work for each message of a client
    #[arg(long, default_value_t = 0)]
    work_nanos: u64,
}

/// what is done with a message beside passing it on; by default nothing
#[derive(Clone, Copy, Default)]
pub struct Manner {
    flush_each: bool,
    work: Duration,
}

impl Manner {
    /// keeps the processor busy, as checks would
    fn work(self) {
        let start = Instant::now();
        while start.elapsed() < self.work {
            std::hint::spin_loop();
        }
    }
}

enum Side {
    Client(Option<Result<Message, Error>>),
    Upstream(Option<Result<Message, Error>>),
}

pub async fn run(args: &BareArgs) -> Result<()> {
    let manner = Manner { flush_each: args.flush_each, work: Duration::from_nanos(args.work_nanos) };
    serve(TcpListener::bind(args.listen).await?, args.upstream, manner).await
}

/// serves until it is dropped
pub async fn serve(listener: TcpListener, upstream: SocketAddr, manner: Manner) -> Result<()> {
    let door = Door::new(upstream, "/ws");
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let door = door.clone();
        tokio::spawn(async move {
            // Both ends are other processes of the measurement, which say what they miss.
            drop(relay(stream, door, manner).await);
        });
    }
}

async fn relay(stream: TcpStream, door: Door, manner: Manner) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut client = accept_async_with_config(stream, Some(client::config())).await?;
    let mut upstream = door.open().await?;
    loop {
        let message = match next(&mut client, &mut upstream).now_or_never() {
            Some(message) => message,
            None => {
                upstream.flush().await?;
                client.flush().await?;
                next(&mut client, &mut upstream).await
            }
        };
        match message {
            Side::Client(Some(Ok(Message::Close(_)))) => return goodbye(client, upstream).await,
            Side::Upstream(Some(Ok(Message::Close(_)))) => return goodbye(upstream, client).await,
            Side::Client(Some(Ok(message @ (Message::Text(_) | Message::Binary(_))))) => {
                manner.work();
                pass_on(&mut upstream, message, manner).await?;
            }
            Side::Upstream(Some(Ok(message @ (Message::Text(_) | Message::Binary(_))))) => {
                pass_on(&mut client, message, manner).await?;
            }
            Side::Client(Some(Ok(_))) | Side::Upstream(Some(Ok(_))) => {}
            Side::Client(Some(Err(error))) | Side::Upstream(Some(Err(error))) => return Err(error.into()),
            Side::Client(None) | Side::Upstream(None) => return Ok(()),
        }
    }
}

async fn pass_on(to: &mut Socket, message: Message, manner: Manner) -> Result<(), Error> {
    match manner.flush_each {
        true => to.send(message).await,
        false => to.feed(message).await,
    }
}

async fn next(client: &mut Socket, upstream: &mut Socket) -> Side {
    tokio::select! {
        message = client.next() => Side::Client(message),
        message = upstream.next() => Side::Upstream(message),
    }
}

/// answers the side that closed, and closes the other
async fn goodbye(mut closed: Socket, other: Socket) -> Result<()> {
    closed.flush().await.or_else(|error| if matches!(error, Error::ConnectionClosed) { Ok(()) } else { Err(error) })?;
    client::close(other).await?;
    Ok(())
}
