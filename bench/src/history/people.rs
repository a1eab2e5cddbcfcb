//! What each person does until the end of the history, by its load.

use anyhow::Result;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::time::sleep;

use super::client::{Connection, Stage};
use super::dice::Dice;
use super::plan::{Limits, Load, NODES, Person, SAY};

/// how long before and after the end of a window an aligned attacker speaks, at most
const ALIGNMENT_MS: u64 = 60;
/// of a limit's pace: who stays below it
const STEADY: f64 = 0.7;
const TRICKLE: f64 = 0.1;
const SPREAD: f64 = 2.0;

pub struct Life {
    person: Person,
    stage: Arc<Stage>,
    limits: Limits,
    dice: Dice,
    until: Instant,
    sockets: Vec<Option<Connection>>,
}

impl Life {
    pub fn new(person: Person, stage: Arc<Stage>, limits: Limits, seed: u64, until: Instant) -> Self {
        let dice = Dice::new(seed, u64::from(person.number) + (1 << 32));
        let sockets = (0..person.sockets).map(|_| None).collect();
        Life { person, stage, limits, dice, until, sockets }
    }

    pub async fn live(mut self) -> Result<()> {
        // Nobody comes in the same moment as all others.
        let arrival = self.window().mul_f64(self.dice.part());
        self.rest(arrival).await;
        while Instant::now() < self.until {
            self.act().await?;
        }
        for socket in self.sockets.into_iter().flatten() {
            socket.close().await;
        }
        Ok(())
    }

    fn window(&self) -> Duration {
        self.limits.messages.window()
    }

    /// what the messages of its whole quota are apart
    fn pace(&self) -> Duration {
        self.window() / self.limits.messages.limit
    }

    async fn act(&mut self) -> Result<()> {
        match self.person.load {
            Load::Steady => self.speaks_at_random(STEADY).await,
            Load::Trickle => self.speaks_at_random(TRICKLE).await,
            Load::Spread => self.speaks_at_random(SPREAD).await,
            Load::Bursty => self.bursts().await,
            Load::Aligned => self.strikes_at_the_end_of_a_window().await,
            Load::Churn => self.comes_and_goes().await,
            Load::Hoard => self.hoards().await,
        }
    }

    async fn speaks_at_random(&mut self, part: f64) -> Result<()> {
        self.says(1).await?;
        let gap = self.dice.gap(self.pace().div_f64(part));
        self.rest(gap).await;
        Ok(())
    }

    async fn bursts(&mut self) -> Result<()> {
        let limit = u64::from(self.limits.messages.limit);
        let messages = self.dice.between(limit / 4, limit * 3 / 2);
        self.says(messages).await?;
        let silence = self.window().mul_f64(0.3 + 1.2 * self.dice.part());
        self.rest(silence).await;
        Ok(())
    }

    async fn strikes_at_the_end_of_a_window(&mut self) -> Result<()> {
        let window_ms = self.limits.messages.window_ms;
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let into = u64::try_from(now_ms % u128::from(window_ms)).unwrap_or_default();
        let (before, after) = (self.dice.between(1, ALIGNMENT_MS), self.dice.between(1, ALIGNMENT_MS));
        let quota = self.limits.messages.limit.into();
        self.rest(Duration::from_millis((2 * window_ms - into - before) % window_ms)).await;
        if Instant::now() < self.until {
            self.says(quota).await?;
            self.rest(Duration::from_millis(before + after)).await;
            self.says(quota).await?;
        }
        Ok(())
    }

    /// twice as often as an address may
    async fn comes_and_goes(&mut self) -> Result<()> {
        self.says(1).await?;
        let pause = self.limits.connections.window() / self.limits.connections.limit / 4;
        let pause = self.dice.gap(pause);
        self.rest(pause).await;
        if let Some(socket) = self.sockets[0].take() {
            socket.close().await;
        }
        let pause = self.dice.gap(pause);
        self.rest(pause).await;
        Ok(())
    }

    async fn hoards(&mut self) -> Result<()> {
        for place in 0..self.sockets.len() {
            self.socket(place).await?;
        }
        self.says(1).await?;
        let pause = self.dice.gap(self.window());
        self.rest(pause).await;
        Ok(())
    }

    async fn says(&mut self, messages: u64) -> Result<()> {
        for _ in 0..messages {
            let place = usize::try_from(self.dice.below(self.sockets.len() as u64)).unwrap_or_default();
            let event = if messages > 1 { SAY } else { self.person.event(&mut self.dice) };
            match self.socket(place).await? {
                Some(socket) => socket.say(event).await,
                // Refused: whoever came again at once would do nothing else.
                None => {
                    let pause = self.dice.gap(self.window() / 8);
                    self.rest(pause).await;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// open, or just opened; the sockets of a person are spread over the nodes
    async fn socket(&mut self, place: usize) -> Result<Option<&mut Connection>> {
        if self.sockets[place].as_ref().is_none_or(Connection::has_ended) {
            let node = (self.person.number as usize + place) % NODES;
            self.sockets[place] = Connection::open(&self.stage, &self.person, node, &mut self.dice).await?;
        }
        Ok(self.sockets[place].as_mut())
    }

    async fn rest(&self, pause: Duration) {
        sleep(pause.min(self.until.saturating_duration_since(Instant::now()))).await;
    }
}
