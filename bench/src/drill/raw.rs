//! Upgrade requests and frames byte by byte, for what no client library lets one say.

use anyhow::{Context, Result, bail};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::Door;

const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// a whole upgrade request with these origins instead of the door's own
pub fn request(door: &Door, origins: &[Vec<u8>]) -> Vec<u8> {
    let mut head = format!("GET {} HTTP/1.1\r\n", door.path).into_bytes();
    let mut line = |name: &str, value: &[u8]| {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    };
    if !door.headers.iter().any(|(name, _)| name == "host") {
        line("host", door.address.to_string().as_bytes());
    }
    for (name, value) in door.headers.iter().filter(|(name, _)| name != "origin") {
        line(name.as_str(), value.as_bytes());
    }
    for origin in origins {
        line("origin", origin);
    }
    line("connection", b"Upgrade");
    line("upgrade", b"websocket");
    line("sec-websocket-version", b"13");
    line("sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==");
    head.extend_from_slice(b"\r\n");
    head
}

/// of the second byte of a frame
pub const MASKED: u8 = 0x80;
const SHORT_BYTES_MAX: usize = 125;

/// a frame under a mask of zeros, which changes nothing
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length) if payload.len() <= SHORT_BYTES_MAX => frame.push(MASKED | length as u8),
        Ok(length) => {
            frame.push(MASKED | 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(MASKED | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// the status that a request is answered with
pub async fn status(door: &Door, request: &[u8]) -> Result<u16> {
    timeout(ANSWERS_WITHIN, ask(door, request)).await.context("no answer in time")?
}

async fn ask(door: &Door, request: &[u8]) -> Result<u16> {
    let mut stream = TcpStream::connect(door.address).await?;
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut answer).await? == 0 || answer.len() > ANSWER_BYTES_MAX {
            break;
        }
    }
    let line = String::from_utf8_lossy(&answer);
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let Some(status) = status else { bail!("no HTTP answer: {:?}", line.chars().take(40).collect::<String>()) };
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_shortest_header_for_their_length() {
        let header = |length: usize| masked(0x82, &vec![7; length])[1..].to_vec();
        assert_eq!(header(125)[..6], [0xfd, 0, 0, 0, 0, 7]);
        assert_eq!(header(126)[..7], [0xfe, 0, 126, 0, 0, 0, 0]);
        assert_eq!(header(65_536)[..9], [0xff, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}
