//! Just enough of Redis's protocol (RESP 2) to ask a server something by hand.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Nothing,
    Number(i64),
    Bytes(Vec<u8>),
    List(Vec<Answer>),
    Failure(String),
}

impl Answer {
    pub fn number(self) -> i64 {
        match self {
            Self::Number(number) => number,
            other => panic!("expected a number from redis: {other:?}"),
        }
    }

    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            other => panic!("expected bytes from redis: {other:?}"),
        }
    }

    pub fn text(self) -> String {
        String::from_utf8(self.bytes()).expect("a text from redis")
    }

    pub fn list(self) -> Vec<Answer> {
        match self {
            Self::List(answers) => answers,
            other => panic!("expected a list from redis: {other:?}"),
        }
    }
}

pub async fn ask(stream: &mut TcpStream, command: &[&[u8]]) -> io::Result<Answer> {
    let mut request = format!("*{}\r\n", command.len()).into_bytes();
    for argument in command {
        request.extend(format!("${}\r\n", argument.len()).bytes());
        request.extend(*argument);
        request.extend(b"\r\n");
    }
    stream.write_all(&request).await?;
    let mut received = Vec::new();
    loop {
        if let Some((answer, _)) = parse(&received) {
            return Ok(answer);
        }
        if stream.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The answer at the front and what follows it, once it is there as a whole.
fn parse(bytes: &[u8]) -> Option<(Answer, &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, rest) = (std::str::from_utf8(&bytes[1..end]).expect("a line of RESP"), &bytes[end + 2..]);
    let number = || line.parse::<i64>().expect("a number of RESP");
    match bytes[0] {
        b'+' => Some((Answer::Bytes(line.as_bytes().to_vec()), rest)),
        b'-' => Some((Answer::Failure(line.to_owned()), rest)),
        b':' => Some((Answer::Number(number()), rest)),
        b'$' | b'*' if number() < 0 => Some((Answer::Nothing, rest)),
        b'$' => {
            let length = number() as usize;
            (rest.len() >= length + 2).then(|| (Answer::Bytes(rest[..length].to_vec()), &rest[length + 2..]))
        }
        b'*' => {
            let (mut answers, mut rest) = (Vec::new(), rest);
            for _ in 0..number() {
                let (answer, left) = parse(rest)?;
                answers.push(answer);
                rest = left;
            }
            Some((Answer::List(answers), rest))
        }
        other => panic!("no RESP: {other}"),
    }
}
