//! A collector that takes every export and looks into none; it can leave, and say nothing.

use anyhow::{Context, Result, bail};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// the longest export that is taken
const EXPORT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// how long its port may be in use when it comes back
const RETURN_MAX: Duration = Duration::from_secs(5);
const RETURN_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Answers,
    /// takes all bytes and never answers
    SaysNothing,
    /// is not there: its port refuses, and connections that were open are closed
    Away,
}

pub struct Collector {
    address: SocketAddr,
    serving: Option<JoinHandle<()>>,
}

impl Collector {
    /// one that answers
    pub async fn new() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok(Collector { address, serving: Some(tokio::spawn(serve(listener, Manner::Answers))) })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// every connection ends with the manner before
    pub async fn behave(&mut self, manner: Manner) -> Result<()> {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // Ended when its listener and its connections are closed.
            serving.await.ok();
        }
        if manner != Manner::Away {
            let bound = tokio::time::timeout(RETURN_MAX, bind_again(self.address)).await;
            self.serving = Some(tokio::spawn(serve(bound.context("the collector's port is taken")?, manner)));
        }
        Ok(())
    }
}

async fn bind_again(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => sleep(RETURN_PAUSE).await,
        }
    }
}

async fn serve(listener: TcpListener, manner: Manner) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            if let Err(error) = take(stream, manner).await {
                eprintln!("the collector lost a connection: {error:#}");
            }
        });
    }
}

/// HTTP/1.1 as far as exporters speak it: heads, bodies of a told length, and an empty answer to each
async fn take(stream: TcpStream, manner: Manner) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if let Some(told) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = told.trim().parse()?;
            }
        }
        if length > EXPORT_BYTES_MAX {
            bail!("an export of {length} bytes");
        }
        stream.read_exact(&mut vec![0; length]).await?;
        if manner == Manner::Answers {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
        }
    }
}
