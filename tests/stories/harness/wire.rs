//! A client that speaks bytes: for handshakes and frames that no library would send.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::http::{Head, read_head};
use super::patience::within;

/// What a WebSocket endpoint may put into a close frame (RFC 6455 7.4 and the registry).
pub fn legal_close_codes(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

pub struct Wire {
    pub stream: TcpStream,
    pub buffer: Vec<u8>,
}

pub struct Response {
    pub head: Head,
    pub body: Vec<u8>,
}

impl Wire {
    pub async fn to(address: SocketAddr) -> Self {
        let stream = within("a TCP connection", TcpStream::connect(address))
            .await
            .unwrap_or_else(|error| panic!("connecting to {address}: {error}"));
        Self { stream, buffer: Vec::new() }
    }

    /// A client whose kernel buffers next to nothing, so that not reading is felt at once.
    pub async fn narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = within("a TCP connection", socket.connect(address)).await.unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub async fn writes(&mut self, bytes: impl AsRef<[u8]>) {
        within("writing", self.stream.write_all(bytes.as_ref()))
            .await
            .unwrap_or_else(|error| panic!("writing: {error}"));
    }

    pub async fn sends(&mut self, frame: Frame) {
        self.writes(frame.bytes()).await;
    }

    /// A whole upgrade from an address of the caller's own; panics unless it is admitted.
    pub async fn upgraded(mut self, path: &str, address: &str, host: SocketAddr) -> Self {
        self.writes(format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: {}\r\nX-Forwarded-For: {address}\r\n\r\n",
            super::HOME
        ))
        .await;
        let head = self.head().await.expect("an answer to the upgrade");
        assert_eq!(head.status(), 101, "the upgrade: {head:?}");
        self
    }

    pub async fn head(&mut self) -> Option<Head> {
        within("an HTTP head", read_head(&mut self.stream, &mut self.buffer)).await.unwrap_or(None)
    }

    pub async fn response(&mut self) -> Response {
        let head = self.head().await.expect("an HTTP response, not a closed connection");
        let length = head.first("content-length").and_then(|value| value.parse::<usize>().ok());
        let body = match length {
            _ if head.status() == 101 => Vec::new(),
            Some(length) => within("an HTTP body", self.exactly(length)).await.expect("the whole body"),
            None if head.first("transfer-encoding").is_some() => {
                within("a chunked body", self.chunks()).await.expect("the whole body")
            }
            None => self.rest().await,
        };
        Response { head, body }
    }

    /// Everything until the peer closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        within("the end of the connection", async {
            while self.stream.read_buf(&mut self.buffer).await.is_ok_and(|read| read > 0) {}
        })
        .await;
        std::mem::take(&mut self.buffer)
    }

    /// The next frame of the server, `None` when the connection ended.
    pub async fn frame(&mut self) -> Option<Frame> {
        let head = self.exactly(2).await?;
        let length = match head[1] & 0x7f {
            126 => u16::from_be_bytes(self.exactly(2).await?.try_into().unwrap()).into(),
            127 => u64::from_be_bytes(self.exactly(8).await?.try_into().unwrap()) as usize,
            short => usize::from(short),
        };
        assert_eq!(head[1] & 0x80, 0, "a server's frames are not masked");
        let payload = self.exactly(length).await?;
        Some(Frame { first: head[0], masked: false, length: None, payload })
    }

    /// Reads until the server's close frame and then until it hangs up; anything else in between is passed over.
    pub async fn closes(&mut self) -> (u16, String) {
        let closed = within("a close frame", async {
            loop {
                let frame = self.frame().await.expect("a close frame, not just the end of the connection");
                if frame.opcode() == Frame::CLOSE {
                    return frame;
                }
            }
        })
        .await;
        assert!(closed.payload.len() >= 2, "the server's close says a code");
        let code = u16::from_be_bytes([closed.payload[0], closed.payload[1]]);
        (code, String::from_utf8(closed.payload[2..].to_vec()).expect("a close reason in UTF-8"))
    }

    pub async fn closes_with(&mut self, code: u16) -> String {
        let (found, reason) = self.closes().await;
        assert_eq!(found, code, "close reason {reason:?}");
        reason
    }

    async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            match within("bytes of the server", self.stream.read_buf(&mut self.buffer)).await {
                Ok(read) if read > 0 => {}
                _ => return None,
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.extend(self.exactly(1).await?);
            }
            let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).expect("a chunk size");
            body.extend(self.exactly(size).await?);
            self.exactly(2).await?;
            if size == 0 {
                return Some(body);
            }
        }
    }
}

/// A WebSocket frame, well formed or not.
#[derive(Clone, Debug)]
pub struct Frame {
    first: u8,
    masked: bool,
    length: Option<u64>,
    pub payload: Vec<u8>,
}

impl Frame {
    pub const CONTINUATION: u8 = 0x0;
    pub const TEXT: u8 = 0x1;
    pub const BINARY: u8 = 0x2;
    pub const CLOSE: u8 = 0x8;
    pub const PING: u8 = 0x9;

    pub fn of(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Self { first: 0x80 | opcode, masked: true, length: None, payload: payload.as_ref().to_vec() }
    }

    pub fn text(payload: impl AsRef<[u8]>) -> Self {
        Self::of(Self::TEXT, payload)
    }

    pub fn closing(code: u16, reason: impl AsRef<[u8]>) -> Self {
        Self::of(Self::CLOSE, [&code.to_be_bytes()[..], reason.as_ref()].concat())
    }

    pub fn unfinished(mut self) -> Self {
        self.first &= 0x7f;
        self
    }

    pub fn unmasked(mut self) -> Self {
        self.masked = false;
        self
    }

    /// Sets reserved bits: 0x40, 0x20, 0x10.
    pub fn reserving(mut self, bits: u8) -> Self {
        self.first |= bits;
        self
    }

    /// Says another length than it has.
    pub fn declaring(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    pub fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    pub fn bytes(&self) -> Vec<u8> {
        const MASK: [u8; 4] = [0x1b, 0x2c, 0x3d, 0x4e];
        let mask_bit = if self.masked { 0x80 } else { 0 };
        let mut bytes = vec![self.first];
        match self.length.unwrap_or(self.payload.len() as u64) {
            length @ 0..=125 => bytes.push(mask_bit | length as u8),
            length @ 126..=0xffff => {
                bytes.push(mask_bit | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(mask_bit | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        if self.masked {
            bytes.extend(MASK);
            bytes.extend(self.payload.iter().enumerate().map(|(index, byte)| byte ^ MASK[index % 4]));
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }
}
