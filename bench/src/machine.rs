//! What a measurement was taken on.

use serde::Serialize;
use std::path::Path;
use std::process::Command;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    pub cores: usize,
    pub processor: String,
    pub kernel: String,
    pub memory_gib: u64,
    pub commit: String,
    pub date: String,
    pub load_average: String,
}

impl Machine {
    pub fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Machine {
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            kernel: format!("{} {}", said("uname", &["-sr"]), std::env::consts::ARCH),
            memory_gib: memory_gib(&read("/proc/meminfo")),
            commit: commit(),
            date: said("date", &["-u", "+%Y-%m-%d"]),
            load_average: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }

    /// one line for a report
    pub fn sentence(&self) -> String {
        format!(
            "{}, {} cores ({}), {} GiB, {}, commit {}, load average {} at the start",
            self.date, self.cores, self.processor, self.memory_gib, self.kernel, self.commit, self.load_average
        )
    }
}

/// whatever a program says first about its version, or that it is not there
pub fn version(program: &Path, argument: &str) -> String {
    let first = said(program, &[argument]).lines().next().unwrap_or_default().to_owned();
    if first.is_empty() { "unknown".to_owned() } else { first }
}

fn commit() -> String {
    let changed =
        if said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty() { "" } else { " and changes" };
    format!("{}{changed}", said("git", &["rev-parse", "--short=12", "HEAD"]))
}

/// both outputs: some programs tell their version on standard error
fn said(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        return String::new();
    };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).trim().to_owned()
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_gib(meminfo: &str) -> u64 {
    let kib: Option<u64> = field(meminfo, "MemTotal").and_then(|value| value.split(' ').next()?.parse().ok());
    kib.map_or(0, |kib| (kib + (1 << 19)) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_are_read() {
        assert_eq!(field("model\t: 1\nmodel name\t: A: B\n", "model name"), Some("A: B".to_owned()));
        assert_eq!(memory_gib("MemTotal:       24633712 kB\nMemFree: 1 kB\n"), 23);
        assert_eq!(memory_gib(""), 0);
    }
}
