//! How long output stays away when the parallelism changes while the job runs.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::scene::{Scene, SceneArguments, Setting};

mod flink;

#[derive(Debug, Args)]
pub struct RescaleArguments {
    #[command(flatten)]
    pub scene: SceneArguments,
    /// Keys of state, about 120 bytes each.
    #[arg(long, default_value_t = 10_000)]
    pub keys: u64,
    /// Events per second meanwhile.
    #[arg(long, default_value_t = 10_000)]
    pub rate: u64,
    /// From 2 to 4 and back, so many times.
    #[arg(long, default_value_t = 10)]
    pub runs: u32,
    /// With two workers of two slots no state leaves its worker, with four of one slot half of it does.
    #[arg(long, default_value_t = 2)]
    pub workers: u32,
    /// Of each worker.
    #[arg(long, default_value_t = 2)]
    pub slots: u32,
    /// The same with Flink's adaptive scheduler afterwards.
    #[arg(long)]
    pub flink: bool,
}

/// The job has so many tasks of each kind, and twice as many.
const FEW: u32 = 2;
/// Between two changes.
const SETTLE: Duration = Duration::from_secs(3);

pub fn run(bootstrap: &str, arguments: &RescaleArguments) -> anyhow::Result<()> {
    run_millstream(bootstrap, arguments)?;
    if arguments.flink { flink::run(bootstrap, arguments) } else { Ok(()) }
}

/// The parallelism of the run of this number.
fn parallelism(run: u32) -> u32 {
    if run.is_multiple_of(2) { 2 * FEW } else { FEW }
}

fn run_millstream(bootstrap: &str, arguments: &RescaleArguments) -> anyhow::Result<()> {
    let RescaleArguments { scene: told, keys, rate, runs, workers, slots, flink: _ } = arguments;
    let setting = Setting {
        measure: "rescale",
        told,
        keys: *keys,
        rate: *rate,
        parallelism: FEW,
        workers: *workers,
        slots: *slots,
    };
    let mut scene = Scene::start(bootstrap, setting)?;
    scene.wait_until_whole(workers * slots)?;
    for run in 0..runs * 2 {
        let parallelism = parallelism(run);
        scene.pause(SETTLE)?;
        let state_bytes = scene.state_bytes();
        let begin = Instant::now();
        let said = scene.cluster.rescale(parallelism, &format!("run-{run}"))?;
        let took = begin.elapsed();
        scene.pause(SETTLE)?;
        let more = json!({
            "run": run, "to": parallelism, "state_mb_in_store": state_bytes.map(|b| b as f64 / 1e6), "coordinator": said,
            "took_ms": took.as_millis() as u64,
        });
        println!("{}", scene.line(begin, more));
    }
    scene.end()
}
