//! How much of its memory the process uses, looked at from time to time: near the end of it, open sockets come first.

use picket_shared::reason::Reason;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::sleep;

use crate::refusal::Denial;

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// of the budget, from which new sessions get small buffers
const TIGHT_PERCENT: u64 = 95;
/// of the budget, from which new connections are refused
const FULL_PERCENT: u64 = 98;
/// the buffer of a socket while memory is tight: most messages fit
const TIGHT_BUFFER_BYTES: usize = 1024;
/// when to come back after a refusal: connections have to end first
const RETRY_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Memory {
    /// `None`: as much as the system has
    budget_bytes: Option<u64>,
    used_bytes: AtomicU64,
}

impl Memory {
    /// `bytes_max` of 0 stands for what the control group allows
    pub fn new(bytes_max: u64) -> Self {
        let budget_bytes = if bytes_max > 0 { Some(bytes_max) } else { allowed_by_control_group() };
        Memory { budget_bytes, used_bytes: AtomicU64::new(resident_bytes().unwrap_or_default()) }
    }

    pub async fn watch(self: Arc<Self>, stopped: impl Future<Output = ()>) {
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                () = sleep(LOOK_EVERY) => self.used_bytes.store(resident_bytes().unwrap_or_default(), Ordering::Relaxed),
                () = &mut stopped => return,
            }
        }
    }

    /// the used part of the budget; 0 without one
    pub fn used_percent(&self) -> u64 {
        let used = self.used_bytes.load(Ordering::Relaxed);
        self.budget_bytes.map_or(0, |budget| used.saturating_mul(100) / budget.max(1))
    }

    /// the buffer that a new session's socket gets, `usual` where memory is not tight
    pub fn buffer_bytes(&self, usual: usize) -> usize {
        if self.used_percent() >= TIGHT_PERCENT { usual.min(TIGHT_BUFFER_BYTES) } else { usual }
    }

    /// whether one more connection has room
    pub fn check(&self) -> Result<(), Denial> {
        match self.used_percent() {
            FULL_PERCENT.. => {
                Err(Denial::from(Reason::Overload).because("node.limits.memoryBytesMax").retry_after(RETRY_AFTER))
            }
            _ => Ok(()),
        }
    }
}

/// the limit of the process's own control group, or of the whole that it can see
fn allowed_by_control_group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    files_of_limits(&groups).iter().find_map(|file| limit_in(&fs::read_to_string(file).ok()?))
}

/// where the limits are: a machine has control groups of version 2, of version 1 with a folder for each controller, or both
fn files_of_limits(groups: &str) -> Vec<String> {
    let lines = groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let files = lines.filter_map(|(controllers, own)| match controllers {
        "" => Some(("/sys/fs/cgroup", own, "memory.max")),
        _ if controllers.split(',').any(|one| one == "memory") => {
            Some(("/sys/fs/cgroup/memory", own, "memory.limit_in_bytes"))
        }
        _ => None,
    });
    files.flat_map(|(root, own, file)| [format!("{root}{own}/{file}"), format!("{root}/{file}")]).collect()
}

fn limit_in(text: &str) -> Option<u64> {
    /// what version 1 says instead of `max` is beyond this
    const LIMITS_BYTES_MAX: u64 = 1 << 60;
    text.trim().parse().ok().filter(|limit| *limit < LIMITS_BYTES_MAX)
}

fn resident_bytes() -> Option<u64> {
    resident_bytes_in(&fs::read_to_string("/proc/self/status").ok()?)
}

fn resident_bytes_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x35_near_the_end_buffers_shrink_and_then_nobody_more_comes_in() {
        let at = |percent: u64| Memory { budget_bytes: Some(1000), used_bytes: AtomicU64::new(percent * 10) };
        for (percent, buffer, comes_in) in [(0, 4096, true), (94, 4096, true), (95, 1024, true), (97, 1024, true)]
            .into_iter()
            .chain([(98, 1024, false), (300, 1024, false)])
        {
            assert_eq!(
                (at(percent).buffer_bytes(4096), at(percent).check().is_ok()),
                (buffer, comes_in),
                "{percent} %"
            );
        }
        assert_eq!(at(99).buffer_bytes(256), 256, "it was smaller");
        let endless = Memory { budget_bytes: None, used_bytes: AtomicU64::new(u64::MAX) };
        assert!(endless.check().is_ok() && endless.buffer_bytes(4096) == 4096);
    }

    #[test]
    fn the_limit_of_either_version_of_control_groups_is_found() {
        assert_eq!(
            files_of_limits("4:memory:/pod/c1\n3:cpu,cpuacct:/pod/c1\n0::/c1\n"),
            [
                "/sys/fs/cgroup/memory/pod/c1/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/c1/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(limit_in("134217728\n"), Some(134_217_728));
        assert_eq!([limit_in("max\n"), limit_in("9223372036854771712\n")], [None, None]);
    }

    #[test]
    fn what_the_system_says_is_read() {
        assert_eq!(resident_bytes_in("Name:\tpicket\nVmRSS:\t   2048 kB\nThreads:\t2\n"), Some(2_097_152));
        assert!(resident_bytes().is_some_and(|bytes| bytes > 0));
    }
}
