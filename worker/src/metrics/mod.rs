//! Counters of running tasks, cheap to write from the hot loop and readable from any thread.
//!
//! Owns: the atomics per task, a snapshot of them, telling it to the coordinator. Does not own: names and formats of an exporter (the cli maps
//! these to Flink-like names: `numRecordsIn`, `numRecordsOut`, `currentInputWatermark`, `busyTimeMsPerSecond`, ...).

mod shuffle;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use millstream_api::ids::{TaskId, TransformUid};
pub use millstream_api::readings::{Doing, SourceReadings, SplitReadings, TaskReadings, TaskRole};
use tokio::sync::watch;

use crate::element::{WATERMARK_MIN, WatermarkMs};
use crate::state::TableSize;
pub use shuffle::{ShuffleMetrics, ShuffleReadings};

/// How often a worker tells its coordinator what its tasks count.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

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
    /// The account since `accounted_us` is not in the totals yet.
    doing: AtomicU8,
    /// Since `made`.
    accounted_us: AtomicU64,
    made: Instant,
    alignment_us: AtomicU64,
    checkpoints: AtomicU64,
    transforms: RwLock<BTreeMap<TransformUid, Vec<(&'static str, u64)>>>,
    tables: RwLock<BTreeMap<TransformUid, Vec<TableSize>>>,
    source: RwLock<Option<SourceReadings>>,
}

/// No lag is known.
const LAG_UNKNOWN: u64 = u64::MAX;

/// `Doing` as a number.
const BUSY: u8 = 0;
const IDLE: u8 = 1;
const BACK_PRESSURED: u8 = 2;

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
            doing: AtomicU8::new(IDLE),
            accounted_us: AtomicU64::new(0),
            made: Instant::now(),
            alignment_us: AtomicU64::new(0),
            checkpoints: AtomicU64::new(0),
            transforms: RwLock::new(BTreeMap::new()),
            tables: RwLock::new(BTreeMap::new()),
            source: RwLock::new(None),
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

    /// From `since` on; the totals have the time before.
    pub(crate) fn set_doing(&self, doing: Doing, since: Instant) {
        let doing = match doing {
            Doing::Busy => BUSY,
            Doing::Idle => IDLE,
            Doing::BackPressured => BACK_PRESSURED,
        };
        self.doing.store(doing, Ordering::Relaxed);
        self.accounted_us.store(micros(since.saturating_duration_since(self.made)), Ordering::Relaxed);
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

    /// Takes a lock: at barriers, not per batch.
    pub(crate) fn set_tables(&self, uid: &TransformUid, tables: Vec<TableSize>) {
        self.tables.write().unwrap_or_else(PoisonError::into_inner).insert(uid.clone(), tables);
    }

    /// Takes a lock: once a second.
    pub(crate) fn set_splits(&self, readings: SourceReadings) {
        *self.source.write().unwrap_or_else(PoisonError::into_inner) = Some(readings);
    }

    /// The values now. They are read one after the other, not at one instant.
    #[must_use]
    pub fn read(&self) -> TaskReadings {
        let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
        let watermark = self.watermark.load(Ordering::Relaxed);
        let doing = match self.doing.load(Ordering::Relaxed) {
            BUSY => Doing::Busy,
            BACK_PRESSURED => Doing::BackPressured,
            _ => Doing::Idle,
        };
        let transforms = self.transforms.read().unwrap_or_else(PoisonError::into_inner);
        let owned = |counters: &Vec<(&'static str, u64)>| counters.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
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
            doing,
            doing_ms: micros(self.made.elapsed()).saturating_sub(get(&self.accounted_us)) / 1_000,
            alignment_ms: get(&self.alignment_us) / 1_000,
            checkpoints: get(&self.checkpoints),
            transforms: transforms.iter().map(|(uid, counters)| (uid.clone(), owned(counters))).collect(),
            tables: self.tables.read().unwrap_or_else(PoisonError::into_inner).clone(),
            source: self.source.read().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
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

    /// Tells them once a second, for as long as somebody listens. A listener that is slow gets the newest.
    pub(crate) async fn tell(self: Arc<Self>, listeners: watch::Sender<Arc<Vec<TaskReadings>>>) {
        let mut ticks = tokio::time::interval(TELL_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => { listeners.send_replace(Arc::new(self.read())); }
                () = listeners.closed() => return,
            }
        }
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
