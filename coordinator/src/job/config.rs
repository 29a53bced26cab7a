//! What a job master is told before it begins.

use std::sync::Arc;

use millstream_api::flinkjob::{RestartSpec, RestoreSpec};
use millstream_api::graph::{DeliveryGuarantee, JobGraph, SinkConnector, TransformKind};
use millstream_api::log::{Address, Owner};
use thiserror::Error;

use super::message::Millis;

/// A sink task's pool of producers without failures: one writes, one waits for its commit, one is named by the newest
/// manifest and rests (protocol section 4).
const TRANSACTION_POOL: u32 = 3;
/// Bound on the part of the pool that aborted epochs need.
const TRANSACTION_POOL_EXTRA_MAX: u32 = 16;
/// `transaction.timeout.ms` when the table does not set it (Flink's connector wants an hour, brokers allow 15 minutes).
pub const TRANSACTION_TIMEOUT_DEFAULT_MS: Millis = 15 * 60 * 1000;

/// A job, as its master sees it.
#[derive(Clone, Debug)]
pub struct JobConfig {
    /// `<namespace>/<job>`: the job's folder below the store's root.
    pub path: String,
    pub graph: Arc<JobGraph>,
    pub parallelism: u32,
    pub max_parallelism: u32,
    /// With so many slots it begins once `slot_timeout_ms` is over; at most `parallelism`.
    pub min_parallelism: u32,
    /// How long to wait for slots for `parallelism` tasks of each vertex.
    pub slot_timeout_ms: Millis,
    pub owner: Owner,
    pub address: Address,
    /// While another coordinator of the same owner rules: wait for its end, instead of being refused.
    pub standby: bool,
    pub checkpoint: CheckpointConfig,
    pub restart: RestartSpec,
    pub restore: RestoreSpec,
    pub limits: Limits,
    /// From the system's randomness; nonces and jitter come from it. Two coordinators never share one.
    pub seed: u64,
}

/// When checkpoints are taken and which are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointConfig {
    pub interval_ms: Millis,
    pub timeout_ms: Millis,
    pub min_pause_ms: Millis,
    /// In a row.
    pub tolerable_failures: u32,
    /// At least 1.
    pub retained: u32,
}

/// A coordinator answers from memory: one that needs longer hangs, or its machine does.
pub const PROBE_TIMEOUT_MS: Millis = 1_000;

/// Bounds on waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For the broker to commit, abort or fence what it was asked to.
    pub commit_timeout_ms: Millis,
    /// For workers to say what they run, after this coordinator took the job over.
    pub inspect_timeout_ms: Millis,
    /// A coordinator that nobody heard for so long is gone, as far as a standby can tell.
    pub leader_silence_ms: Millis,
    /// Between two questions of a standby to the coordinator that rules.
    pub probe_interval_ms: Millis,
    /// For the answer to such a question.
    pub probe_timeout_ms: Millis,
    /// For the workers to build and restore their tasks, or to get ready for others, since anything was read for that last.
    pub deploy_timeout_ms: Millis,
    /// After a restart, before the first checkpoint where that is overdue: sources deliver by then.
    pub read_again_ms: Millis,
    /// A coordinator that did not look at the time for so long stood still, and its workers may have given it up: half of
    /// their limit of silence, for the last heartbeat was some time before.
    pub standstill_ms: Millis,
    /// From the request to stop to the end, whatever is missing then.
    pub stop_timeout_ms: Millis,
    /// For the store to answer before the job runs. Once it runs it waits for the store without end, sources paused.
    pub store_patience_ms: Millis,
    /// For a job that never sealed anything to come up, whatever its restart strategy.
    pub first_run_patience_ms: Millis,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            commit_timeout_ms: 60_000,
            inspect_timeout_ms: 3_000,
            leader_silence_ms: 3_000,
            probe_interval_ms: 500,
            probe_timeout_ms: PROBE_TIMEOUT_MS,
            deploy_timeout_ms: 300_000,
            read_again_ms: 200,
            standstill_ms: 1_500,
            stop_timeout_ms: 60_000,
            store_patience_ms: 30_000,
            first_run_patience_ms: 30_000,
        }
    }
}

