//! One socket of one person, and what is written down of it.

use anyhow::Result;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::cluster::Gateways;
use super::dice::Dice;
use super::plan::Person;
use super::record::{Client, Log, Outcome, Watch, number_of};
use crate::client::{Door, NotOpened, Socket};
use crate::token;

/// for a write, when nobody reads any more
const WRITES_WITHIN: Duration = Duration::from_secs(5);

/// what all clients share
pub struct Stage {
    pub gateways: Gateways,
    pub log: Log,
    pub watch: Watch,
    connections: AtomicU64,
    messages: AtomicU64,
}

impl Stage {
    pub fn new(gateways: Gateways, log: Log, watch: Watch) -> Self {
        Stage { gateways, log, watch, connections: AtomicU64::new(0), messages: AtomicU64::new(0) }
    }

    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }
}

pub struct Connection {
    number: u64,
    stage: Arc<Stage>,
    writer: SplitSink<Socket, Message>,
    has_ended: Arc<AtomicBool>,
}

impl Connection {
    /// `None`: there is no socket; why is in the log
    pub async fn open(stage: &Arc<Stage>, person: &Person, node: usize, dice: &mut Dice) -> Result<Option<Self>> {
        let address = person.address(dice);
        let mut door = Door::new(stage.gateways.of(node), "/ws").forwarded_for(&address.to_string());
        if let Some(user) = &person.user {
            let token = token::signed_as(user, person.role.as_str())?;
            door = door.header("authorization", &format!("Bearer {token}"));
        }
        let number = stage.connections.fetch_add(1, Ordering::Relaxed);
        let sent = stage.watch.now();
        let opened = door.open().await;
        let outcome = match &opened {
            Ok(_) => Outcome::Admitted,
            Err(NotOpened::Refused { status, .. }) => Outcome::Refused(status.as_u16()),
            Err(NotOpened::Failed(_) | NotOpened::TooSlow | NotOpened::Unwelcome(_)) => Outcome::Failed,
        };
        stage.log.write(&Client::Connect {
            connection: number,
            person: person.number,
            user: person.user.clone(),
            role: person.role,
            address,
            node,
            load: person.load,
            sent,
            done: stage.watch.now(),
            outcome,
        });
        Ok(opened.ok().map(|socket| Connection::follow(stage, number, socket)))
    }

    fn follow(stage: &Arc<Stage>, number: u64, socket: Socket) -> Self {
        let (writer, reader) = socket.split();
        let has_ended = Arc::new(AtomicBool::new(false));
        tokio::spawn(listen(stage.clone(), number, reader, has_ended.clone()));
        Connection { number, stage: stage.clone(), writer, has_ended }
    }

    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    pub async fn say(&mut self, event: &str) {
        let number = self.stage.messages.fetch_add(1, Ordering::Relaxed);
        let at = self.stage.watch.now();
        self.stage.log.write(&Client::Send { connection: self.number, number, event: event.to_owned(), at });
        let message = Message::text(format!(r#"{{"type":"{event}","number":{number}}}"#));
        if !matches!(timeout(WRITES_WITHIN, self.writer.send(message)).await, Ok(Ok(()))) {
            self.has_ended.store(true, Ordering::Relaxed);
        }
    }

    pub async fn close(mut self) {
        self.stage.log.write(&Client::Close { connection: self.number, at: self.stage.watch.now() });
        // That the other side has gone already is in the log as its end.
        drop(timeout(WRITES_WITHIN, self.writer.send(Message::Close(None))).await);
    }
}

/// an event that was refused, as a JSON route says it
#[derive(Deserialize)]
struct Refusal {
    event: Option<String>,
    reason: String,
}

async fn listen(stage: Arc<Stage>, connection: u64, mut reader: SplitStream<Socket>, has_ended: Arc<AtomicBool>) {
    while let Some(Ok(message)) = reader.next().await {
        let at = stage.watch.now();
        let Message::Text(text) = message else { continue };
        if let Some(number) = number_of(&text) {
            stage.log.write(&Client::Echo { number, at });
        } else if let Ok(Refusal { event, reason }) = serde_json::from_str(&text) {
            stage.log.write(&Client::Refused { connection, event: event.unwrap_or_default(), reason, at });
        }
    }
    has_ended.store(true, Ordering::Relaxed);
    stage.log.write(&Client::End { connection, at: stage.watch.now() });
}
