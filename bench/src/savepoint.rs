//! How long a savepoint takes, how long output stays away and how much less is written meanwhile; and for how long barriers
//! hold tasks up with that much state.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::scene::{Scene, SceneArguments, Setting};

#[derive(Debug, Args)]
pub struct SavepointArguments {
    #[command(flatten)]
    pub scene: SceneArguments,
    /// Keys of state, about 120 bytes each.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u64,
    /// Events per second meanwhile.
    #[arg(long, default_value_t = 10_000)]
    pub rate: u64,
    /// Savepoints, one after the other.
    #[arg(long, default_value_t = 5)]
    pub runs: u32,
}

const WORKERS: u32 = 2;
/// Between two savepoints.
const SETTLE: Duration = Duration::from_secs(3);

pub fn run(bootstrap: &str, arguments: &SavepointArguments) -> anyhow::Result<()> {
    let SavepointArguments { scene: told, keys, rate, runs } = arguments;
    let setting = Setting {
        measure: "savepoint",
        told,
        keys: *keys,
        rate: *rate,
        parallelism: WORKERS,
        workers: WORKERS,
        slots: 1,
    };
    let mut scene = Scene::start(bootstrap, setting)?;
    for run in 0..*runs {
        // The checkpoint with all keys is not of the time that is measured.
        scene.pause(SETTLE)?;
        let (before, settling) = (scene.written(), Instant::now());
        scene.pause(SETTLE)?;
        let rate_before = per_second(scene.written() - before, settling);
        // Beside the job's checkpoints, in S3; on this machine in a folder of its own.
        let folder =
            if told.s3 { String::new() } else { scene.folder().join("savepoints").to_string_lossy().into_owned() };
        let (before, begin) = (scene.written(), Instant::now());
        let said = scene.cluster.savepoint(&folder, &format!("run-{run}"))?;
        let took = begin.elapsed();
        let rate_meanwhile = per_second(scene.written() - before, begin);
        let bytes = scene.state_bytes();
        scene.pause(SETTLE)?;
        let megabytes = bytes.map(|bytes| bytes as f64 / 1e6);
        let more = json!({
            "run": run, "state_mb_in_store": megabytes, "took_ms": took.as_millis() as u64, "coordinator": said,
            "mb_per_s": megabytes.map(|megabytes| megabytes / took.as_secs_f64()),
            "records_per_s_before": rate_before, "records_per_s_meanwhile": rate_meanwhile,
            "stall_p99_us": p99(scene.stalls()).map(|stall| stall.as_micros() as u64),
        });
        println!("{}", scene.line(begin, more));
    }
    scene.end()
}

fn per_second(records: u64, since: Instant) -> u64 {
    (records as f64 / since.elapsed().as_secs_f64()) as u64
}

fn p99(mut all: Vec<Duration>) -> Option<Duration> {
    all.sort_unstable();
    all.get((all.len() * 99 / 100).min(all.len().saturating_sub(1))).copied()
}
