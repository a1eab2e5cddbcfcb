//! Just enough HTTP/1.1 by hand: a head as it stood on the wire, so that nothing is normalised before a story looks at it.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const HEAD_BYTES_MAX: usize = 256 * 1024;

#[derive(Clone, Debug)]
pub struct Head {
    pub start_line: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }

    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub fn is_upgrade(&self) -> bool {
        self.first("upgrade").is_some_and(|value| value.to_ascii_lowercase().contains("websocket"))
    }

    pub fn status(&self) -> u16 {
        self.start_line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("no status line: {:?}", self.start_line))
    }
}

/// The next head of the stream; what follows it stays in `buffer`. `None` when the peer closed before one was complete.
pub async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Head>> {
    loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            let head = parse(&buffer[..end]);
            buffer.drain(..end + 4);
            return Ok(Some(head));
        }
        assert!(buffer.len() < HEAD_BYTES_MAX, "a head without an end");
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn parse(bytes: &[u8]) -> Head {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let start_line = lines.next().unwrap_or_default().to_owned();
    let headers = lines
        .map(|line| {
            line.split_once(':').map_or((line.to_owned(), String::new()), |(name, value)| {
                (name.trim().to_owned(), value.trim().to_owned())
            })
        })
        .collect();
    Head { start_line, headers }
}
