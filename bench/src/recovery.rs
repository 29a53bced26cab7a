//! From the end of a worker to the next output, with a free slot elsewhere and state of some size.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::scene::{Scene, SceneArguments, Setting};

#[derive(Debug, Args)]
pub struct RecoveryArguments {
    #[command(flatten)]
    pub scene: SceneArguments,
    /// Keys of state, about 120 bytes each.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u64,
    /// Events per second while a worker ends.
    #[arg(long, default_value_t = 5_000)]
    pub rate: u64,
    #[arg(long, default_value_t = 4)]
    pub workers: u32,
    /// Workers ended, one after the other.
    #[arg(long, default_value_t = 5)]
    pub runs: u32,
    /// Ask the worker to leave (SIGTERM) instead of killing it.
    #[arg(long)]
    pub politely: bool,
}

/// Between a recovery and the next kill.
const SETTLE: Duration = Duration::from_secs(4);
/// Output is looked at for so long after a kill.
const LOOK: Duration = Duration::from_secs(10);

pub fn run(bootstrap: &str, arguments: &RecoveryArguments) -> anyhow::Result<()> {
    let RecoveryArguments { scene: told, keys, rate, workers, runs, politely } = arguments;
    let setting = Setting {
        measure: "recovery",
        told,
        keys: *keys,
        rate: *rate,
        parallelism: *workers,
        workers: *workers,
        slots: 1,
    };
    let mut scene = Scene::start(bootstrap, setting)?;
    for run in 0..*runs {
        scene.cluster.add_worker(1)?;
        scene.wait_until_whole(workers + 1)?;
        scene.pause(SETTLE)?;
        let state_bytes = scene.state_bytes();
        let begin = Instant::now();
        scene.cluster.end_worker(0, *politely)?;
        scene.pause(LOOK)?;
        let more = json!({
            "politely": politely, "run": run, "state_mb_in_store": state_bytes.map(|b| b as f64 / 1e6),
            "coordinator": newest_restart(&scene.cluster.log()?),
        });
        println!("{}", scene.line(begin, more));
    }
    scene.end()
}

/// What took the time, as the coordinator's log says.
fn newest_restart(log: &str) -> Option<&str> {
    let (_, rest) = log.rsplit_once("tasks run after ")?;
    rest.lines().next()?.split_once(')').map(|(text, _)| text)
}
