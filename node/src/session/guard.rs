//! The guard below tungstenite: lets the bytes of sound frames through and stops at the first header that is not.

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use picket_shared::clock::{Clock, Timestamp};
use picket_shared::state::LivePolicy;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::protocol::frames::{FrameBounds, FrameScanner, Violation};

const DISCARD_BUFFER_BYTES: usize = 16 * 1024;
/// between two buffers of what is thrown away: a peer that goes on sending must not cost others their turn
const DISCARD_PAUSE: Duration = Duration::from_millis(5);

/// a connection whose incoming frames are judged by their headers
pub struct Guarded {
    io: TokioIo<Upgraded>,
    judge: Option<Judge>,
    written: Written,
}

/// bytes that a peer has taken, seen from outside while a write is under way
#[derive(Clone, Debug, Default)]
pub struct Written(Arc<AtomicU64>);

impl Written {
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

struct Judge {
    scanner: FrameScanner,
    clock: Arc<dyn Clock>,
    policy: LivePolicy,
    /// found behind bytes that were sound and had to be delivered first
    violation: Option<Violation>,
}

impl Guarded {
    /// a client's side
    pub fn client(io: Upgraded, bounds: FrameBounds, clock: Arc<dyn Clock>, policy: LivePolicy) -> Self {
        let judge = Judge { scanner: FrameScanner::new(bounds), clock, policy, violation: None };
        Guarded { io: TokioIo::new(io), judge: Some(judge), written: Written::default() }
    }

    /// an upstream's side, which tungstenite judges alone
    pub fn upstream(io: Upgraded) -> Self {
        Guarded { io: TokioIo::new(io), judge: None, written: Written::default() }
    }

    pub fn written(&self) -> Written {
        self.written.clone()
    }

    /// the code of the client's close frame
    pub fn close_code(&self) -> Option<u16> {
        self.judge.as_ref().and_then(|judge| judge.scanner.close_code())
    }

    /// reads and forgets what a peer still sends, up to a bound, until it has closed
    pub async fn discard(mut self, bytes_max: usize) -> io::Result<()> {
        // On the heap: on the stack it would be part of every session's future.
        let mut buffer = vec![0; DISCARD_BUFFER_BYTES];
        let mut discarded = 0;
        while discarded <= bytes_max {
            match self.io.read(&mut buffer).await? {
                0 => break,
                read if read < buffer.len() => discarded += read,
                read => {
                    discarded += read;
                    tokio::time::sleep(DISCARD_PAUSE).await;
                }
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
        let Guarded { io, judge, .. } = self.get_mut();
        let Some(judge) = judge else {
            return Pin::new(io).poll_read(cx, buf);
        };
        if let Some(violation) = judge.violation {
            return Poll::Ready(Err(io::Error::other(violation)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(io).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        judge.scanner.limit_messages(judge.policy.current().validation.payload_bytes_max as u64);
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
        let Guarded { io, written, .. } = self.get_mut();
        let taken = ready!(Pin::new(io).poll_write(cx, buf))?;
        written.add(taken);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Guarded { io, written, .. } = self.get_mut();
        let taken = ready!(Pin::new(io).poll_write_vectored(cx, bufs))?;
        written.add(taken);
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
