//! How long output stays away when the parallelism changes while the job runs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::cluster::Cluster;
use crate::gaps::Watch;
use crate::keyed::{self, Feeder, Storage};
use crate::machine;
use crate::recovery::{newest_state_bytes, pause, wait, whole};

#[derive(Debug, Args)]
pub struct RescaleArguments {
    /// The `millstream` binary.
    #[arg(long)]
    pub binary: PathBuf,
    /// Keys of state, about 120 bytes each.
    #[arg(long, default_value_t = 10_000)]
    pub keys: u64,
    /// Events per second meanwhile.
    #[arg(long, default_value_t = 10_000)]
    pub rate: u64,
    #[arg(long, default_value = "1 s")]
    pub interval: String,
    /// From 2 to 4 and back, so many times.
    #[arg(long, default_value_t = 10)]
    pub runs: u32,
    /// Each worker has slots for so many; two of them.
    #[arg(long, default_value_t = 2)]
    pub slots: u32,
    /// Checkpoints on the S3 server of `MILLSTREAM_TEST_S3` instead of a folder.
    #[arg(long)]
    pub s3: bool,
}

const WORKERS: u32 = 2;
/// Between two changes.
const SETTLE: Duration = Duration::from_secs(3);

pub fn run(bootstrap: &str, arguments: &RescaleArguments) -> anyhow::Result<()> {
    keyed::fill(bootstrap, arguments.keys)?;
    let folder = tempfile::tempdir()?;
    let storage = if arguments.s3 { Storage::of_services("rescale")? } else { Storage::local(folder.path()) };
    let manifest = keyed::manifest(bootstrap, WORKERS, &arguments.interval, &storage);
    let uncommitted = Watch::start(bootstrap, keyed::OUTPUT, "read_uncommitted")?;
    let committed = Watch::start(bootstrap, keyed::OUTPUT, "read_committed")?;
    let mut cluster = Cluster::start(&arguments.binary, &manifest, &storage.environment)?;
    for _ in 0..WORKERS {
        cluster.add_worker(arguments.slots)?;
    }
    wait(&mut cluster, "a whole cluster", |cluster| whole(cluster, WORKERS * arguments.slots))?;
    wait(&mut cluster, "all keys", |_| committed.records() >= arguments.keys)?;
    let feeder = Feeder::start(bootstrap, arguments.keys, arguments.rate);
    for run in 0..arguments.runs * 2 {
        let parallelism = if run % 2 == 0 { 2 * WORKERS } else { WORKERS };
        pause(&mut cluster, SETTLE)?;
        let state_bytes = newest_state_bytes(&cluster);
        let begin = Instant::now();
        let said = cluster.rescale(parallelism, &format!("run-{run}"))?;
        let took = begin.elapsed();
        pause(&mut cluster, SETTLE)?;
        let line = json!({
            "engine": "millstream", "measure": "rescale", "run": run, "to": parallelism, "keys": arguments.keys,
            "state_mb_in_store": state_bytes.map(|b| b as f64 / 1e6), "checkpoint_interval": arguments.interval,
            "s3": arguments.s3, "rate": arguments.rate, "coordinator": said, "took_ms": took.as_millis() as u64,
            "gap_at_least_once_ms": uncommitted.longest_gap(begin).as_millis() as u64,
            "gap_committed_ms": committed.longest_gap(begin).as_millis() as u64,
            "machine": machine::facts(),
        });
        println!("{line}");
    }
    feeder.end()
}
