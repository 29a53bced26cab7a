//! What a process cost: processor time of its whole tree and its largest resident memory.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// Costs of a process that ended.
#[derive(Debug)]
pub struct Cost {
    pub status: ExitStatus,
    pub wall: Duration,
    /// User and system time of the process and all children it waited for.
    pub processor: Duration,
    pub resident_bytes_max: u64,
}

/// Waits for the child and reads its resource usage from the kernel.
pub fn wait(child: Child, started: Instant) -> anyhow::Result<Cost> {
    let pid = i32::try_from(child.id())?;
    let mut status = 0;
    // SAFETY: rusage is plain data for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `pid` is a child of this process that nobody else waits for; both pointers are valid.
    let answer = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    anyhow::ensure!(answer == pid, "failed to wait for process {pid}: {}", std::io::Error::last_os_error());
    let time = |t: libc::timeval| Duration::new(t.tv_sec.unsigned_abs(), u32::try_from(t.tv_usec).unwrap_or(0) * 1_000);
    Ok(Cost {
        status: std::os::unix::process::ExitStatusExt::from_raw(status),
        wall: started.elapsed(),
        processor: time(usage.ru_utime) + time(usage.ru_stime),
        resident_bytes_max: usage.ru_maxrss.unsigned_abs() * 1_024,
    })
}

/// Processor time that a running process has used so far.
pub fn processor_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks: u64 =
        stat.rsplit(')').next()?.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks * 10))
}

/// Memory that a running process has resident now.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kilobytes =
        status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?.trim().trim_end_matches(" kB").parse::<u64>().ok()?;
    Some(kilobytes * 1_024)
}
