//! The keyed job in processes of its own, with a reader of each isolation: what recoveries, changes and savepoints are measured on.
//!
//! Owns: how it is set up, waiting for it. Does not own: what is done to it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::gaps::Readers;
use crate::keyed::{self, Feeder, Storage};
use crate::machine;

/// For whatever is waited for.
const PATIENCE: Duration = Duration::from_secs(180);

/// What every measurement is told.
#[derive(Debug, Args)]
pub struct SceneArguments {
    /// The `millstream` binary.
    #[arg(long)]
    binary: PathBuf,
    /// Between checkpoints.
    #[arg(long, default_value = "1 s")]
    pub interval: String,
    /// What is stored goes to the S3 server of `MILLSTREAM_TEST_S3` instead of a folder.
    #[arg(long)]
    pub s3: bool,
}

/// What differs between measurements.
pub struct Setting<'a> {
    pub measure: &'static str,
    pub told: &'a SceneArguments,
    /// Of state.
    pub keys: u64,
    /// Events per second.
    pub rate: u64,
    pub parallelism: u32,
    pub workers: u32,
    /// Of each worker.
    pub slots: u32,
}

/// A running job. It ends when it is dropped.
pub struct Scene<'a> {
    setting: Setting<'a>,
    pub cluster: Cluster,
    readers: Readers,
    feeder: Feeder,
    /// Of checkpoints that lie on this machine.
    folder: TempDir,
}

impl<'a> Scene<'a> {
    /// The job with all of its keys in the state, and events coming.
    pub fn start(bootstrap: &str, setting: Setting<'a>) -> anyhow::Result<Self> {
        keyed::fill(bootstrap, setting.keys)?;
        let folder = tempfile::tempdir()?;
        let SceneArguments { binary, interval, s3 } = setting.told;
        let storage = if *s3 { Storage::of_services(setting.measure)? } else { Storage::local(folder.path()) };
        let manifest = keyed::manifest(bootstrap, setting.parallelism, interval, &storage);
        let readers = Readers::start(bootstrap, keyed::OUTPUT)?;
        let mut cluster = Cluster::start(binary, &manifest, &storage.environment)?;
        for _ in 0..setting.workers {
            cluster.add_worker(setting.slots)?;
        }
        wait(&mut cluster, "all keys", |_| readers.committed() >= setting.keys)?;
        let feeder = Feeder::start(bootstrap, setting.keys, setting.rate);
        Ok(Self { setting, cluster, readers, feeder, folder })
    }

    /// Where something may be put on this machine.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn wait_until_whole(&mut self, slots: u32) -> anyhow::Result<()> {
        let whole = |status: Value| status["state"] == "RUNNING" && status["slots"] == slots;
        wait(&mut self.cluster, "a whole cluster", |cluster| cluster.status().is_some_and(whole))
    }

    pub fn pause(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        wait(&mut self.cluster, "the end of a pause", |_| Instant::now() > end)
    }

    /// What a restore reads.
    pub fn state_bytes(&self) -> Option<u64> {
        let status = self.cluster.status()?;
        status["checkpoints"]["history"].as_array()?.iter().find_map(|checkpoint| checkpoint["stateBytes"].as_u64())
    }

    /// Records that the job has written.
    pub fn written(&self) -> u64 {
        self.readers.written()
    }

    /// For how long a task's processing stood still at a barrier, for all tasks of the checkpoints that the status still shows.
    pub fn stalls(&self) -> Vec<Duration> {
        let status = self.cluster.status().unwrap_or_default();
        let history = status["checkpoints"]["history"].as_array().cloned().unwrap_or_default();
        let tasks = history.iter().filter_map(|checkpoint| checkpoint["tasks"].as_array()).flatten();
        tasks.filter_map(|task| task["stallUs"].as_u64()).map(Duration::from_micros).collect()
    }

    /// The gaps since `begin` with all that stays the same, and `more`.
    pub fn line(&self, begin: Instant, more: Value) -> Value {
        let Setting { measure, keys, rate, workers, told, .. } = &self.setting;
        let mut line = json!({
            "engine": "millstream", "measure": measure, "keys": keys, "checkpoint_interval": told.interval, "s3": told.s3,
            "workers": workers, "rate": rate, "machine": machine::facts(),
        });
        for part in [self.readers.longest_gaps(begin), more] {
            if let (Value::Object(line), Value::Object(part)) = (&mut line, part) {
                line.extend(part);
            }
        }
        line
    }

    /// Fails if the events could not be sent.
    pub fn end(self) -> anyhow::Result<()> {
        self.feeder.end()
    }
}

fn wait(cluster: &mut Cluster, what: &str, mut done: impl FnMut(&Cluster) -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    while !done(cluster) {
        cluster.check()?;
        ensure!(Instant::now() < end, "{what} did not come within {PATIENCE:?}: {}", cluster.log()?);
        std::thread::park_timeout(Duration::from_millis(50));
    }
    Ok(())
}
