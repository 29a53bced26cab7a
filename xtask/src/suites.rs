//! The test run: checks, then every suite with a deadline, then one line that sums up: `cargo xtask test`.
//!
//! Owns: the order, deadlines, what counts as passed, failed and skipped. Does not own: what is tested; suites are
//! found in the workspace, not listed here.

pub(crate) mod build;
pub(crate) mod checks;
mod run;
mod summary;

use crate::{cache, clone_root, services, subprocess};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use summary::{Outcome, Summary};

#[derive(clap::Args)]
pub struct Arguments {
    /// Full counts: the same suites, hours of them.
    #[arg(long)]
    soak: bool,
    /// Only the suites of these crates, and no checks.
    #[arg(long = "crate", value_name = "CRATE")]
    crates: Vec<String>,
    /// Ends what an interrupted run left behind.
    #[arg(long)]
    stop: bool,
}

/// What holds for the whole run.
struct Setting {
    soak: bool,
    /// Nothing may be skipped.
    ci: bool,
    logs: PathBuf,
}

/// Where the services of a test run live: apart from those a person started in the same clone.
pub fn services_folder() -> PathBuf {
    clone_root().join(".dev/test-services")
}

/// The logs of the suites; it marks their processes.
fn logs_folder() -> PathBuf {
    clone_root().join(".dev/test-logs")
}

fn stop() -> Result<()> {
    subprocess::kill_marked(&logs_folder())?;
    if services_folder().exists() { services::down(services_folder()) } else { Ok(()) }
}

pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.stop {
        return stop().map(|()| ExitCode::SUCCESS);
    }
    let _lock = lock()?;
    let setting = Setting { soak: arguments.soak, ci: std::env::var_os("CI").is_some(), logs: logs_folder() };
    std::fs::create_dir_all(&setting.logs).context("failed to make the folder of the logs")?;
    let mut summary = Summary::default();
    if arguments.crates.is_empty() {
        checks::all(&setting, &mut summary)?;
    }
    match build::test_binaries(&setting, &mut summary)? {
        Some(suites) => {
            let variables = start_services(&setting, &mut summary)?;
            let wanted = |name: &str| arguments.crates.is_empty() || arguments.crates.iter().any(|only| only == name);
            for suite in suites.iter().filter(|suite| wanted(&suite.krate)) {
                summary.add(run::suite(suite, &variables, &setting)?);
            }
            services::down(services_folder())?;
        }
        None => eprintln!("the tests do not compile: none was run"),
    }
    summary.print(&setting.logs);
    Ok(if summary.green(setting.ci) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Two runs in one clone would stop each other's services.
fn lock() -> Result<File> {
    let folder = clone_root().join(".dev");
    std::fs::create_dir_all(&folder)?;
    cache::lock(&folder.join("test-lock"), "another test run in this clone")
}

/// Starts each service by itself: where one cannot be had, the tests of the others still run.
fn start_services(setting: &Setting, summary: &mut Summary) -> Result<Vec<(&'static str, String)>> {
    let begin = std::time::Instant::now();
    let mut missing = Vec::new();
    for name in services::Name::EACH {
        if let Err(error) = services::up(services_folder(), &[name], &[]) {
            eprintln!("{error:#}");
            missing.push(format!("{name:?}"));
        }
    }
    let mut outcome = Outcome::check("services", begin.elapsed());
    if !missing.is_empty() {
        if setting.ci {
            bail!("services that do not start in CI: {}", missing.join(", "));
        }
        outcome.skip(format!("services that do not start: {}", missing.join(", ")));
    }
    summary.add(outcome);
    Ok(services::endpoints(services_folder())?.variables())
}
