//! Apache Flink 2.2.1 as the peer: obtained from package registries, started as plain processes, given the same jobs.
//!
//! Owns: what is Flink's. Does not own: the jobs and topics, which are the same for both engines.

mod cluster;
mod install;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

pub use cluster::Cluster;
pub use install::Installation;

use crate::rest;

/// Flink's REST port in a measuring run.
const PORT: u16 = 18_081;
const RESCALE_TIMEOUT: Duration = Duration::from_secs(60);

/// The JSON answer of Flink's REST interface.
fn get(path: &str) -> anyhow::Result<Value> {
    rest::get(&address(), path)
}

fn address() -> String {
    format!("127.0.0.1:{PORT}")
}

/// What Flink used for one job.
#[derive(Debug)]
pub struct FlinkRun {
    /// As the JobManager states it, without submission.
    pub wall: Duration,
    /// JobManager and TaskManager together, during the job.
    pub processor: Duration,
    pub resident_bytes: u64,
}

impl Cluster {
    /// Runs a bounded SQL script to its end.
    pub fn run_sql(&self, installation: &Installation, script: &str) -> anyhow::Result<FlinkRun> {
        let before = self.processor_time();
        let id = self.start_sql(installation, script)?;
        let wall = self.wait_until_finished(&id)?;
        Ok(FlinkRun { wall, processor: self.processor_time() - before, resident_bytes: self.resident_bytes() })
    }

    /// Starts an SQL script, and tells the id of its job.
    pub fn start_sql(&self, installation: &Installation, script: &str) -> anyhow::Result<String> {
        let file = self.folder().join("job.sql");
        std::fs::write(&file, script)?;
        submit(installation, &file, self.folder())
    }

    /// Asks the adaptive scheduler for so many tasks of each vertex (Flink's REST API, `resource-requirements`), and waits until
    /// they run.
    pub fn rescale(&self, id: &str, parallelism: u32) -> anyhow::Result<()> {
        let job = get(&format!("/jobs/{id}"))?;
        let vertices = job["vertices"].as_array().context("the job has no vertices")?;
        let bounds = json!({ "parallelism": { "lowerBound": 1, "upperBound": parallelism } });
        let wanted = vertices.iter().filter_map(|v| Some((v["id"].as_str()?.to_owned(), bounds.clone()))).collect();
        rest::put(&address(), &format!("/jobs/{id}/resource-requirements"), &Value::Object(wanted))?;
        let end = Instant::now() + RESCALE_TIMEOUT;
        let runs = |v: &Value| v["status"] == "RUNNING" && v["parallelism"] == parallelism;
        while !get(&format!("/jobs/{id}"))?["vertices"].as_array().is_some_and(|all| all.iter().all(runs)) {
            ensure!(Instant::now() < end, "Flink did not rescale to {parallelism} within {RESCALE_TIMEOUT:?}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }

    fn wait_until_finished(&self, id: &str) -> anyhow::Result<Duration> {
        loop {
            let job = get(&format!("/jobs/{id}"))?;
            match job["state"].as_str().unwrap_or_default() {
                "FINISHED" => {
                    let millis = job["duration"].as_u64().context("the job has no duration")?;
                    return Ok(Duration::from_millis(millis));
                }
                state @ ("FAILED" | "CANCELED") => {
                    bail!("Flink's job ended {state}: {}", get(&format!("/jobs/{id}/exceptions"))?)
                }
                _ => std::thread::park_timeout(Duration::from_millis(200)),
            }
        }
    }
}

/// Submits the script by a small Java program (the archive's own SQL client does not start without parts it lacks).
fn submit(installation: &Installation, script: &Path, folder: &Path) -> anyhow::Result<String> {
    let output = Command::new("java")
        .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .args(cluster::module_options())
        .arg(format!("-Dlog4j.configurationFile={}", folder.join("log4j.properties").display()))
        .arg("-cp")
        .arg(class_path(installation))
        .arg("SubmitSql")
        .arg(script)
        .arg(PORT.to_string())
        .output()?;
    ensure!(output.status.success(), "failed to submit to Flink: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .find_map(|l| l.strip_prefix("JOB "))
        .map(str::to_owned)
        .with_context(|| format!("no job id in: {text}"))
}

fn class_path(installation: &Installation) -> String {
    format!("{}:{}/lib/*", installation.classes.display(), installation.home.display())
}

/// Where downloads and builds are kept, outside the clone.
pub fn cache_folder() -> anyhow::Result<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    from("MILLSTREAM_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|d| d.join("millstream")))
        .or_else(|| from("HOME").map(|d| d.join(".cache/millstream")))
        .context("neither MILLSTREAM_CACHE, XDG_CACHE_HOME nor HOME is set")
}
