//! How long a request is, as its raw head says (RFC 9112 section 6.3): a head with two readings is refused (H09).
//!
//! hyper settles such a head by itself and shows what is left of it, so the bytes are looked at on their way to it. A chunked
//! body ends the connection, so only bodies of a known length have to be skipped. Each byte is looked at once; nothing is kept
//! but the name of a header.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const CONTENT_LENGTH: &[u8] = b"content-length";
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding";
/// the longest name that matters
const NAME_BYTES_MAX: usize = TRANSFER_ENCODING.len();

/// what was seen on one connection, for whoever answers its requests
#[derive(Clone, Debug, Default)]
pub struct Framing(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    is_ambiguous: AtomicBool,
    is_over: AtomicBool,
}

impl Framing {
    /// whether the head of a request so far had two readings
    pub fn is_ambiguous(&self) -> bool {
        self.0.is_ambiguous.load(Ordering::Relaxed)
    }

    /// what follows is no HTTP
    pub fn ends(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// a connection whose requests are looked at
pub struct Watched<S> {
    io: S,
    scanner: Scanner,
    framing: Framing,
}

impl<S> Watched<S> {
    pub fn new(io: S, framing: Framing) -> Self {
        Watched { io, scanner: Scanner::default(), framing }
    }

    fn look(&mut self, bytes: &[u8]) {
        let Seen { is_ambiguous, is_over } = &*self.framing.0;
        if !is_over.load(Ordering::Relaxed) && !is_ambiguous.load(Ordering::Relaxed) && self.scanner.scan(bytes) {
            is_ambiguous.store(true, Ordering::Relaxed);
        }
    }
}

/// follows the requests in a stream of bytes
#[derive(Debug, Default)]
struct Scanner {
    place: Place,
    name: [u8; NAME_BYTES_MAX],
    /// of the line that is read, up to its colon; beyond [`NAME_BYTES_MAX`] it is none that matters
    name_len: usize,
    head: Head,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// before the first line of a head: empty lines are skipped
    #[default]
    Between,
    Name,
    Value(Header),
    Body(u64),
    /// behind a body whose end is not looked for
    Beyond,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    ContentLength,
    Other,
}

#[derive(Clone, Copy, Debug, Default)]
struct Head {
    content_length: u64,
    content_lengths: u32,
    transfer_encodings: u32,
}

impl Scanner {
    /// whether one of these bytes completed a head with two readings
    fn scan(&mut self, mut bytes: &[u8]) -> bool {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.place {
                Place::Beyond => return false,
                Place::Body(left) => {
                    let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[skipped..];
                    let left = left - skipped as u64;
                    self.place = if left == 0 { Place::Between } else { Place::Body(left) };
                    continue;
                }
                Place::Between if matches!(byte, b'\r' | b'\n') => {}
                Place::Between => {
                    (self.place, self.name_len) = (Place::Name, 0);
                    continue;
                }
                Place::Name | Place::Value(_) if byte == b'\n' => {
                    if self.place == Place::Name && self.name_len == 0 {
                        if self.head.is_ambiguous() {
                            return true;
                        }
                        self.place = std::mem::take(&mut self.head).body();
                    } else {
                        (self.place, self.name_len) = (Place::Name, 0);
                    }
                }
                Place::Name => self.read_name(byte),
                Place::Value(Header::Other) => {
                    bytes = memchr::memchr(b'\n', bytes).map_or(&[], |end| &bytes[end..]);
                    continue;
                }
                Place::Value(Header::ContentLength) => self.head.read_length(byte),
            }
            bytes = rest;
        }
        false
    }

    fn read_name(&mut self, byte: u8) {
        match byte {
            b':' => self.place = Place::Value(self.head.begin(&self.name[..self.name_len.min(NAME_BYTES_MAX)])),
            b'\r' => {}
            _ => {
                if let Some(place) = self.name.get_mut(self.name_len) {
                    *place = byte.to_ascii_lowercase();
                }
                self.name_len = self.name_len.saturating_add(1);
                if self.name_len > NAME_BYTES_MAX {
                    self.place = Place::Value(Header::Other);
                }
            }
        }
    }
}

impl Head {
    fn begin(&mut self, name: &[u8]) -> Header {
        match name {
            CONTENT_LENGTH => {
                self.content_lengths += 1;
                self.content_length = 0;
                Header::ContentLength
            }
            TRANSFER_ENCODING => {
                self.transfer_encodings += 1;
                Header::Other
            }
            _ => Header::Other,
        }
    }

    /// what is no number here is none for hyper either, which ends the connection
    fn read_length(&mut self, byte: u8) {
        if byte.is_ascii_digit() {
            self.content_length = self.content_length.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
        }
    }

    fn is_ambiguous(&self) -> bool {
        self.content_lengths + self.transfer_encodings > 1
    }

    fn body(&self) -> Place {
        match (self.transfer_encodings, self.content_length) {
            (0, 0) => Place::Between,
            (0, length) => Place::Body(length),
            _ => Place::Beyond,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let watched = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut watched.io).poll_read(cx, buf))?;
        watched.look(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
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
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ambiguous(text: &str) -> bool {
        let whole = Scanner::default().scan(text.as_bytes());
        let mut scanner = Scanner::default();
        let byte_by_byte = text.as_bytes().chunks(1).any(|byte| scanner.scan(byte));
        assert_eq!(whole, byte_by_byte, "it does not matter how the bytes arrive: {text:?}");
        whole
    }

    #[test]
    fn h09_a_head_with_two_lengths_has_two_readings() {
        let head = |lines: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        for lines in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "transfer-ENCODING:chunked\r\nX: y\r\ncontent-length:5\r\n",
            "Content-Length: 5\nTransfer-Encoding: identity\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert!(is_ambiguous(&head(lines)), "{lines:?}");
            assert!(is_ambiguous(&format!("\r\n{}", head(lines))), "{lines:?}");
            let earlier = "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
            assert!(is_ambiguous(&format!("{earlier}{}", head(lines))), "{lines:?} in the second request");
        }
    }

    #[test]
    fn a_head_with_one_length_or_none_has_one_reading() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcdePOST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 52\r\n\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n!!!",
            "GET / HTTP/1.1\r\nX-Content-Length: 5\r\nTransfer-Encodings: x\r\nContent-Length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nX: Content-Length: 5\r\nContent-Length : 5\r\nTransfer-Encoding: x\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n",
        ] {
            assert!(!is_ambiguous(text), "{text:?}");
        }
    }
}
