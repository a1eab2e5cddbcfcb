//! What a process has used: processor time and memory, as `/proc` tells them.

use anyhow::{Context, Result};
use std::path::Path;

/// `/proc/PID/stat` counts in hundredths of a second on every Linux that this runs on
const TICK_NANOS: u64 = 10_000_000;

/// user and system time in nanoseconds: exact from the scheduler where it tells, else the ticks of `/proc/PID/stat`
///
/// The scheduler's figure is the sum over living threads, which is what `stat` rounds to ticks.
pub fn used_nanos(process: u32) -> Result<u64> {
    let directory = format!("/proc/{process}");
    let stat = std::fs::read_to_string(format!("{directory}/stat"));
    let stat = stat.with_context(|| format!("process {process} is gone"))?;
    let ticks = ticks(&stat).with_context(|| format!("/proc/{process}/stat cannot be read"))? * TICK_NANOS;
    match scheduled(Path::new(&directory)) {
        // Threads that have ended are missing in the sum.
        Some(nanos) if nanos + 2 * TICK_NANOS >= ticks => Ok(nanos),
        Some(_) | None => Ok(ticks),
    }
}

/// resident memory in bytes
pub fn resident_bytes(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"));
    let status = status.with_context(|| format!("process {process} is gone"))?;
    resident(&status).with_context(|| format!("/proc/{process}/status tells no VmRSS"))
}

fn scheduled(process: &Path) -> Option<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir(process.join("task")).ok()? {
        let line = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        sum += running(&line)?;
    }
    Some(sum)
}

/// `running waiting slices`
fn running(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// utime + stime: fields 14 and 15; the second is a name in brackets that may hold blanks and brackets
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let utime: u64 = fields.next()?.parse().ok()?;
    let stime: u64 = fields.next()?.parse().ok()?;
    Some(utime + stime)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "42 (a) (b c) S 1 42 42 0 -1 4194560 100 0 0 0 250 31 7 8 20 0 3 0 100 1000 10";
        assert_eq!(ticks(stat), Some(281));
        assert_eq!(ticks("42 nonsense"), None);
        assert_eq!(running("699836 12 3\n"), Some(699_836));
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2048 kB\nRssAnon:\t 1 kB\n"), Some(2 * 1024 * 1024));
        assert_eq!(resident("Name:\tkthread\n"), None);
    }

    #[test]
    fn a_living_process_tells_both() {
        let this = std::process::id();
        assert!(resident_bytes(this).unwrap() > 0);
        used_nanos(this).unwrap();
    }
}
