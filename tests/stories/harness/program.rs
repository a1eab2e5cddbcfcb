//! The executable as a command that runs to its end: `check-config`, `schema`, `token`, or a start that must fail.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub struct Program {
    directory: TempDir,
    environment: Vec<(String, String)>,
}

pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

const ENDS_WITHIN: Duration = Duration::from_secs(10);

impl Program {
    pub fn new() -> Self {
        Self { directory: TempDir::new().unwrap(), environment: Vec::new() }
    }

    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn with_admin(self) -> Self {
        self.environment("SOCKET_ADMIN_USERNAME", "warden")
            .environment("SOCKET_ADMIN_PASSWORD", "a-long-password-of-the-stories")
    }

    pub fn writes(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn writes_config(&self, config: &Value) -> PathBuf {
        self.writes("picket.yaml", &serde_json::to_string_pretty(config).unwrap())
    }

    pub fn runs(&self, arguments: &[&str]) -> Ended {
        let mut child = command(self.directory.path(), &self.environment, None)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the picket executable starts");
        // Read as it comes: who says more than a pipe holds would never end.
        let (stdout, stderr) = (all_of(child.stdout.take().unwrap()), all_of(child.stderr.take().unwrap()));
        let deadline = Instant::now() + ENDS_WITHIN;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
        let status = status.unwrap_or_else(|| panic!("{arguments:?} did not end: {stdout}{stderr}"));
        Ended { code: status.code(), stdout, stderr }
    }
}

fn all_of(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).expect("what it says is UTF-8");
        text
    })
}

impl Ended {
    pub fn everything(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    pub fn succeeds(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.everything());
        self.stdout
    }

    /// A configuration that cannot be used: exit 64.
    pub fn refuses_the_configuration(self) -> String {
        assert_eq!(self.code, Some(64), "{}", self.everything());
        self.everything()
    }
}

/// The executable in a directory of its own, without what the tester's environment would tell it.
pub fn command(directory: &Path, environment: &[(String, String)], file_bytes_max: Option<u64>) -> Command {
    let picket = env!("CARGO_BIN_EXE_picket");
    let mut command = match file_bytes_max {
        None => Command::new(picket),
        Some(bytes) => {
            let mut shell = Command::new("sh");
            let blocks = bytes / 512;
            shell.args(["-c", &format!(r#"trap '' XFSZ; ulimit -S -f {blocks}; exec "$0" "$@""#), picket]);
            shell
        }
    };
    command.current_dir(directory).stdin(Stdio::null());
    for (name, _) in std::env::vars() {
        if name.starts_with("PICKET_") || name.starts_with("SOCKET_ADMIN_") || name.starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    for name in ["WHITE_LIST_URLS", "REDIS_URL", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}
