//! The application behind every proxy: it sends each message back, and flushes when nothing more waits to be read.

use anyhow::Result;
use futures_util::{FutureExt, SinkExt, StreamExt};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client;

/// serves until it is dropped
pub async fn serve(listener: TcpListener) -> Result<()> {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors: others will close theirs.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        tokio::spawn(async move {
            // How a connection ends is seen, and judged, at its other end.
            drop(converse(stream).await);
        });
    }
}

async fn converse(stream: TcpStream) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let mut socket = accept_async_with_config(stream, Some(client::config())).await?;
    loop {
        let message = match socket.next().now_or_never() {
            Some(message) => message,
            None => {
                socket.flush().await?;
                socket.next().await
            }
        };
        match message {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => socket.feed(message).await?,
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Ok(()),
        }
    }
}
