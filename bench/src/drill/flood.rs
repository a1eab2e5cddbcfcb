//! Events beyond every limit, from many connections, as fast as they go.

use anyhow::Result;
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_tungstenite::tungstenite::Message;

use super::aim::{ATTACKERS, Target, Visitor};
use super::tally::Tally;
use super::{Attack, Common, Findings};
use crate::client::{NotOpened, Socket};

pub const EXAMPLES: &str = "\
Examples:
  picket-bench drill flood --practice
  picket-bench drill flood --target ws://127.0.0.1:8080/ws --jwt-secret \"$SECRET\" --forwarded-for
  picket-bench drill flood --target ws://127.0.0.1:8080 --protocol socketio --connections 200 --seconds 30

Passes when the flood was refused, nobody well-behaved was disconnected or refused, and their p99 stayed within --p99-ratio.
Exit codes: 0 passed, 1 failed, 2 no verdict.";

/// events between two flushes
const AT_ONCE: usize = 16;
/// What an attacker has under way at most, like over a distance. Else the kernel takes megabytes from it before the first is
/// refused, and throws them away with the connection, on the processor that the well-behaved are waiting for.
const UNDER_WAY_BYTES: u32 = 64 * 1024;
/// An attacker that was cut off comes back after this at the earliest, and after twice as long at the latest: by chance, or all
/// that were cut off together would come back as one.
const COMES_BACK_AFTER: Duration = Duration::from_millis(75);

#[derive(Debug, Args)]
pub struct FloodArgs {
    #[command(flatten)]
    pub common: Common,
    /// How much worse the p99 of the well-behaved may become
    #[arg(long, default_value_t = 2.0)]
    pub p99_ratio: f64,
}

pub async fn attack(attack: &Attack<'_>) -> Result<Findings> {
    let start = Instant::now();
    let mut attackers = JoinSet::new();
    for number in 0..attack.connections {
        let visitor = attack.target.visitor(ATTACKERS + number)?.with_send_buffer(UNDER_WAY_BYTES);
        attackers.spawn(besiege(visitor, attack.target.clone(), attack.tally.clone(), attack.ends));
    }
    attackers.join_all().await;
    let (tally, seconds) = (attack.tally, start.elapsed().as_secs_f64());
    let met = tally.refused.get() + tally.closed.get() + tally.turned_away.get();
    let mut findings = Findings::default();
    findings.check("the flood meets refusals", met > 0, format!("{met} refused events, closes and handshakes"));
    findings.figure("events of attackers per second", tally.sent.get() as f64 / seconds);
    findings.figure("of them let through per second", tally.echoed.get() as f64 / seconds);
    findings.figure("refusals that attackers read", tally.refused.get() as f64);
    findings.figure("attackers disconnected", tally.closed.get() as f64);
    findings.figure("handshakes of attackers refused", tally.turned_away.get() as f64);
    Ok(findings)
}

async fn besiege(visitor: Visitor, target: Arc<Target>, tally: Arc<Tally>, ends: Instant) {
    let message = Message::text(target.event("the same again and again"));
    while Instant::now() < ends {
        match visitor.connect().await {
            Ok(socket) => {
                tally.opened.add(1);
                rage(socket, &message, &target, &tally, ends).await;
            }
            Err(NotOpened::Refused { .. }) => tally.turned_away.add(1),
            Err(_) => tally.failed.add(1),
        }
        sleep(COMES_BACK_AFTER.mul_f64(1.0 + chance())).await;
    }
}

/// evenly between 0 and 1
fn chance() -> f64 {
    f64::from(u32::from_le_bytes(picket_shared::random::bytes())) / f64::from(u32::MAX)
}

/// sends until the target, or the drill, ends it
async fn rage(socket: Socket, message: &Message, target: &Target, tally: &Tally, ends: Instant) {
    let (mut sink, mut stream) = socket.split();
    let shout = async {
        loop {
            for _ in 0..AT_ONCE {
                if sink.feed(message.clone()).await.is_err() {
                    return;
                }
            }
            if sink.flush().await.is_err() {
                return;
            }
            tally.sent.add(AT_ONCE as u64);
        }
    };
    let hear = async {
        while let Some(Ok(said)) = stream.next().await {
            match said {
                Message::Text(text) if target.dialect.refusal(&text).is_some() => tally.refused.add(1),
                Message::Text(_) => tally.echoed.add(1),
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    // A close that waits behind a full send buffer is heard by `hear` alone.
    tokio::select! {
        () = shout => tally.closed.add(1),
        () = hear => tally.closed.add(1),
        () = sleep_until(ends) => {}
    }
}
