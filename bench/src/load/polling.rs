//! Socket.IO over long-polling: a poll is always open, each event is a post of its own, and its echo comes in the poll. A client
//! has two connections, as a browser would.

use anyhow::{Context, Result, bail};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;
use std::fmt::Write;
use tokio::try_join;

use super::closed::{Client, Length, measure};
use super::plan::Plan;
use super::user::{OPENED_AT_ONCE, User};
use crate::dialect::{Dialect, MESSAGE_BYTES};
use crate::http::Connection;

const PATH: &str = "/socket.io/?EIO=4&transport=polling";
/// between the packets of a body
const SEPARATOR: char = '\u{1e}';
const PING: &str = "2";
const PONG: &str = "3";
const NOOP: &str = "6";

pub async fn run(plan: &Plan, clients: usize, millis: u64) -> Result<()> {
    let opening = (0..clients).map(|number| async move { Poller::open(plan, &User::new(plan, number)?).await });
    let pollers = stream::iter(opening).buffer_unordered(OPENED_AT_ONCE).try_collect().await?;
    measure(pollers, 1, Length::Millis(millis)).await
}

/// an open session
struct Poller {
    polls: Polls,
    posts: Posts,
    /// the post of the message that is measured
    event: Vec<u8>,
}

struct Polls {
    connection: Connection,
    get: Vec<u8>,
}

struct Posts {
    connection: Connection,
    head: String,
}

/// what one poll brought
#[derive(Debug, Default, PartialEq, Eq)]
struct Fetched<'a> {
    packet: Option<&'a str>,
    is_pinged: bool,
}

impl Poller {
    /// connected, and one message back
    async fn open(plan: &Plan, user: &User) -> Result<Self> {
        let fields = fields(user)?;
        let mut connection = Connection::to(plan.address);
        let open = connection.ask(format!("GET {PATH} HTTP/1.1\r\n{fields}\r\n").as_bytes()).await?.fine()?;
        let sid = session_id(&open)?;
        let get = format!("GET {PATH}&sid={sid} HTTP/1.1\r\n{fields}\r\n").into_bytes();
        let polls = Polls { connection, get };
        let head = format!("POST {PATH}&sid={sid} HTTP/1.1\r\n{fields}content-type: text/plain;charset=UTF-8\r\n");
        let posts = Posts { connection: Connection::to(plan.address), head };
        let event = posts.request(Dialect::Socketio.message().to_text()?);
        let mut poller = Poller { polls, posts, event };
        let connect = poller.posts.request(&format!(r#"40{{"token":"{}"}}"#, user.token()));
        poller.says(&connect, "40{").await.context("no CONNECT")?;
        poller.converse().await.context("no first echo")?;
        Ok(poller)
    }

    /// posts it while a poll is open, and polls until a packet with this beginning has come; its length
    async fn says(&mut self, post: &[u8], beginning: &str) -> Result<usize> {
        let Poller { polls, posts, .. } = self;
        let (told, ()) = try_join!(polls.until(beginning), posts.send(post))?;
        let (packet_bytes, is_pinged) = told;
        if is_pinged {
            let pong = posts.request(PONG);
            posts.send(&pong).await?;
        }
        Ok(packet_bytes)
    }
}

impl Client for Poller {
    async fn converse(&mut self) -> Result<()> {
        let event = std::mem::take(&mut self.event);
        let echo_bytes = self.says(&event, "42").await?;
        self.event = event;
        // An answer of another length is a refusal.
        if echo_bytes != MESSAGE_BYTES {
            bail!("instead of an echo came an event of {echo_bytes} bytes");
        }
        Ok(())
    }
}

impl Polls {
    async fn until(&mut self, beginning: &str) -> Result<(usize, bool)> {
        let mut was_pinged = false;
        loop {
            let body = self.connection.ask(&self.get).await?.fine().context("a poll")?;
            let fetched = Fetched::read(&body, beginning)?;
            was_pinged |= fetched.is_pinged;
            if let Some(packet) = fetched.packet {
                return Ok((packet.len(), was_pinged));
            }
        }
    }
}

impl Posts {
    fn request(&self, packet: &str) -> Vec<u8> {
        format!("{}content-length: {}\r\n\r\n{packet}", self.head, packet.len()).into_bytes()
    }

    async fn send(&mut self, request: &[u8]) -> Result<()> {
        match self.connection.ask(request).await?.fine().context("a post")?.as_str() {
            "ok" => Ok(()),
            other => bail!("a post was answered with {other:?}"),
        }
    }
}

impl<'a> Fetched<'a> {
    /// whatever else is said is an error
    fn read(body: &'a str, beginning: &str) -> Result<Self> {
        let mut fetched = Fetched::default();
        for packet in body.split(SEPARATOR) {
            match packet {
                PING => fetched.is_pinged = true,
                NOOP => {}
                packet if packet.starts_with(beginning) && fetched.packet.is_none() => fetched.packet = Some(packet),
                other => bail!("instead of one packet {beginning}… came {other:?}"),
            }
        }
        Ok(fetched)
    }
}

/// the fields of every request: what browsers send, whose token goes into CONNECT
fn fields(user: &User) -> Result<String> {
    let door = user.door();
    let mut fields = format!("host: {}\r\n", door.address);
    for (name, value) in door.headers.iter().filter(|(name, _)| name != "authorization") {
        write!(fields, "{name}: {}\r\n", value.to_str()?)?;
    }
    Ok(fields)
}

fn session_id(open: &str) -> Result<String> {
    let said: Option<Value> = open.strip_prefix('0').and_then(|json| serde_json::from_str(json).ok());
    let sid = said.as_ref().and_then(|said| said["sid"].as_str());
    Ok(sid.with_context(|| format!("no session was opened: {open:?}"))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_brings_one_packet_and_the_heartbeat() {
        let fetched = |packet, is_pinged| Fetched { packet, is_pinged };
        assert_eq!(Fetched::read("42[\"a\"]", "42").unwrap(), fetched(Some("42[\"a\"]"), false));
        assert_eq!(Fetched::read("2\u{1e}42[\"a\"]", "42").unwrap(), fetched(Some("42[\"a\"]"), true));
        assert_eq!(Fetched::read("6", "42").unwrap(), fetched(None, false));
        for odd in ["1", "44{}", "42[\"a\"]\u{1e}42[\"b\"]", ""] {
            Fetched::read(odd, "42").unwrap_err();
        }
    }

    #[test]
    fn a_session_id_is_read_from_the_open_packet_only() {
        assert_eq!(session_id(r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":[]}"#).unwrap(), "lv_VI97HAXpY6yYWAAAC");
        for odd in [r#"{"code":3}"#, r#"0{"upgrades":[]}"#, "0", ""] {
            session_id(odd).unwrap_err();
        }
    }
}
