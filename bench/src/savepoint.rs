//! How long a savepoint takes, and how long output stays away meanwhile.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::scene::{Scene, Setting};

#[derive(Debug, Args)]
pub struct SavepointArguments {
    /// The `millstream` binary.
    #[arg(long)]
    pub binary: PathBuf,
    /// Keys of state, about 120 bytes each.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u64,
    /// Events per second meanwhile.
    #[arg(long, default_value_t = 10_000)]
    pub rate: u64,
    #[arg(long, default_value = "1 s")]
    pub interval: String,
    /// Savepoints, one after the other.
    #[arg(long, default_value_t = 5)]
    pub runs: u32,
    /// Checkpoints and savepoints on the S3 server of `MILLSTREAM_TEST_S3` instead of a folder.
    #[arg(long)]
    pub s3: bool,
}

const WORKERS: u32 = 2;
/// Between two savepoints.
const SETTLE: Duration = Duration::from_secs(3);

pub fn run(bootstrap: &str, arguments: &SavepointArguments) -> anyhow::Result<()> {
    let SavepointArguments { binary, keys, rate, interval, runs, s3 } = arguments;
    let setting = Setting {
        measure: "savepoint",
        binary,
        keys: *keys,
        rate: *rate,
        interval,
        s3: *s3,
        parallelism: WORKERS,
        workers: WORKERS,
        slots: 1,
    };
    let mut scene = Scene::start(bootstrap, setting)?;
    for run in 0..*runs {
        scene.pause(SETTLE)?;
        let bytes = scene.state_bytes();
        // Beside the job's checkpoints, in S3; on this machine in a folder of its own.
        let folder = if *s3 { String::new() } else { scene.folder().join("savepoints").to_string_lossy().into_owned() };
        let begin = Instant::now();
        let said = scene.cluster.savepoint(&folder, &format!("run-{run}"))?;
        let took = begin.elapsed();
        scene.pause(SETTLE)?;
        let megabytes = bytes.map(|bytes| bytes as f64 / 1e6);
        let more = json!({
            "run": run, "state_mb_in_store": megabytes, "took_ms": took.as_millis() as u64, "coordinator": said,
            "mb_per_s": megabytes.map(|megabytes| megabytes / took.as_secs_f64()),
        });
        println!("{}", scene.line(begin, more));
    }
    scene.end()
}
