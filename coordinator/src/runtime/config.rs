//! The job master's settings from the resource.

use std::sync::Arc;

use millstream_api::flinkjob::FlinkJob;
use millstream_api::graph::JobGraph;
use millstream_api::log::{Address, Owner};

use crate::job::{CheckpointConfig, JobConfig, Limits};

/// Settings for `job` with its compiled graph, run by `owner`.
///
/// # Errors
/// When the system gives no random numbers: then nonces could repeat.
pub fn job_config(
    job: &FlinkJob,
    graph: Arc<JobGraph>,
    owner: Owner,
    address: Address,
) -> Result<JobConfig, getrandom::Error> {
    let mut seed = [0u8; 8];
    getrandom::fill(&mut seed)?;
    let spec = &job.spec;
    let checkpoint = &spec.checkpoint;
    Ok(JobConfig {
        path: job.path(),
        graph,
        parallelism: spec.parallelism,
        max_parallelism: spec.max_parallelism,
        // The parallelism may have been set lower on the command line.
        min_parallelism: spec.min_parallelism.unwrap_or(spec.parallelism).min(spec.parallelism),
        slot_timeout_ms: spec.slot_timeout.as_millis(),
        standby: address.listen.is_some(),
        owner,
        address,
        checkpoint: CheckpointConfig {
            interval_ms: checkpoint.interval.as_millis(),
            timeout_ms: checkpoint.timeout.as_millis(),
            min_pause_ms: checkpoint.min_pause.as_millis(),
            tolerable_failures: checkpoint.tolerable_failures,
            retained: checkpoint.retained,
        },
        restart: spec.restart.clone(),
        restore: spec.restore.clone(),
        limits: Limits::default(),
        seed: u64::from_le_bytes(seed),
    })
}
