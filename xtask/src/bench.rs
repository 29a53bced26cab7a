//! The measuring run: `cargo xtask bench`.
//!
//! Owns: a release build, a broker of its own, the order of measurements. Does not own: what is measured and how
//! (`bench/`), nor getting Flink, which that crate does too.

use crate::suites::build;
use crate::{clone_root, services};
use anyhow::{Result, bail};
use std::path::Path;
use std::process::{Command, ExitCode};

#[derive(clap::Args)]
pub struct Arguments {
    /// Runs each job on Flink too, in turn, and compares the outputs. Fetches Flink at first use; needs Java and Python.
    #[arg(long)]
    flink: bool,
    /// Events in the topic.
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// Runs of each job.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Only these jobs, and no latency.
    #[arg(long = "job", value_name = "NAME")]
    jobs: Vec<String>,
}

/// Prints one JSON line per measurement.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    eprintln!("building both programs optimised (first time: about 10 minutes on two cores)");
    let millstream = build::program("millstream", "release")?;
    let bench = build::program("millstream-bench", "release")?;
    let run = clone_root().join(".dev/bench-services");
    let endpoints = services::up(run.clone(), &[services::Name::Kafka], &[])?;
    let outcome = measure(arguments, &millstream, &bench, &endpoints.variables(), services::broker_pid(&run)?);
    services::down(run)?;
    outcome.map(|()| ExitCode::SUCCESS)
}

fn measure(
    arguments: &Arguments,
    millstream: &Path,
    bench: &Path,
    variables: &[(&'static str, String)],
    broker_pid: Option<i32>,
) -> Result<()> {
    let call = |command: &mut Command| -> Result<()> {
        let status = command.envs(variables.iter().map(|(name, value)| (*name, value))).status()?;
        if status.success() { Ok(()) } else { bail!("the measuring program failed ({status})") }
    };
    call(Command::new(bench).args(["fill", "--events", &arguments.events.to_string()]))?;
    let mut jobs = Command::new(bench);
    jobs.args(["jobs", "--runs", &arguments.runs.to_string(), "--binary"]).arg(millstream);
    jobs.args(arguments.jobs.iter().map(|job| format!("--job={job}")));
    jobs.args(broker_pid.map(|pid| format!("--broker-pid={pid}")));
    jobs.args(arguments.flink.then_some("--flink"));
    call(&mut jobs)?;
    if arguments.jobs.is_empty() {
        for (guarantee, interval) in [("at-least-once", "1 s"), ("exactly-once", "1 s"), ("exactly-once", "250 ms")] {
            let settings = ["--guarantee", guarantee, "--interval", interval, "--binary"];
            call(Command::new(bench).arg("latency").args(settings).arg(millstream))?;
        }
    }
    Ok(())
}
