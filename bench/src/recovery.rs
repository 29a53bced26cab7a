//! From the end of a worker to the next output, with a free slot elsewhere and state of some size.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;
use serde_json::json;

use crate::cluster::Cluster;
use crate::gaps::Watch;
use crate::keyed::{self, Feeder, Storage};
use crate::machine;

#[derive(Debug, Args)]
pub struct RecoveryArguments {
    /// The `millstream` binary.
    #[arg(long)]
    pub binary: PathBuf,
    /// Keys of state, about 120 bytes each.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u64,
    /// Events per second while a worker ends.
    #[arg(long, default_value_t = 5_000)]
    pub rate: u64,
    #[arg(long, default_value_t = 4)]
    pub workers: u32,
    #[arg(long, default_value = "1 s")]
    pub interval: String,
    /// Workers ended, one after the other.
    #[arg(long, default_value_t = 5)]
    pub runs: u32,
    /// Ask the worker to leave (SIGTERM) instead of killing it.
    #[arg(long)]
    pub politely: bool,
    /// Checkpoints on the S3 server of `MILLSTREAM_TEST_S3` instead of a folder.
    #[arg(long)]
    pub s3: bool,
}

/// For whatever is waited for.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between a recovery and the next kill.
const SETTLE: Duration = Duration::from_secs(4);
/// Output is looked at for so long after a kill.
const LOOK: Duration = Duration::from_secs(10);

pub fn run(bootstrap: &str, arguments: &RecoveryArguments) -> anyhow::Result<()> {
    keyed::fill(bootstrap, arguments.keys)?;
    let folder = tempfile::tempdir()?;
    let storage = if arguments.s3 { Storage::of_services("recovery")? } else { Storage::local(folder.path()) };
    let manifest = keyed::manifest(bootstrap, arguments.workers, &arguments.interval, &storage);
    let watches = [("uncommitted", "read_uncommitted"), ("committed", "read_committed")]
        .map(|(name, isolation)| (name, Watch::start(bootstrap, keyed::OUTPUT, isolation)));
    let [(_, uncommitted), (_, committed)] = watches;
    let (uncommitted, committed) = (uncommitted?, committed?);
    let mut cluster = Cluster::start(&arguments.binary, &manifest, &storage.environment)?;
    for _ in 0..arguments.workers {
        cluster.add_worker(1)?;
    }
    wait(&mut cluster, "all keys", |_| committed.records() >= arguments.keys)?;
    let feeder = Feeder::start(bootstrap, arguments.keys, arguments.rate);
    for run in 0..arguments.runs {
        cluster.add_worker(1)?;
        wait(&mut cluster, "a spare worker", |cluster| whole(cluster, arguments.workers + 1))?;
        pause(&mut cluster, SETTLE)?;
        let state_bytes = newest_state_bytes(&cluster);
        let begin = Instant::now();
        cluster.end_worker(0, arguments.politely)?;
        pause(&mut cluster, LOOK)?;
        let line = json!({
            "engine": "millstream", "measure": "recovery", "politely": arguments.politely, "run": run, "keys": arguments.keys,
            "state_mb_in_store": state_bytes.map(|b| b as f64 / 1e6), "checkpoint_interval": arguments.interval,
            "s3": arguments.s3, "workers": arguments.workers, "rate": arguments.rate,
            "coordinator": newest_restart(&cluster.log()?),
            "gap_at_least_once_ms": uncommitted.longest_gap(begin).as_millis() as u64,
            "gap_committed_ms": committed.longest_gap(begin).as_millis() as u64,
            "machine": machine::facts(),
        });
        println!("{line}");
    }
    feeder.end()
}

pub fn pause(cluster: &mut Cluster, time: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    wait(cluster, "the end of a pause", |_| Instant::now() > end)
}

pub fn wait(cluster: &mut Cluster, what: &str, mut done: impl FnMut(&Cluster) -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    while !done(cluster) {
        cluster.check()?;
        ensure!(Instant::now() < end, "{what} did not come within {PATIENCE:?}: {}", cluster.log()?);
        std::thread::park_timeout(Duration::from_millis(50));
    }
    Ok(())
}

pub fn whole(cluster: &Cluster, slots: u32) -> bool {
    cluster.status().is_some_and(|status| status["state"] == "RUNNING" && status["slots"] == slots)
}

/// What took the time, as the coordinator's log says.
fn newest_restart(log: &str) -> Option<&str> {
    let (_, rest) = log.rsplit_once("tasks run after ")?;
    rest.lines().next()?.split_once(')').map(|(text, _)| text)
}

/// What a restore reads.
pub fn newest_state_bytes(cluster: &Cluster) -> Option<u64> {
    let status = cluster.status()?;
    status["checkpoints"]["history"].as_array()?.iter().find_map(|checkpoint| checkpoint["stateBytes"].as_u64())
}
