//! The measuring run: `cargo xtask bench`.
//!
//! Owns: a release build, a broker of its own, the order of measurements. Does not own: what is measured and how
//! (`bench/`), nor getting Flink, which that crate does too.

use crate::suites::build;
use crate::{clone_root, services};
use anyhow::{Result, bail};
use std::path::PathBuf;
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
    let measuring = Measuring { arguments, millstream, bench, variables: endpoints.variables() };
    let outcome = services::broker_pid(&run).and_then(|pid| measuring.all(pid));
    services::down(run)?;
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Programs and services of one run.
struct Measuring<'a> {
    arguments: &'a Arguments,
    millstream: PathBuf,
    bench: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Measuring<'_> {
    fn all(&self, broker_pid: Option<i32>) -> Result<()> {
        self.call("fill", &["--events", &self.arguments.events.to_string()])?;
        self.jobs(broker_pid)?;
        if self.arguments.jobs.is_empty() {
            self.checkpoint_cost()?;
            self.latency()?;
            self.of_the_product("footprint", &[])?;
            self.throttled()?;
        }
        Ok(())
    }

    fn call(&self, measure: &str, arguments: &[&str]) -> Result<()> {
        let variables = self.variables.iter().map(|(name, value)| (*name, value));
        let status = Command::new(&self.bench).arg(measure).args(arguments).envs(variables).status()?;
        if status.success() { Ok(()) } else { bail!("the measuring program failed at {measure} ({status})") }
    }

    fn of_the_product(&self, measure: &str, arguments: &[&str]) -> Result<()> {
        let binary = format!("--binary={}", self.millstream.display());
        self.call(measure, &[&[binary.as_str()], arguments].concat())
    }

    fn jobs(&self, broker_pid: Option<i32>) -> Result<()> {
        let mut arguments = vec![format!("--runs={}", self.arguments.runs)];
        arguments.extend(self.arguments.jobs.iter().map(|job| format!("--job={job}")));
        arguments.extend(broker_pid.map(|pid| format!("--broker-pid={pid}")));
        arguments.extend(self.arguments.flink.then(|| "--flink".to_owned()));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.of_the_product("jobs", &arguments)
    }

    /// Transactions are flushed with checkpoints, so rare ones still fit into the transactions' time-out.
    fn checkpoint_cost(&self) -> Result<()> {
        let runs = format!("--runs={}", self.arguments.runs);
        self.of_the_product("jobs", &["--job=tumble", "--job=read", &runs, "--against-interval=5 min"])
    }

    fn latency(&self) -> Result<()> {
        for (guarantee, interval) in [("at-least-once", "1 s"), ("exactly-once", "1 s"), ("exactly-once", "250 ms")] {
            self.of_the_product("latency", &["--guarantee", guarantee, "--interval", interval])?;
        }
        Ok(())
    }

    fn throttled(&self) -> Result<()> {
        let jars = format!("--kafka-jars={}", services::kafka_jars()?.display());
        self.of_the_product("throttled", &[&jars])
    }
}
