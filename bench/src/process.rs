//! A process that this program started: its output is kept, and it is killed, by its own id, when its owner drops it.

use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

const STARTS_WITHIN: Duration = Duration::from_secs(20);
/// the last lines that are kept of a process's output
const LINES_MAX: usize = 200;

pub struct Running {
    name: String,
    child: Child,
    said: Said,
}

/// A command bound to these cores, or to none in particular; it is killed too when this program is. What it writes beyond a bound is
/// an error of the write, as on a full disk, and no signal.
pub fn command(cores: Option<&str>, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "env", "--ignore-signal=XFSZ"]);
    if let Some(cores) = cores {
        command.args(["taskset", "--cpu-list", cores]);
    }
    command.arg(program);
    command
}

impl Running {
    /// both outputs are read by threads, so that the process never waits for this one
    pub fn start(name: &str, command: Command) -> Result<Self> {
        Self::launch(name, command, Stdio::null(), false)
    }

    /// standard input and output are the caller's; only standard error is kept
    pub fn start_talking(name: &str, command: Command) -> Result<Self> {
        Self::launch(name, command, Stdio::piped(), true)
    }

    fn launch(name: &str, mut command: Command, stdin: Stdio, talks: bool) -> Result<Self> {
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{name} cannot be started: setpriv and taskset are in util-linux"))?;
        let said = Said::default();
        if let Some(output) = child.stderr.take() {
            said.follow(output);
        }
        if !talks && let Some(output) = child.stdout.take() {
            said.follow(output);
        }
        Ok(Running { name: name.to_owned(), child, said })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn pipes(&mut self) -> Option<(ChildStdin, std::process::ChildStdout)> {
        self.child.stdin.take().zip(self.child.stdout.take())
    }

    /// waits until somebody listens there, or the process has ended
    pub async fn listens(&mut self, address: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + STARTS_WITHIN;
        while TcpStream::connect(address).await.is_err() {
            self.still_runs()?;
            if Instant::now() > deadline {
                bail!("{} did not listen on {address}:\n{}", self.name, self.said.text());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    pub fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.said.text()),
            None => Ok(()),
        }
    }

    /// SIGKILL; it is gone when this returns
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// waits until it has ended, as it should
    pub async fn ends(&mut self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.said.text()),
                None if Instant::now() > deadline => bail!("{} did not end:\n{}", self.name, self.said.text()),
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// such as `STOP` and `CONT`
    pub async fn signal(&self, signal: &str) -> Result<()> {
        let id = self.child.id().to_string();
        let sent = tokio::process::Command::new("kill").args(["-s", signal, &id]).status().await?;
        if !sent.success() {
            bail!("{} did not get SIG{signal}: {sent}", self.name);
        }
        Ok(())
    }

    /// bytes, or `unlimited`; of files that it has or opens. Only the soft bound: a hard one may not be raised again
    pub async fn may_write_files_of(&self, bytes: &str) -> Result<()> {
        let (id, bound) = (self.child.id().to_string(), format!("--fsize={bytes}:"));
        let done = tokio::process::Command::new("prlimit").args(["--pid", &id, &bound]).status().await?;
        if !done.success() {
            bail!("{} got no bound of its files: prlimit is in util-linux", self.name);
        }
        Ok(())
    }

    pub fn output(&self) -> String {
        self.said.text()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.kill().is_err() {
            eprintln!("{} (process {}) was not reaped", self.name, self.child.id());
        }
    }
}

/// the end of what a process said
#[derive(Clone, Default)]
struct Said(Arc<Mutex<VecDeque<String>>>);

impl Said {
    fn follow(&self, output: impl Read + Send + 'static) {
        let said = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { return };
                let mut lines = said.0.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() == LINES_MAX {
                    lines.pop_front();
                }
                lines.push_back(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}
