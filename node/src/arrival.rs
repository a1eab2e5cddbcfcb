//! What a socket goes through before HTTP: the PROXY header of a trusted load balancer says who is there, and TLS keeps the rest private.

use bytes::{Buf, Bytes, BytesMut};
use ipnet::IpNet;
use picket_shared::address;
use picket_shared::reason::Reason;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::ProxyProtocol;
use crate::proxy_protocol::{self, HEADER_BYTES_MAX, Named, Opening};
use crate::refusal::Denial;

/// the gateway's threshold
pub struct Threshold {
    pub proxy_protocol: ProxyProtocol,
    pub trusted_proxies: Vec<IpNet>,
    pub tls: Option<TlsAcceptor>,
}

/// a socket on which HTTP comes next
pub enum Arrived {
    Plain(Doorstep),
    Encrypted(Box<TlsStream<Doorstep>>),
}

/// who is at the other end of a socket
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// the TCP peer, or whom a trusted PROXY header names
    pub address: SocketAddr,
    pub is_encrypted: bool,
}

/// why a socket is closed before HTTP
#[derive(Debug)]
pub enum Unwelcome {
    /// nobody's offence: a load balancer's own health check, or a peer that left
    Nobody,
    Denied(SocketAddr, Denial),
    /// no TLS came about, for which there are honest reasons
    Unencrypted(SocketAddr, io::Error),
}

impl Threshold {
    /// the caller bounds how long this may take, and says who is worth a TLS handshake
    pub async fn receive(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        is_worth_tls: impl FnOnce(IpAddr) -> Result<(), Denial>,
    ) -> Result<(Arrived, Peer), Unwelcome> {
        let (doorstep, address) = self.meet(stream, peer).await?;
        let Some(tls) = &self.tls else {
            return Ok((Arrived::Plain(doorstep), Peer { address, is_encrypted: false }));
        };
        is_worth_tls(address::canonical(address.ip())).map_err(|denial| Unwelcome::Denied(address, denial))?;
        match tls.accept(doorstep).await {
            Ok(stream) => Ok((Arrived::Encrypted(Box::new(stream)), Peer { address, is_encrypted: true })),
            Err(error) => Err(Unwelcome::Unencrypted(address, error)),
        }
    }

    /// whom the socket speaks for
    async fn meet(&self, stream: TcpStream, peer: SocketAddr) -> Result<(Doorstep, SocketAddr), Unwelcome> {
        let is_trusted = address::contains_any(&self.trusted_proxies, peer.ip());
        match (self.proxy_protocol, is_trusted) {
            (ProxyProtocol::Off, _) | (ProxyProtocol::Optional, false) => {
                Ok((Doorstep { ahead: Bytes::new(), stream }, peer))
            }
            (ProxyProtocol::Required, false) => {
                Err(denied(peer, "not by way of a trusted proxy, while node.proxyProtocol is required"))
            }
            (ProxyProtocol::Optional | ProxyProtocol::Required, true) => self.introduced(stream, peer).await,
        }
    }

    async fn introduced(&self, mut stream: TcpStream, peer: SocketAddr) -> Result<(Doorstep, SocketAddr), Unwelcome> {
        let mut read = BytesMut::with_capacity(HEADER_BYTES_MAX);
        let opening = loop {
            match proxy_protocol::read(&read) {
                Ok(Opening::Incomplete) => {}
                Ok(opening) => break opening,
                Err(malformed) => return Err(denied(peer, malformed.to_string())),
            }
            match stream.read_buf(&mut read).await {
                Ok(0) | Err(_) => return Err(Unwelcome::Nobody),
                Ok(_) => {}
            }
        };
        let address = match opening {
            Opening::Header { bytes, from: Named::Client(client) } => {
                read.advance(bytes);
                client
            }
            Opening::Header { from: Named::Nobody, .. } => return Err(Unwelcome::Nobody),
            Opening::Absent | Opening::Incomplete if self.proxy_protocol == ProxyProtocol::Optional => peer,
            Opening::Absent | Opening::Incomplete => {
                return Err(denied(peer, "no PROXY header, while node.proxyProtocol is required"));
            }
        };
        Ok((Doorstep { ahead: read.freeze(), stream }, address))
    }
}

fn denied(peer: SocketAddr, detail: impl Into<String>) -> Unwelcome {
    Unwelcome::Denied(peer, Denial::from(Reason::ProtocolError).because(detail))
}

/// a socket, and what was read from it beyond its PROXY header
pub struct Doorstep {
    ahead: Bytes,
    stream: TcpStream,
}

impl AsyncRead for Doorstep {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Doorstep { ahead, stream } = self.get_mut();
        if ahead.is_empty() {
            return Pin::new(stream).poll_read(cx, buf);
        }
        let taken = ahead.split_to(ahead.len().min(buf.remaining()));
        buf.put_slice(&taken);
        if ahead.is_empty() {
            // Gives the buffer back: a session lives long.
            *ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Doorstep {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
