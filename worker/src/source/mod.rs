//! Sources: splits in, batches of scanned columns out.
//!
//! A reader owns the connection and the decoder. Projection, computed columns and watermarks per split are the
//! source task's (`source/task`), the same for every connector.

pub mod datagen;
pub mod filesystem;
pub mod kafka;
pub mod open;
pub(crate) mod task;

use std::sync::Arc;

use arrow_array::RecordBatch;
use millstream_api::ids::TransformUid;
use millstream_api::log::SplitState;
pub use millstream_api::readings::{SplitProgress, SplitUnit};
use thiserror::Error;

/// What a connector is given to open its reader: `<connector>::open(&<Connector>Source, &SourceTransform, SourceContext)
/// -> Result<Box<dyn SourceReader>, SourceError>`. Called on an I/O thread: it may block, within a bounded time.
#[derive(Clone)]
pub struct SourceContext {
    pub uid: TransformUid,
    /// For names that people see: client ids, messages.
    pub job: String,
    /// This task and how many there are: the connector's own rule says which splits are this task's.
    pub index: u32,
    pub parallelism: u32,
    /// Splits of the source of the whole job, at whatever parallelism they were written; `None`: a first start.
    pub restored: Option<Arc<Vec<SplitState>>>,
    /// What the reader fetches ahead may take so much memory; `None`: as the connector does by itself.
    pub fetch_bytes_max: Option<usize>,
    /// To be called when a reader that said `drained` has something again.
    pub waker: SlotWaker,
    /// The worker's I/O runtime.
    pub io: tokio::runtime::Handle,
}

/// Rows of one split that stand next to each other in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitRun {
    /// Index into [`SourceReader::splits`].
    pub split: usize,
    pub rows: usize,
}

/// What one poll brought.
#[derive(Debug, Default)]
pub struct Polled {
    /// Rows in the scan's schema, and whose they are: the runs cover the batch in order.
    pub batch: Option<(RecordBatch, Vec<SplitRun>)>,
    /// Splits (indexes) that reached their end with this poll.
    pub finished: Vec<usize>,
    /// Splits (indexes) that were added by discovery.
    pub added: Vec<usize>,
    /// Nothing more is there right now: the slot may park until the waker is called.
    pub drained: bool,
}

/// Wakes a parked slot; callable from any thread, cheap when the slot is awake.
pub type SlotWaker = Arc<dyn Fn() + Send + Sync>;

/// Reads the splits that one task owns.
///
/// `poll` never blocks. Positions advance only with the rows that `poll` returned.
pub trait SourceReader: Send {
    /// Up to about `max_rows` rows, decoded.
    fn poll(&mut self, max_rows: usize) -> Result<Polled, SourceError>;

    /// Names and positions of all splits of this task, as of the rows returned so far. The task fills in watermarks.
    fn splits(&self) -> Vec<SplitState>;

    /// True when every split is finished and none can be added.
    fn finished(&self) -> bool;

    /// After a poll that said `drained`: when to poll again even if nobody calls the waker (a generator's pace), epoch ms.
    fn next_poll_ms(&self) -> Option<i64> {
        None
    }

    /// How far a split (its index) was read, for people. Called once a second, for many splits.
    fn progress(&self, split: usize) -> SplitProgress;

    /// How far behind the end of the splits this reader is, in records, where the connector can tell (files: about).
    fn lag_records(&self) -> Option<u64> {
        None
    }

    /// Whether records of a split (its index) wait to be read; `None`: not known yet. A split turns idle only when none do.
    fn backlog(&self, _split: usize) -> Option<bool> {
        Some(false)
    }

    /// The manifest with these positions is sealed: e.g. commit group offsets for lag tools. Never blocks.
    fn sealed(&mut self, _splits: &[SplitState]) {}

    /// Records that could not be decoded and were skipped.
    fn skipped_records(&self) -> u64 {
        0
    }
}

/// A failed source.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The same record fails again the same way. Not retried. `at`: topic, partition and offset, or file and line.
    #[error("failed to decode the record at {at}: {reason}")]
    Decode { at: String, reason: String },
    /// A person must act: a missing topic.
    #[error("{reason}")]
    User { reason: String },
    /// The broker does not let the job's user in, or read.
    #[error("{reason}")]
    Refused { reason: String },
    /// The checkpoint's positions mean nothing in what is there now: a topic made again, offsets out of range.
    #[error("{reason}")]
    State { reason: String },
    /// It may work after a restart.
    #[error("{reason}")]
    Transient { reason: String },
}
