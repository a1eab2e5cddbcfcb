//! The application: it sends every message back, and remembers which have reached it.

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client;

/// what a user says
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename = "chat:say")]
pub struct Said {
    pub user: u32,
    pub number: u32,
}

impl Said {
    pub fn to_message(self) -> Result<Message> {
        Ok(Message::text(serde_json::to_string(&self)?))
    }
}

#[derive(Clone, Default)]
pub struct Reached(Arc<Mutex<HashSet<Said>>>);

impl Reached {
    pub fn holds(&self, said: Said) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&said)
    }

    fn add(&self, said: Said) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(said);
    }
}

/// serves until the program ends
pub async fn start() -> Result<(SocketAddr, Reached)> {
    let (listener, reached) = (TcpListener::bind("127.0.0.1:0").await?, Reached::default());
    let address = listener.local_addr()?;
    let all = reached.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let reached = all.clone();
            tokio::spawn(async move {
                // How a connection ends is judged at its other end.
                drop(converse(stream, &reached).await);
            });
        }
    });
    Ok((address, reached))
}

async fn converse(stream: TcpStream, reached: &Reached) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut socket = accept_async_with_config(stream, Some(client::config())).await?;
    while let Some(message) = socket.next().await {
        match message {
            Ok(Message::Text(text)) => {
                reached.add(serde_json::from_str(&text).context("not what users say")?);
                socket.send(Message::Text(text)).await?;
            }
            Ok(_) => {}
            Err(Error::ConnectionClosed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
