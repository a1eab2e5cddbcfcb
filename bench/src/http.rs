//! HTTP/1.1 request by request over a connection that is kept open: less than a client library does, so that a load is cheap.

use anyhow::{Context, Result, bail};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// holds an ordinary answer, so that it takes one read
const BUFFER_BYTES: usize = 4096;
const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    closes: bool,
}

impl Answer {
    /// nothing while it is incomplete; one that is as long as its connection lasts, or in chunks, is an error
    fn parse(bytes: &[u8]) -> Result<Option<Answer>> {
        let Some(head_bytes) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(None) };
        let (head, body) = (std::str::from_utf8(&bytes[..head_bytes])?, &bytes[head_bytes + 4..]);
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.with_context(|| format!("no HTTP answer: {head:?}"))?;
        let fields = || head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let field =
            |name: &str| fields().find(|(named, _)| named.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        let body_bytes = match field("content-length") {
            Some(length) => length.parse().context("a length that is no number")?,
            None if matches!(status, 100..=199 | 204 | 304) => 0,
            None => bail!("an answer without a length: {head:?}"),
        };
        let closes = field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let Some(body) = body.get(..body_bytes) else { return Ok(None) };
        Ok(Some(Answer { status, body: String::from_utf8(body.to_vec())?, closes }))
    }

    /// its body, if all went well
    pub fn fine(self) -> Result<String> {
        match self.status {
            200 => Ok(self.body),
            status => bail!("answered with {status}: {}", self.body),
        }
    }
}

/// the next answer; what comes behind it is another protocol's, and lost
pub async fn read(stream: &mut TcpStream) -> Result<Answer> {
    read_into(&mut Vec::with_capacity(BUFFER_BYTES), stream).await
}

async fn read_into(buffer: &mut Vec<u8>, stream: &mut TcpStream) -> Result<Answer> {
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 || buffer.len() > ANSWER_BYTES_MAX {
            bail!("no whole answer: {:?}", String::from_utf8_lossy(buffer));
        }
        if let Some(answer) = Answer::parse(buffer)? {
            return Ok(answer);
        }
    }
}

/// opened for the first request, and anew after an answer that said it was the connection's last
pub struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn to(address: SocketAddr) -> Self {
        Connection { address, stream: None, buffer: Vec::with_capacity(BUFFER_BYTES) }
    }

    pub async fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.open().await?,
        };
        stream.write_all(request).await?;
        let answer = read_into(&mut self.buffer, &mut stream).await?;
        self.stream = (!answer.closes).then_some(stream);
        Ok(answer)
    }

    async fn open(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nconnection: Close\r\n\r\nok";
        for end in 0..answer.len() {
            assert_eq!(Answer::parse(&answer[..end]).unwrap(), None);
        }
        let whole = Answer::parse(answer).unwrap().unwrap();
        assert_eq!(whole, Answer { status: 200, body: "ok".to_owned(), closes: true });
        let switched = Answer::parse(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n\x88").unwrap();
        assert_eq!(switched, Some(Answer { status: 101, body: String::new(), closes: false }));
    }

    #[test]
    fn answers_of_unknown_length_and_other_protocols_are_errors() {
        Answer::parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap_err();
        Answer::parse(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n").unwrap_err();
        Answer::parse(b"SSH-2.0\r\n\r\n").unwrap_err();
    }

    #[tokio::test]
    async fn a_connection_is_kept_until_an_answer_says_that_it_was_the_last() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let mut greetings = ["keep-alive", "close", "keep-alive"].into_iter();
            for requests in [2, 1] {
                let (mut stream, _) = listener.accept().await.unwrap();
                for greeting in greetings.by_ref().take(requests) {
                    let mut request = [0; 3];
                    stream.read_exact(&mut request).await.unwrap();
                    let answer = format!("HTTP/1.1 200 OK\r\nconnection: {greeting}\r\ncontent-length: 0\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        };
        let client = async {
            let mut connection = Connection::to(address);
            for _ in 0..3 {
                assert_eq!(connection.ask(b"ask").await.unwrap().fine().unwrap(), "");
            }
        };
        tokio::join!(server, client);
    }
}