/// Settings that cannot work together.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    #[error("minParallelism {min_parallelism} is not between 1 and parallelism {parallelism}")]
    MinParallelism { min_parallelism: u32, parallelism: u32 },
    #[error("spec.restore names a checkpoint (from) and a savepoint: a job starts from one of them")]
    TwoRestores,
    #[error("checkpoint.interval must be at least 1 ms")]
    NoInterval,
    #[error("parallelism {parallelism} is not between 1 and maxParallelism {max_parallelism}")]
    Parallelism { parallelism: u32, max_parallelism: u32 },
    #[error(
        "sink {table}: transaction.timeout.ms = {timeout_ms} is too short: checkpoint.interval ({interval_ms} ms) must be \
         below its half, and interval plus checkpoint.timeout ({checkpoint_timeout_ms} ms) below the whole; raise \
         properties.transaction.timeout.ms (and the broker's transaction.max.timeout.ms) or shorten the others"
    )]
    TransactionTimeout { table: String, timeout_ms: Millis, interval_ms: Millis, checkpoint_timeout_ms: Millis },
    #[error("sink {table}: properties.transaction.timeout.ms = '{value}' is not a number of milliseconds")]
    TransactionTimeoutText { table: String, value: String },
}

impl JobConfig {
    /// Producers per exactly-once sink task.
    #[must_use]
    pub fn transaction_pool(&self) -> u32 {
        TRANSACTION_POOL + self.checkpoint.tolerable_failures.min(TRANSACTION_POOL_EXTRA_MAX)
    }

    /// The shortest transaction time-out of the exactly-once sinks; `None`: there are none.
    ///
    /// # Errors
    /// When the settings of the job cannot work together.
    pub fn validate(&self) -> Result<Option<Millis>, ConfigError> {
        let (parallelism, max_parallelism) = (self.parallelism, self.max_parallelism);
        if parallelism == 0 || parallelism > max_parallelism {
            return Err(ConfigError::Parallelism { parallelism, max_parallelism });
        }
        let min_parallelism = self.min_parallelism;
        if min_parallelism == 0 || min_parallelism > parallelism {
            return Err(ConfigError::MinParallelism { min_parallelism, parallelism });
        }
        if self.restore.from.is_some() && self.restore.savepoint.is_some() {
            return Err(ConfigError::TwoRestores);
        }
        if self.checkpoint.interval_ms == 0 {
            return Err(ConfigError::NoInterval);
        }
        let mut shortest: Option<Millis> = None;
        for transform in &self.graph.transforms {
            let TransformKind::Sink(sink) = &transform.kind else { continue };
            let (guarantee, properties) = match &sink.connector {
                SinkConnector::Kafka(kafka) => (kafka.guarantee, &kafka.properties),
                SinkConnector::UpsertKafka(kafka) => (kafka.guarantee, &kafka.properties),
                SinkConnector::Print(_) | SinkConnector::Blackhole => continue,
            };
            if guarantee != DeliveryGuarantee::ExactlyOnce {
                continue;
            }
            let timeout_ms = match properties.get("transaction.timeout.ms") {
                None => TRANSACTION_TIMEOUT_DEFAULT_MS,
                Some(text) => text.trim().parse().map_err(|_| ConfigError::TransactionTimeoutText {
                    table: sink.table.clone(),
                    value: text.clone(),
                })?,
            };
            let (interval_ms, checkpoint_timeout_ms) = (self.checkpoint.interval_ms, self.checkpoint.timeout_ms);
            if interval_ms * 2 >= timeout_ms || interval_ms.saturating_add(checkpoint_timeout_ms) > timeout_ms {
                let table = sink.table.clone();
                return Err(ConfigError::TransactionTimeout { table, timeout_ms, interval_ms, checkpoint_timeout_ms });
            }
            shortest = Some(shortest.map_or(timeout_ms, |s| s.min(timeout_ms)));
        }
        Ok(shortest)
    }
}
