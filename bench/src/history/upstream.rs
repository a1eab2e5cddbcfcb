//! The application behind the nodes: it writes down when a message has arrived, and sends it back.

use futures_util::{SinkExt, StreamExt};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::record::{Arrival, Log, Watch, number_of};
use crate::client;

/// serves until it is dropped
pub async fn serve(listener: TcpListener, log: Log, watch: Watch) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors: others will close theirs.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let log = log.clone();
        tokio::spawn(async move {
            // How a connection ends is seen at its other end.
            drop(converse(stream, &log, watch).await);
        });
    }
}

async fn converse(stream: TcpStream, log: &Log, watch: Watch) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let mut socket = accept_async_with_config(stream, Some(client::config())).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        let Message::Text(text) = &message else { continue };
        let at = watch.now();
        if let Some(number) = number_of(text) {
            log.write(&Arrival { number, at });
        }
        socket.send(message).await?;
    }
    Ok(())
}
