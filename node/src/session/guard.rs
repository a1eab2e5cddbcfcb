//! The guard below tungstenite: lets the bytes of sound frames through and stops at the first header that is not.

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use picket_shared::clock::{Clock, Timestamp};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::protocol::frames::{FrameBounds, FrameScanner, Violation};

const DISCARD_BUFFER_BYTES: usize = 4096;

/// a connection whose incoming frames are judged by their headers
pub struct Guarded {
    io: TokioIo<Upgraded>,
    judge: Option<Judge>,
}

struct Judge {
    scanner: FrameScanner,
    clock: Arc<dyn Clock>,
    /// found behind bytes that were sound and had to be delivered first
    violation: Option<Violation>,
}

impl Guarded {
    /// a client's side
    pub fn client(io: Upgraded, bounds: FrameBounds, clock: Arc<dyn Clock>) -> Self {
        let judge = Judge { scanner: FrameScanner::new(bounds), clock, violation: None };
        Guarded { io: TokioIo::new(io), judge: Some(judge) }
    }

    /// an upstream's side, which tungstenite judges alone
    pub fn upstream(io: Upgraded) -> Self {
        Guarded { io: TokioIo::new(io), judge: None }
    }

    /// reads and forgets what a peer still sends, up to a bound, until it has closed
    pub async fn discard(&mut self, bytes_max: usize) -> io::Result<()> {
        // On the heap: on the stack it would be part of every session's future.
        let mut buffer = vec![0; DISCARD_BUFFER_BYTES];
        let mut discarded = 0;
        while discarded <= bytes_max {
            match self.io.read(&mut buffer).await? {
                0 => break,
                read => discarded += read,
            }
        }
        Ok(())
    }

    /// since when a message of the client is under way
    pub fn unfinished_since(&self) -> Option<Timestamp> {
        self.judge.as_ref().and_then(|judge| judge.scanner.unfinished_since())
    }
}

/// the violation that an error of this guard stands for
pub fn violation_of(error: &io::Error) -> Option<Violation> {
    error.get_ref()?.downcast_ref::<Violation>().copied()
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Guarded { io, judge } = self.get_mut();
        let Some(judge) = judge else {
            return Pin::new(io).poll_read(cx, buf);
        };
        if let Some(violation) = judge.violation {
            return Poll::Ready(Err(io::Error::other(violation)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(io).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        if !read.is_empty()
            && let Err((sound, violation)) = judge.scanner.scan(read, judge.clock.now())
        {
            judge.violation = Some(violation);
            buf.set_filled(before + sound);
            if sound == 0 {
                return Poll::Ready(Err(io::Error::other(violation)));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
