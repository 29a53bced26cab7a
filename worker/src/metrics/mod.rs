//! Counters of running tasks, cheap to write from the hot loop and readable from any thread.
//!
//! Owns: the atomics per task and a snapshot of them. Does not own: names and formats of an exporter (the cli maps
//! these to Flink-like names: `numRecordsIn`, `numRecordsOut`, `currentInputWatermark`, `busyTimeMsPerSecond`, ...).

mod shuffle;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use millstream_api::ids::{TaskId, TransformUid};

use crate::element::{WATERMARK_MIN, WatermarkMs};
pub use shuffle::{ShuffleMetrics, ShuffleReadings};

/// What one task counts. Written by its slot only, so every update is a relaxed load and store at most.
#[derive(Debug)]
pub struct TaskMetrics {
    pub task: TaskId,
    /// Names of the transforms of the chain, for people.
    pub name: String,
    pub role: TaskRole,
    records_in: AtomicU64,
    records_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    sink_records: AtomicU64,
    watermark: AtomicI64,
    lag_records: AtomicU64,
    skipped_records: AtomicU64,
    busy_us: AtomicU64,
    idle_us: AtomicU64,
    backpressured_us: AtomicU64,
    alignment_us: AtomicU64,
    checkpoints: AtomicU64,
    transforms: RwLock<BTreeMap<TransformUid, Vec<(&'static str, u64)>>>,
}

/// Where a task stands in the job: its rows are the job's input, or its sinks' rows the job's output, or neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskRole {
    pub has_source: bool,
    pub has_sink: bool,
}

/// Values of one task at one moment. Times are totals since the task's first deployment in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskReadings {
    pub task: TaskId,
    pub name: String,
    pub role: TaskRole,
    /// Rows that a source read, or that came in over channels.
    pub records_in: u64,
    /// Rows sent to channels and written to sinks.
    pub records_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Rows written to sinks.
    pub sink_records: u64,
    /// `None` before the first watermark.
    pub watermark: Option<WatermarkMs>,
    /// Records between the reader and the end of its splits, where the connector can tell.
    pub lag_records: Option<u64>,
    /// Records that could not be decoded and were skipped.
    pub skipped_records: u64,
    pub busy_ms: u64,
    pub idle_ms: u64,
    pub backpressured_ms: u64,
    /// How long the last alignment of barriers took.
    pub alignment_ms: u64,
    /// Epochs that this task acknowledged.
    pub checkpoints: u64,
    /// Counters that transforms keep themselves, e.g. late records, by transform.
    pub transforms: BTreeMap<TransformUid, Vec<(&'static str, u64)>>,
}

/// No lag is known.
const LAG_UNKNOWN: u64 = u64::MAX;

impl TaskMetrics {
    #[must_use]
    pub fn new(task: TaskId, name: String, role: TaskRole) -> Self {
        Self {
            task,
            name,
            role,
            records_in: AtomicU64::new(0),
            records_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            sink_records: AtomicU64::new(0),
            watermark: AtomicI64::new(WATERMARK_MIN),
            lag_records: AtomicU64::new(LAG_UNKNOWN),
            skipped_records: AtomicU64::new(0),
            busy_us: AtomicU64::new(0),
            idle_us: AtomicU64::new(0),
            backpressured_us: AtomicU64::new(0),
            alignment_us: AtomicU64::new(0),
            checkpoints: AtomicU64::new(0),
            transforms: RwLock::new(BTreeMap::new()),
        }
    }

    pub(crate) fn add_in(&self, records: usize, bytes: usize) {
        add(&self.records_in, records as u64);
        add(&self.bytes_in, bytes as u64);
    }

    pub(crate) fn add_out(&self, records: usize, bytes: usize) {
        add(&self.records_out, records as u64);
        add(&self.bytes_out, bytes as u64);
    }

    pub(crate) fn add_sink(&self, records: usize) {
        add(&self.sink_records, records as u64);
    }

    pub(crate) fn set_watermark(&self, watermark: WatermarkMs) {
        self.watermark.store(watermark, Ordering::Relaxed);
    }

    pub(crate) fn set_source(&self, lag_records: Option<u64>, skipped_records: u64) {
        self.lag_records.store(lag_records.unwrap_or(LAG_UNKNOWN), Ordering::Relaxed);
        self.skipped_records.store(skipped_records, Ordering::Relaxed);
    }

    pub(crate) fn add_busy_us(&self, us: u64) {
        add(&self.busy_us, us);
    }

