//! Standard output: what a command answers. A reader that has gone away (`picket schema | head`) is no failure.

use std::io::{self, ErrorKind, IsTerminal, Write};

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
