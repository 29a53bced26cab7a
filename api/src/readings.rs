//! What a worker tells about its running tasks, once a second: counters and gauges, as plain data.
//!
//! Owns: the values and their units. Does not own: how they are counted (the worker), what is shown of them (the
//! coordinator, an exporter).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{TaskId, TransformUid};

/// Splits of one task that are told one by one: a directory of files may have any number of them.
pub const SPLITS_READ_MAX: usize = 256;

/// The counter of rows that came after their window was closed and were dropped, as Flink names it.
pub const LATE_RECORDS: &str = "numLateRecordsDropped";

/// Values of one task at one moment. Times are totals since the task's first deployment in this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReadings {
    pub task: TaskId,
    /// Names of the transforms of the chain, for people.
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
    /// Epoch ms of event time; `None` before the first watermark. `i64::MAX` at the end of input.
    pub watermark: Option<i64>,
    /// Records between the reader and the end of its splits, where the connector can tell.
    pub lag_records: Option<u64>,
    /// Records that could not be decoded and were skipped.
    pub skipped_records: u64,
    pub busy_ms: u64,
    pub idle_ms: u64,
    pub backpressured_ms: u64,
    /// What the task is at since the totals were last added to, and for how long. A task that waits adds nothing.
    pub doing: Doing,
    pub doing_ms: u64,
    /// How long the last alignment of barriers took.
    pub alignment_ms: u64,
    /// Epochs that this task acknowledged.
    pub checkpoints: u64,
    /// Counters that transforms keep themselves, e.g. late records, by transform.
    pub transforms: BTreeMap<TransformUid, Vec<(String, u64)>>,
    /// Tables of keyed state, by transform, as of the last checkpoint.
    pub tables: BTreeMap<TransformUid, Vec<TableSize>>,
    /// Of a source.
    pub source: Option<SourceReadings>,
}

/// What a table holds. Entries that have expired count until they are cleaned up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSize {
    pub table: String,
    pub rows: u64,
    pub bytes: u64,
}

/// Where a task stands in the job: its rows are the job's input, or its sinks' rows the job's output, or neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRole {
    pub has_source: bool,
    pub has_sink: bool,
}

/// What a task does with its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Doing {
    #[default]
    Busy,
    /// There is nothing to do.
    Idle,
    /// It waits for room downstream.
    BackPressured,
}

/// The splits of a source's task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReadings {
    pub uid: TransformUid,
    /// The first `SPLITS_READ_MAX`.
    pub splits: Vec<SplitReadings>,
    /// All there are.
    pub splits_total: usize,
}

/// One split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitReadings {
    /// As `SplitState::split`.
    pub split: String,
    pub progress: SplitProgress,
    /// Epoch ms of event time.
    pub watermark: Option<i64>,
    pub idle: bool,
    pub finished: bool,
}

/// How far a split was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitProgress {
    pub unit: SplitUnit,
    /// What is read next, from the split's beginning. Kafka: the offset.
    pub position: u64,
    /// Where it ends now. `None`: not known yet, or endless.
    pub end: Option<u64>,
}

/// What a split's position counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SplitUnit {
    Records,
    Bytes,
}

impl SplitProgress {
    /// From position to end.
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        self.end.map(|end| end.saturating_sub(self.position))
    }
}
