//! Running one suite within its deadline.

use super::Setting;
use super::build::TestBinary;
use super::summary::Outcome;
use crate::subprocess::{self, pause};
use anyhow::{Context, Result};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Several times what the suites take on two cores; past it something hangs.
const DEADLINE: Duration = Duration::from_secs(300);
/// By crate, where the suite is a long one; the simulation of its 10,000 seeds has three minutes.
const DEADLINES: [(&str, Duration); 4] = [
    ("cli", Duration::from_secs(1200)),
    ("e2e", Duration::from_secs(900)),
    ("sim", Duration::from_secs(180)),
    ("worker", Duration::from_secs(600)),
];
/// Full counts take this much longer.
const SOAK_FACTOR: u32 = 12;

pub(super) fn suite(suite: &TestBinary, variables: &[(&'static str, String)], setting: &Setting) -> Result<Outcome> {
    let name = match suite.target.as_str() {
        "lib" | "bin" => suite.krate.clone(),
        target => format!("{} {target} tests", suite.krate),
    };
    let listed = DEADLINES.iter().find(|(krate, _)| *krate == suite.krate).map_or(DEADLINE, |(_, deadline)| *deadline);
    let deadline = if setting.soak { listed * SOAK_FACTOR } else { listed };
    let mut command = Command::new(&suite.program);
    // What passing tests printed is shown too: lines of skipped ones are among it.
    command.arg("--show-output").current_dir(&suite.folder).env("CARGO_MANIFEST_DIR", &suite.folder);
    command.envs(variables.iter().map(|(name, value)| (*name, value)));
    if setting.soak {
        command.env("MILLSTREAM_SOAK", "1");
    }
    let begin = Instant::now();
    let log = setting.logs.join(format!("{}-{}.log", suite.krate, suite.target));
    let problem = finish_within(&mut command, &log, deadline)?;
    let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    let outcome = Outcome::of_test_binary(&name, begin.elapsed(), &text, problem);
    if outcome.failed() {
        eprintln!("{}", failures(&text));
    }
    Ok(outcome)
}

/// Runs `command` with its output in `log`. Says what went wrong, if something did. Nothing it started outlives it.
pub(super) fn finish_within(command: &mut Command, log: &Path, deadline: Duration) -> Result<Option<String>> {
    let file = File::create(log).with_context(|| format!("failed to make {}", log.display()))?;
    let folder = log.parent().context("a log lies in a folder")?;
    subprocess::mark(command, folder);
    command.stdout(file.try_clone()?).stderr(file);
    let mut child = command.spawn().with_context(|| format!("failed to start {}", command.get_program().display()))?;
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if begin.elapsed() > deadline {
            break None;
        }
        pause(POLL_INTERVAL);
    };
    // Also after its end: what tests started must not stay.
    subprocess::kill_marked(folder)?;
    Ok(match status {
        None => {
            child.wait()?;
            Some(format!("killed at its deadline of {} s", deadline.as_secs()))
        }
        Some(status) if status.success() => None,
        Some(status) => Some(status.to_string()),
    })
}

/// The part of a log that says what failed.
fn failures(log: &str) -> String {
    let from = log.find("\nfailures:\n").unwrap_or_else(|| log.len().saturating_sub(4_000));
    // Not in the middle of a character.
    let from = (from..log.len()).find(|&at| log.is_char_boundary(at)).unwrap_or(log.len());
    log[from..].to_owned()
}
