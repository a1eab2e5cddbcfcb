//! Progress on standard error: a line that is written over every second, or lines where nobody looks at a terminal.

use anyhow::{Result, bail};
use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::tally::Tally;

const PERIOD: Duration = Duration::from_secs(1);

/// does the work, unless somebody presses Ctrl-C
pub async fn follow<T>(title: &str, tally: &Tally, work: impl Future<Output = T>) -> Result<T> {
    let start = Instant::now();
    let mut ticks = interval_at(start + PERIOD, PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tokio::pin!(work);
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    let terminal = stderr().is_terminal();
    loop {
        tokio::select! {
            outcome = &mut work => {
                if terminal {
                    write(format_args!("\r\x1b[K"));
                }
                return Ok(outcome);
            }
            _ = &mut stop => bail!("stopped by a signal"),
            _ = ticks.tick() => {
                let seconds = start.elapsed().as_secs();
                let line = tally.line();
                match terminal {
                    true => write(format_args!("\r\x1b[K{title}: {seconds:>3} s, {line}")),
                    false => write(format_args!("{title}: {seconds:>3} s, {line}\n")),
                }
            }
        }
    }
}

/// a standard error that is gone is no reason to end
fn write(text: std::fmt::Arguments<'_>) {
    let mut output = stderr().lock();
    output.write_fmt(text).and_then(|()| output.flush()).ok();
}
