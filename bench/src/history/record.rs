//! What everybody who takes part writes down, one line of JSON each, as it happens: moments are microseconds since the start by one
//! monotonic clock, which all parts share.

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::plan::{Load, Role};

/// microseconds since the start of the history
pub type Moment = u64;

pub const PLAN: &str = "plan.json";
pub const CLIENTS: &str = "clients.ndjson";
pub const UPSTREAM: &str = "upstream.ndjson";
pub const FAULTS: &str = "faults.ndjson";
pub const NODES: &str = "nodes.ndjson";

/// of the clients
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Client {
    /// asked for at `sent`; at `done` the answer was read
    Connect {
        connection: u64,
        person: u32,
        user: Option<String>,
        role: Role,
        address: IpAddr,
        node: usize,
        load: Load,
        sent: Moment,
        done: Moment,
        outcome: Outcome,
    },
    /// just before it was written to the socket
    Send { connection: u64, number: u64, event: String, at: Moment },
    /// the message came back: it was let through
    Echo { number: u64, at: Moment },
    /// some message of this event was refused
    Refused { connection: u64, event: String, reason: String, at: Moment },
    /// just before the client began to close
    Close { connection: u64, at: Moment },
    /// the other side ended it, or the close is complete
    End { connection: u64, at: Moment },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Admitted,
    Refused(u16),
    Failed,
}

/// of the upstream: a message was read
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    pub number: u64,
    pub at: Moment,
}

/// of the fault injector: just before the one, and just after the other
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Fault {
    /// Redis is about to be paused or killed
    Cut {
        at: Moment,
        forgets: bool,
    },
    /// Redis is about to go on, or to come back
    Back {
        at: Moment,
    },
    NodeDies {
        node: usize,
        at: Moment,
    },
    NodeReturns {
        node: usize,
        at: Moment,
    },
}

/// what a node said of itself, some time between the two: its mode, and how much it has let through without Redis so far
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    pub node: usize,
    pub sent: Moment,
    pub done: Moment,
    pub is_normal: bool,
    pub alone: u64,
    /// uses beyond a limit that it learnt of
    pub overshoot: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Watch {
    start: Instant,
}

impl Watch {
    pub fn start() -> Self {
        Watch { start: Instant::now() }
    }

    pub fn now(&self) -> Moment {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(Moment::MAX)
    }
}

/// one file, written by whoever holds it
#[derive(Clone)]
pub struct Log {
    file: Arc<Mutex<Lines>>,
}

struct Lines {
    writer: BufWriter<File>,
    error: Option<std::io::Error>,
}

impl Log {
    pub fn create(directory: &Path, name: &str) -> Result<Self> {
        let path = directory.join(name);
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        Ok(Log { file: Arc::new(Mutex::new(Lines { writer: BufWriter::new(file), error: None })) })
    }

    /// what cannot be written is told at the end
    pub fn write(&self, record: &impl Serialize) {
        let mut lines = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = serde_json::to_writer(&mut lines.writer, record).map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|()| lines.writer.write_all(b"\n")) {
            lines.error.get_or_insert(error);
        }
    }

    pub fn finish(&self) -> Result<()> {
        let mut lines = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        lines.writer.flush().context("a log is not complete")?;
        lines.error.take().map_or(Ok(()), |error| Err(error).context("a log is not complete"))
    }
}

pub fn read<T: DeserializeOwned>(directory: &Path, name: &str) -> Result<Vec<T>> {
    let path = directory.join(name);
    let file = File::open(&path).with_context(|| path.display().to_string())?;
    let parsed = BufReader::new(file).lines().enumerate().map(|(index, line)| {
        serde_json::from_str(&line?).with_context(|| format!("{} line {}", path.display(), index + 1))
    });
    parsed.collect()
}

/// the number of a message or of its echo
pub fn number_of(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(r#""number":"#)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_its_number() {
        assert_eq!(number_of(r#"{"type":"chat:say","number":12}"#), Some(12));
        assert_eq!(number_of(r#"{"type":"error","event":"chat:say","reason":"message_rate"}"#), None);
    }

    #[test]
    fn what_was_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::create(directory.path(), FAULTS).unwrap();
        let faults = [Fault::Cut { at: 1, forgets: true }, Fault::NodeDies { node: 2, at: 7 }];
        faults.iter().for_each(|fault| log.write(fault));
        log.finish().unwrap();
        assert_eq!(read::<Fault>(directory.path(), FAULTS).unwrap(), faults);
    }
}
