//! Users who stay, say something every now and then, and come back when they are told that the service restarts; and visitors who
//! come and go all the time. Each has an address of its own.

use anyhow::Result;
use futures_util::{SinkExt, StreamExt};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use super::upstream::Said;
use crate::client::{self, Door, NotOpened, Socket};
use crate::numbers::Numbers;
use crate::token;

/// how long a user without a better idea waits after a handshake that failed
const COMES_BACK_AFTER: Duration = Duration::from_secs(1);
/// of visitors at once
const VISITORS_MAX: usize = 200;
/// addresses on loopback from here on, one each
const FIRST_ADDRESS: u32 = u32::from_be_bytes([127, 10, 0, 1]);

#[derive(Clone)]
pub struct Crowd {
    pub address: SocketAddr,
    pub ledger: Arc<Ledger>,
    /// between two messages of a user, on average
    pub pause: Duration,
    pub over: CancellationToken,
}

/// how a conversation ended that nobody wanted to end
enum End {
    Closed(Option<CloseFrame>),
    Broke(String),
}

impl Crowd {
    fn door(&self, number: u32) -> Result<Door> {
        let token = token::signed(&format!("user-{number}"))?;
        let door = Door::new(self.address, "/ws").header("authorization", &format!("Bearer {token}"));
        Ok(door.from(Ipv4Addr::from(FIRST_ADDRESS + number).into()))
    }

    /// stays until everything is over
    pub async fn user(self, number: u32) -> Result<()> {
        let door = self.door(number)?;
        let mut numbers = Numbers::new(u64::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (mut said, mut returns) = (0, false);
        while !self.over.is_cancelled() {
            match door.open().await {
                Ok(socket) => {
                    self.ledger.opened(returns);
                    self.converse(socket, number, &mut said, &mut numbers).await?;
                    returns = true;
                }
                Err(error) => sleep(self.turned_away(&error)).await,
            }
        }
        Ok(())
    }

    async fn converse(&self, mut socket: Socket, user: u32, said: &mut u32, numbers: &mut Numbers) -> Result<()> {
        let mut waiting: Option<(Said, Instant)> = None;
        let mut next = self.next(numbers);
        let end = loop {
            tokio::select! {
                () = self.over.cancelled() => {
                    client::close(socket).await.ok();
                    return Ok(());
                }
                () = sleep_until(next.into()), if waiting.is_none() => {
                    *said += 1;
                    let saying = Said { user, number: *said };
                    waiting = Some((saying, Instant::now()));
                    self.ledger.sent();
                    // A socket that is gone is heard of by reading.
                    socket.send(saying.to_message()?).await.ok();
                }
                heard = socket.next() => match heard {
                    Some(Ok(Message::Text(_))) => {
                        self.ledger.echoed();
                        (waiting, next) = (None, self.next(numbers));
                    }
                    Some(Ok(Message::Close(frame))) => break End::Closed(frame),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break End::Broke(error.to_string()),
                    None => break End::Broke("no close frame".to_owned()),
                },
            }
        };
        let unanswered = waiting.map(|(said, since)| (said, since.elapsed()));
        match &end {
            End::Closed(Some(frame)) if frame.code == CloseCode::Restart => self.ledger.closed(unanswered),
            End::Closed(frame) => self.ledger.broke(format!("closed by {frame:?}"), unanswered),
            End::Broke(why) => self.ledger.broke(why.clone(), unanswered),
        }
        if let End::Closed(_) = end {
            // Reads on until the node has seen the answer to its close.
            while let Some(Ok(_)) = socket.next().await {}
        }
        Ok(())
    }

    fn next(&self, numbers: &mut Numbers) -> Instant {
        let pause = u64::try_from(self.pause.as_millis()).unwrap_or(u64::MAX);
        Instant::now() + Duration::from_millis(pause / 2 + numbers.next() % pause.max(1))
    }

    /// so many a second come, say something and leave
    pub async fn visitors(self, first: u32, each_second: u32) -> Result<()> {
        let (mut there, mut number) = (JoinSet::new(), first);
        let mut ticks = interval(Duration::from_secs(1) / each_second);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.over.cancelled() => break,
                _ = ticks.tick() => {}
            }
            while there.try_join_next().is_some() {}
            if there.len() < VISITORS_MAX {
                there.spawn(self.clone().visit(self.door(number)?, number));
                number += 1;
            }
        }
        there.join_all().await.into_iter().collect()
    }

    async fn visit(self, door: Door, user: u32) -> Result<()> {
        match door.open().await {
            Ok(mut socket) => {
                self.ledger.opened(false);
                let saying = Said { user, number: 0 };
                // What becomes of it is the users' matter: a visitor counts for its handshake.
                client::ask(&mut socket, saying.to_message()?).await.ok();
                client::close(socket).await.ok();
            }
            Err(error) => {
                self.turned_away(&error);
            }
        }
        Ok(())
    }

    /// how long to wait before the next try
    fn turned_away(&self, error: &NotOpened) -> Duration {
        let (limited, wait) = match error {
            NotOpened::Refused { status, retry_after } => (*status == StatusCode::TOO_MANY_REQUESTS, *retry_after),
            NotOpened::Failed(_) | NotOpened::TooSlow | NotOpened::Unwelcome(_) => (false, None),
        };
        self.ledger.not_opened(error.to_string(), limited);
        wait.unwrap_or(COMES_BACK_AFTER)
    }
}
