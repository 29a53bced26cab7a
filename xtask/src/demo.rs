//! The product as a new user sees it: `cargo xtask demo`.
//!
//! Owns: running `examples/demo`, killing the process in the middle, starting it again, counting what came out. Does
//! not own: the job, which is that folder's manifest.

use crate::clone_root;
use crate::suites::build;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

/// After so many windows the process is killed: it is in the middle of the fourth then.
const WINDOWS_BEFORE_KILL: usize = 3;
const CLICKS_PER_WINDOW: u64 = 10_000;
const CLICKS: u64 = 200_000;

/// What was printed: each window's row, and how often.
#[derive(Default)]
struct Seen {
    windows: BTreeMap<String, (u64, usize)>,
}

pub fn main() -> Result<ExitCode> {
    let program = build::program("millstream", build::PROFILE)?;
    let state = tempfile::tempdir().context("failed to make a folder for the demo's state")?;
    let mut seen = Seen::default();
    println!("\n$ millstream run examples/demo/job.yaml");
    println!("{CLICKS} clicks are generated; one line per window of ten seconds of event time:\n");
    let mut first = start(&program, state.path())?;
    seen.read(&mut first, Some(WINDOWS_BEFORE_KILL))?;
    if first.try_wait()?.is_some() {
        bail!("the job ended before it could be killed");
    }
    // SIGKILL: the process gets no chance to save anything.
    first.kill().context("failed to kill the job")?;
    first.wait()?;
    println!("\n*** kill -9: the process is gone, in the middle of a window. The same command again: ***\n");
    println!("$ millstream run examples/demo/job.yaml");
    let mut second = start(&program, state.path())?;
    seen.read(&mut second, None)?;
    let status = second.wait()?;
    if !status.success() {
        bail!("the job failed after its recovery ({status})");
    }
    seen.judge()
}

fn start(program: &Path, state: &Path) -> Result<Child> {
    let manifest = clone_root().join("examples/demo/job.yaml");
    let mut command = Command::new(program);
    command.arg("run").arg(manifest).env("MILLSTREAM_STATE_DIR", state).stdout(Stdio::piped());
    command.spawn().with_context(|| format!("failed to start {}", program.display()))
}

impl Seen {
    /// Shows what the job prints, until it ends or `windows_max` rows came.
    fn read(&mut self, job: &mut Child, windows_max: Option<usize>) -> Result<()> {
        let output = job.stdout.take().context("the job's output is piped")?;
        for (number, line) in (1..).zip(BufReader::new(output).lines()) {
            let line = line?;
            println!("{line}");
            self.add(&line)?;
            if windows_max == Some(number) {
                break;
            }
        }
        Ok(())
    }

    /// Reads `+I[start, end, clicks, first, last]`.
    fn add(&mut self, row: &str) -> Result<()> {
        let inside = row.split_once('[').and_then(|(_, rest)| rest.trim_end().strip_suffix(']'));
        let fields: Vec<_> = inside.with_context(|| format!("not a row: {row}"))?.split(", ").collect();
        let [start, _, clicks, ..] = fields[..] else { bail!("not a window: {row}") };
        let clicks = clicks.parse().with_context(|| format!("not a count in {row}"))?;
        let (known, times) = self.windows.entry(start.to_owned()).or_insert((clicks, 0));
        if *known != clicks {
            bail!("the window from {start} was printed with {known} and with {clicks} clicks");
        }
        *times += 1;
        Ok(())
    }

    fn judge(&self) -> Result<ExitCode> {
        let clicks: u64 = self.windows.values().map(|(clicks, _)| clicks).sum();
        let twice = self.windows.values().filter(|(_, times)| *times > 1).count();
        let whole = self.windows.values().all(|(clicks, _)| *clicks == CLICKS_PER_WINDOW);
        if clicks != CLICKS || !whole {
            bail!("{clicks} clicks in {} windows, {CLICKS} were generated", self.windows.len());
        }
        println!(
            "\n{} windows of {CLICKS_PER_WINDOW} clicks: each of the {CLICKS} clicks was counted exactly once, through \
             kill -9.",
            self.windows.len()
        );
        if twice > 0 {
            println!(
                "{twice} were printed twice, with the same numbers: a terminal cannot take a line back, Kafka can."
            );
        }
        println!("Next: README.md, examples/, and ./dev test for everything with a real broker.");
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_once_each() {
        let mut seen = Seen::default();
        for window in 0..20 {
            seen.add(&format!("+I[1970-01-01T00:{window}, x, 10000, 0, 9999]")).expect("a row");
        }
        seen.add("+I[1970-01-01T00:3, x, 10000, 0, 9999]").expect("a row");
        assert!(seen.judge().is_ok());
        assert!(seen.add("+I[1970-01-01T00:3, x, 9999, 0, 9999]").is_err(), "another count");
        seen.windows.clear();
        assert!(seen.judge().is_err(), "nothing was counted");
    }
}
