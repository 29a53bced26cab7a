//! Child processes: run to the end, or left running as a service.
//!
//! Owns: messages that show what failed, the mark by which a service's processes are found again. Does not own:
//! which programs there are.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Every process of a service carries this variable with the service's folder as value. So a service is found and
/// stopped as a whole, also after its starter died, and nothing else ever is.
const MARK: &str = "MILLSTREAM_SERVICE_FOLDER";

/// A killed process is gone within milliseconds, one that waits for a disk within seconds.
const KILL_ROUNDS_MAX: u32 = 1000;

/// Lines of a log that an error shows.
const LOG_LINES_SHOWN: usize = 15;

/// Runs `command` to its end; an error shows what it said.
pub fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("failed to start `{name}`"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("`{name}` failed ({}):\n{}", output.status, last_lines(&String::from_utf8_lossy(&said)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Fails with what to install when `program` is not there.
pub fn require(program: &str, debian_package: &str) -> Result<()> {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    if !found {
        bail!("`{program}` is not installed (Debian and Ubuntu: apt-get install {debian_package})");
    }
    Ok(())
}

/// Starts `command` as a process of the service in `folder`; it outlives this one. What it says goes to `log` there.
pub fn start_service(command: &mut Command, folder: &Path, log: &str) -> Result<Child> {
    let log = File::create(folder.join(log)).context("failed to make a log file")?;
    mark(command, folder);
    command
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("failed to start `{}`", command.get_program().to_string_lossy()))
}

/// Processes of the service in `folder` that live.
pub fn service_processes(folder: &Path) -> Result<Vec<i32>> {
    let mark = format!("{MARK}={}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("failed to list processes")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Of other users' processes and of those that just ended there is nothing to read.
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        if environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes()) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Kills all processes that carry the mark of `folder`.
pub fn kill_marked(folder: &Path) -> Result<()> {
    // Again while there are some: one of them may just have started another.
    for _ in 0..KILL_ROUNDS_MAX {
        let living = service_processes(folder)?;
        if living.is_empty() {
            return Ok(());
        }
        living.into_iter().for_each(|pid| signal(pid, libc::SIGKILL));
        pause(Duration::from_millis(10));
    }
    bail!("processes of {} do not die", folder.display())
}

/// Marks `command` and what it starts as belonging to `folder`.
pub fn mark(command: &mut Command, folder: &Path) {
    command.env(MARK, folder).stdin(Stdio::null()).process_group(0);
}

/// Sends `signal` to a process of a service.
pub fn signal(pid: i32, signal: i32) {
    // SAFETY: plain system call. The process may be gone: then there is nothing to do.
    unsafe {
        libc::kill(pid, signal);
    }
}

/// There is no event to wait for: another process gets ready, or ends, when it does.
pub fn pause(interval: Duration) {
    #[allow(clippy::disallowed_methods, reason = "polls another process's state, which sends no event")]
    std::thread::sleep(interval);
}

/// The last lines of a log for a message.
pub fn log_tail(path: &Path) -> String {
    last_lines(&String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}
