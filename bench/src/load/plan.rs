//! What a load is to do, what it saw, and the parent's end of the conversation.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{ChildStdin, ChildStdout};

use crate::dialect::Dialect;
use crate::process::{Running, command};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub address: SocketAddr,
    pub dialect: Dialect,
    pub work: Work,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Work {
    /// every connection sends so many messages, waits for all their echoes, and does it again
    Closed { connections: usize, pipeline: usize, millis: u64 },
    /// every connection sends exactly so many messages, one after the other
    Quota { connections: usize, each: usize },
    /// every client posts an event while it polls, waits for the echo in the poll, and does it again
    Polling { clients: usize, millis: u64 },
    /// messages at a fixed rate, over all connections; nobody waits for an echo before sending the next
    Paced { connections: usize, per_second: usize, millis: u64 },
    /// connections that have spoken once
    Idle { connections: usize },
    /// connect, upgrade, one message, close; or an upgrade that is to be refused with 403
    Connections { count: usize, workers: usize, refused: bool },
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// messages that came back, or connections that were made
    pub count: u64,
    pub seconds: f64,
    /// of one message or connection
    pub p50_micros: Option<f64>,
    pub p99_micros: Option<f64>,
}

/// a load that runs
pub struct Load {
    process: Running,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Load {
    /// all its connections are open when this returns
    pub fn start(cores: &str, plan: &Plan) -> Result<Self> {
        let mut command = command(Some(cores), std::env::current_exe()?);
        command.args(["load", "--plan", &serde_json::to_string(plan)?]);
        let mut process = Running::start_talking("the load", command)?;
        let (input, output) = process.pipes().context("the load has no pipes")?;
        let mut load = Load { process, input, output: BufReader::new(output) };
        load.hear()?;
        Ok(load)
    }

    pub fn go(&mut self) -> Result<Outcome> {
        self.input.write_all(b"go\n")?;
        serde_json::from_str(&self.hear()?).context("the load's answer cannot be read")
    }

    fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            // Its last words come before its end is known.
            std::thread::sleep(std::time::Duration::from_millis(100));
            self.process.still_runs()?;
            anyhow::bail!("the load fell silent:\n{}", self.process.output());
        }
        Ok(line)
    }
}
