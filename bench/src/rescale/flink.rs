//! The same change on Flink: its adaptive scheduler, asked by REST while the job runs.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};

use super::{FEW, RescaleArguments, SETTLE, parallelism};
use crate::flink::{Cluster, Installation};
use crate::gaps::Readers;
use crate::keyed::{self, Feeder};
use crate::machine;

/// A change is not held back for what may follow it, as it is by default: the time that is measured is the change's own.
const ADAPTIVE: &str = "jobmanager.scheduler: adaptive
jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling: 0 s
jobmanager.adaptive-scheduler.executing.resource-stabilization-timeout: 0 s
jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout: 0 s
";

/// For the first checkpoint with all keys.
const PATIENCE: Duration = Duration::from_secs(180);

pub(super) fn run(bootstrap: &str, arguments: &RescaleArguments) -> anyhow::Result<()> {
    let RescaleArguments { scene, keys, rate, runs, .. } = arguments;
    let interval = &scene.interval;
    keyed::fill(bootstrap, *keys)?;
    let readers = Readers::start(bootstrap, keyed::OUTPUT)?;
    let installation = Installation::obtain()?;
    let cluster = Cluster::start(&installation, 2 * FEW, ADAPTIVE)?;
    let script = format!(
        "SET 'parallelism.default' = '{FEW}';\nSET 'execution.checkpointing.interval' = '{interval}';\n{}",
        keyed::statements(bootstrap)
    );
    let id = cluster.start_sql(&installation, &script)?;
    let end = Instant::now() + PATIENCE;
    while readers.committed() < *keys {
        ensure!(Instant::now() < end, "Flink did not write all keys within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let feeder = Feeder::start(bootstrap, *keys, *rate);
    for run in 0..runs * 2 {
        let parallelism = parallelism(run);
        std::thread::park_timeout(SETTLE);
        let begin = Instant::now();
        cluster.rescale(&id, parallelism)?;
        let took = begin.elapsed();
        std::thread::park_timeout(SETTLE);
        let mut line = json!({
            "engine": "flink", "measure": "rescale", "keys": keys, "checkpoint_interval": interval, "rate": rate, "run": run,
            "to": parallelism, "took_ms": took.as_millis() as u64, "machine": machine::facts(),
        });
        if let (Value::Object(line), Value::Object(gaps)) = (&mut line, readers.longest_gaps(begin)) {
            line.extend(gaps);
        }
        println!("{line}");
    }
    feeder.end()
}
