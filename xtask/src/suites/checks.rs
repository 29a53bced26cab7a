//! What is checked before any test runs: formatting, lints, house rules, dependencies.

use super::run::finish_within;
use super::summary::{Outcome, Summary};
use super::{Setting, build};
use crate::{cache, clone_root, subprocess};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const CARGO_DENY_VERSION: &str = "0.18.9";

/// Quick ones end in seconds; clippy compiles every dependency once.
const QUICK_DEADLINE: Duration = Duration::from_secs(300);
const CLIPPY_DEADLINE: Duration = Duration::from_secs(1800);

pub(super) fn all(setting: &Setting, summary: &mut Summary) -> Result<()> {
    let mut format = cargo();
    format.args(["fmt", "--all", "--check"]);
    check("format", format, QUICK_DEADLINE, setting, summary)?;
    let mut tidy = Command::new(std::env::current_exe()?);
    tidy.arg("tidy");
    check("tidy", tidy, QUICK_DEADLINE, setting, summary)?;
    dependencies(setting, summary)?;
    let mut clippy = cargo();
    // The profile of the tests: so the C libraries are built once.
    clippy.args(["clippy", "--workspace", "--all-targets", "--keep-going", "--profile", build::PROFILE]);
    clippy.args(build::features()?).args(["--", "--deny", "warnings"]);
    check("clippy", clippy, CLIPPY_DEADLINE, setting, summary)
}

/// cargo-deny, built at first use.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    let name = format!("cargo-deny-{CARGO_DENY_VERSION}");
    let tool = cache::tool(&name, "from crates.io, built in about 3 minutes", |folder| {
        let mut install = cargo();
        // Unoptimised: it runs for seconds, and optimising it takes minutes.
        install.args(["install", "cargo-deny", "--locked", "--debug", "--version", CARGO_DENY_VERSION]);
        install.arg("--root").arg(folder).arg("--target-dir").arg(folder.join("target"));
        subprocess::run(&mut install)?;
        Ok(std::fs::remove_dir_all(folder.join("target"))?)
    })?;
    Ok(tool.join("bin/cargo-deny"))
}

fn dependencies(setting: &Setting, summary: &mut Summary) -> Result<()> {
    match cargo_deny() {
        Ok(program) => {
            let mut deny = Command::new(program);
            deny.args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
            check("dependencies", deny, QUICK_DEADLINE, setting, summary)
        }
        Err(error) if !setting.ci => {
            let mut outcome = Outcome::check("dependencies", Duration::ZERO);
            outcome.skip(format!("dependencies: {error:#}"));
            summary.add(outcome);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn check(name: &str, mut command: Command, deadline: Duration, setting: &Setting, summary: &mut Summary) -> Result<()> {
    let begin = Instant::now();
    let log = setting.logs.join(format!("{name}.log"));
    let problem = finish_within(command.current_dir(clone_root()), &log, deadline)?;
    let mut outcome = Outcome::check(name, begin.elapsed());
    if let Some(problem) = problem {
        eprintln!("{}", subprocess::log_tail(&log));
        outcome.fail(problem);
    }
    summary.add(outcome);
    Ok(())
}
