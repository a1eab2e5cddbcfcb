//! The application behind every proxy: it sends each message back, and flushes when nothing more waits to be read.

use anyhow::Result;
use clap::Args;
use futures_util::{FutureExt, SinkExt, StreamExt};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client;
use crate::dialect::Dialect;
use crate::ports;
use crate::process::{Running, command};

const OPEN: &str = r#"0{"sid":"echo","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
const CONNECTED: &str = r#"40{"sid":"echo-socket"}"#;

#[derive(Debug, Args)]
pub struct EchoArgs {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    dialect: Dialect,
}

pub async fn run(args: &EchoArgs) -> Result<()> {
    serve(TcpListener::bind(args.listen).await?, args.dialect).await
}

/// an echo server in a process of its own, and where it listens
pub async fn process(cores: Option<&str>, dialect: Dialect) -> Result<(Running, SocketAddr)> {
    let address = ports::free();
    let name = match dialect {
        Dialect::Json => "json",
        Dialect::Socketio => "socketio",
    };
    let mut command = command(cores, std::env::current_exe()?);
    command.args(["echo", "--dialect", name, "--listen", &address.to_string()]);
    let mut echo = Running::start("the echo server", command)?;
    echo.listens(address).await?;
    Ok((echo, address))
}

/// serves until it is dropped
pub async fn serve(listener: TcpListener, dialect: Dialect) -> Result<()> {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors: others will close theirs.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        tokio::spawn(async move {
            // How a connection ends is seen, and judged, at its other end.
            drop(converse(stream, dialect).await);
        });
    }
}

async fn converse(stream: TcpStream, dialect: Dialect) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let mut socket = accept_async_with_config(stream, Some(client::config())).await?;
    if dialect == Dialect::Socketio {
        socket.send(Message::text(OPEN)).await?;
    }
    loop {
        let message = match socket.next().now_or_never() {
            Some(message) => message,
            None => {
                socket.flush().await?;
                socket.next().await
            }
        };
        match message {
            Some(Ok(Message::Text(text))) if dialect == Dialect::Socketio && !text.starts_with("42") => {
                if text.starts_with("40") {
                    socket.feed(Message::text(CONNECTED)).await?;
                }
            }
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => socket.feed(message).await?,
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Ok(()),
        }
    }
}