    pub(crate) fn add_idle_us(&self, us: u64) {
        add(&self.idle_us, us);
    }

    pub(crate) fn add_backpressured_us(&self, us: u64) {
        add(&self.backpressured_us, us);
    }

    pub(crate) fn set_alignment_us(&self, us: u64) {
        self.alignment_us.store(us, Ordering::Relaxed);
    }

    pub(crate) fn add_checkpoint(&self) {
        add(&self.checkpoints, 1);
    }

    /// Takes a lock: at barriers and when idle, not per batch.
    pub(crate) fn set_transform(&self, uid: &TransformUid, counters: Vec<(&'static str, u64)>) {
        self.transforms.write().unwrap_or_else(PoisonError::into_inner).insert(uid.clone(), counters);
    }

    /// The values now. They are read one after the other, not at one instant.
    #[must_use]
    pub fn read(&self) -> TaskReadings {
        let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
        let watermark = self.watermark.load(Ordering::Relaxed);
        TaskReadings {
            task: self.task,
            name: self.name.clone(),
            role: self.role,
            records_in: get(&self.records_in),
            records_out: get(&self.records_out),
            bytes_in: get(&self.bytes_in),
            bytes_out: get(&self.bytes_out),
            sink_records: get(&self.sink_records),
            watermark: (watermark != WATERMARK_MIN).then_some(watermark),
            lag_records: Some(get(&self.lag_records)).filter(|l| *l != LAG_UNKNOWN),
            skipped_records: get(&self.skipped_records),
            busy_ms: get(&self.busy_us) / 1_000,
            idle_ms: get(&self.idle_us) / 1_000,
            backpressured_ms: get(&self.backpressured_us) / 1_000,
            alignment_ms: get(&self.alignment_us) / 1_000,
            checkpoints: get(&self.checkpoints),
            transforms: self.transforms.read().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// One writer per counter: a load and a store are enough, and cheaper than an atomic addition.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

/// The tasks of this worker. Counters go on over a reset or a new deployment of the same task.
#[derive(Debug, Default)]
pub struct JobMetrics {
    /// Of the connections to other workers.
    pub shuffle: Arc<ShuffleMetrics>,
    tasks: RwLock<BTreeMap<TaskId, Arc<TaskMetrics>>>,
}

impl JobMetrics {
    /// The counters of a task: those it had, or new ones. The same id of another graph begins anew.
    pub(crate) fn task(&self, task: TaskId, name: &str, role: TaskRole) -> Arc<TaskMetrics> {
        let mut tasks = self.tasks.write().unwrap_or_else(PoisonError::into_inner);
        let known = tasks.get(&task).filter(|m| m.name == name && m.role == role);
        let metrics = known.cloned().unwrap_or_else(|| Arc::new(TaskMetrics::new(task, name.to_owned(), role)));
        tasks.insert(task, Arc::clone(&metrics));
        metrics
    }

    /// Forgets tasks that are not in `running`.
    pub(crate) fn retain(&self, running: &[TaskId]) {
        self.tasks.write().unwrap_or_else(PoisonError::into_inner).retain(|task, _| running.contains(task));
    }

    /// All tasks' values, by task.
    #[must_use]
    pub fn read(&self) -> Vec<TaskReadings> {
        self.tasks.read().unwrap_or_else(PoisonError::into_inner).values().map(|m| m.read()).collect()
    }
}

#[cfg(test)]
mod tests {
    use millstream_api::ids::VertexId;

    use super::*;

    #[test]
    fn counters_outlive_a_new_deployment_of_the_same_task_only() {
        let job = JobMetrics::default();
        let id = TaskId { vertex: VertexId(1), index: 0 };
        job.task(id, "scan", TaskRole::default()).add_in(5, 40);
        job.task(id, "scan", TaskRole::default()).add_in(5, 40);
        assert_eq!(job.read()[0].records_in, 10);
        assert_eq!(job.task(id, "another graph", TaskRole::default()).read().records_in, 0);
        job.retain(&[]);
        assert!(job.read().is_empty());
    }

    #[test]
    fn what_is_not_known_reads_as_none() {
        let metrics = TaskMetrics::new(TaskId { vertex: VertexId(0), index: 0 }, String::new(), TaskRole::default());
        let readings = metrics.read();
        assert_eq!((readings.watermark, readings.lag_records), (None, None));
        metrics.set_watermark(7);
        metrics.set_source(Some(0), 3);
        let readings = metrics.read();
        assert_eq!((readings.watermark, readings.lag_records, readings.skipped_records), (Some(7), Some(0), 3));
    }
}
