//! The clients of a load: each a user with a token and an address of its own.

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use futures_util::stream::{self, TryStreamExt};
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::plan::Plan;
use crate::client::{Door, Socket, ask};
use crate::token;

/// connections that are opened at once
pub const OPENED_AT_ONCE: usize = 16;
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

pub struct User {
    door: Door,
    token: String,
}

impl User {
    pub fn new(plan: &Plan, number: usize) -> Result<Self> {
        let token = token::signed(&format!("user-{number}"))?;
        let address = format!("198.18.{}.{}", number / 250 % 250, number % 250 + 1);
        let door = Door::new(plan.address, plan.dialect.path())
            .forwarded_for(&address)
            .header("authorization", &format!("Bearer {token}"));
        Ok(User { door, token })
    }

    /// who comes from a page that the policy does not allow
    pub fn astray(mut self) -> Self {
        self.door = self.door.header("origin", "https://elsewhere.example.net");
        self
    }

    pub fn door(&self) -> &Door {
        &self.door
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    /// connected, introduced, and one message back
    pub async fn connect(&self, plan: &Plan) -> Result<Socket> {
        let mut socket = self.door.open().await.context("a connection")?;
        plan.dialect.introduce(&mut socket, Some(&self.token)).await?;
        let answer =
            timeout(ANSWERS_WITHIN, ask(&mut socket, plan.dialect.message())).await.context("no first echo")??;
        match answer {
            Some(answer) if answer == plan.dialect.message() => Ok(socket),
            other => bail!("the first message came back as {other:?}"),
        }
    }
}

pub async fn connect_all(plan: &Plan, count: usize) -> Result<Vec<Socket>> {
    let opening = (0..count).map(|number| async move { User::new(plan, number)?.connect(plan).await });
    stream::iter(opening).buffer_unordered(OPENED_AT_ONCE).try_collect().await
}

/// the next echo; whatever else is said is an error
pub async fn echo(plan: &Plan, socket: &mut Socket) -> Result<()> {
    loop {
        match socket.next().await {
            Some(Ok(message)) if plan.dialect.is_event(&message) => return same_length(plan, &message),
            // Pings, and the heartbeat of Engine.IO.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Text(text))) if text.as_str() == "2" => {}
            Some(Ok(other)) => bail!("instead of an echo came {other:?}"),
            Some(Err(error)) => return Err(error.into()),
            None => bail!("the connection ended before the echo"),
        }
    }
}

/// an answer of another length is a refusal
fn same_length(plan: &Plan, message: &Message) -> Result<()> {
    if message.len() == plan.dialect.message().len() {
        return Ok(());
    }
    bail!("instead of an echo came {message:?}")
}
