//! Standard output: what a command answers. A reader that has gone away (`picket schema | head`) is no failure.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use picket_shared::clock::{Clock, SystemClock, Timestamp};

pub fn say(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// whether a person reads what is said
pub fn is_watched() -> bool {
    io::stdout().is_terminal()
}

/// whether a person reads the log
pub fn log_is_watched() -> bool {
    io::stderr().is_terminal()
}

/// how often progress is told
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// how far long work is, on standard error; nothing of short work
pub struct Progress {
    what: &'static str,
    told: Timestamp,
}

impl Progress {
    pub fn new(what: &'static str) -> Self {
        Progress { what, told: SystemClock.now() }
    }

    #[expect(clippy::print_stderr, reason = "standard output is the answer's")]
    pub fn at(&mut self, count: u64) {
        let now = SystemClock.now();
        if now.since(self.told) >= PROGRESS_EVERY {
            self.told = now;
            eprintln!("{count} {} so far", self.what);
        }
    }
}
